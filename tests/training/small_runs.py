"""Small runs that the tests of training share."""

import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import unrolled
from tests.helpers import picture, write_picture
from unrolled import TrainingOptions
from unrolled.cli import main
from unrolled.data import RandomCrops
from unrolled.figures import training_curves
from unrolled.networks import EPGN, ISTANetPlus, Phase, UnrolledNetwork, gradient, per_channel
from unrolled.operators import BlockCompressedSensing
from unrolled.training import Loop, ReconstructionTask, Task, TrainingError, distributed
from unrolled.training.runs.checkpoint import load_checkpoint

IMAGES = [picture(60, 70, seed) for seed in range(4)]
HELD_OUT = [picture(40, 50, 9)]


class Descent(Phase):
    """A step of gradient descent and a small network, of which graphs are made in an instant."""

    def __init__(self, parts):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(parts, parts, 3, padding=1), nn.Tanh())

    def forward(self, state, y, operator, condition=None):
        x = state[0] - gradient(state[0], y, operator)
        return (x + per_channel(self.layers, x),)


class GradientDescent(UnrolledNetwork):
    """One such step."""

    def __init__(self, complex_images: bool = False):
        super().__init__([Descent(2 if complex_images else 1)], complex_images=complex_images)


def options(**changes):
    return TrainingOptions(**{"steps": 12, "batch": 2, "warmup": 2, "validations": 3, "average": 0.5, **changes})


def pieces(seed=0):
    torch.manual_seed(seed)
    return EPGN(1, 4), BlockCompressedSensing(ratio=0.25, block=11)


def fit(folder, dataset=IMAGES, network=None, operator=None, training=None, **more):
    made = pieces()
    network, operator = network or made[0], operator or made[1]
    more = {"validation": HELD_OUT, "crop": 22, "progress": False, "folder": folder, **more}
    return network, operator, unrolled.fit(network, operator, dataset, training or options(), **more)


class Line(Task):
    """Another task: fit a line. The loop must not know of images."""

    epoch, score = 8, "fit"

    def __init__(self):
        self.model = torch.nn.Linear(1, 1)

    def batch(self, step, size, part=None):
        return torch.randn(size, 1, generator=torch.Generator().manual_seed(step))

    def loss(self, model, batch, step):
        return (model(batch) - (3 * batch + 1)).square().mean()

    def validate(self, model):
        return {"fit": -(model.weight - 3).abs().max().item()}

    def save(self, model, path, card):
        torch.save(model.state_dict(), path)


def tensors(tree) -> list[torch.Tensor]:
    """The tensors in nested dictionaries and lists."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [tensor for child in children for tensor in tensors(child)]


def at_step(monkeypatch, step, action):
    """Do something when the loop begins a step."""
    one_step = Loop._one_step

    def patched(self, loss_of):
        if self.progress.step == step:
            action()
        one_step(self, loss_of)

    monkeypatch.setattr(Loop, "_one_step", patched)


@contextmanager
def file_size_limit(size):
    """Files cannot grow beyond a size, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def poisoned(image, truth):
    """A loss that is NaN on some batches, by what they show."""
    error = (image - truth).square().mean()
    return error * float("nan") if truth[0].mean() > truth[1].mean() else error


# ---- runs that end early, and how runs are compared


class Crash(Exception):
    """The run ends with no chance to save."""


def crash():
    raise Crash


def metrics(folder: Path) -> list[dict]:
    """The lines of metrics without the one figure that is a time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_end(one: Path, other: Path) -> None:
    """The same weights, averages, states of optimiser and sparsifier, files of weights and metrics, bit for bit."""
    states = [load_checkpoint(folder / "last.pt") for folder in (one, other)]
    for part in ("model", "average", "optimizer"):
        pairs = list(zip(tensors(states[0][part]), tensors(states[1][part]), strict=True))
        assert pairs
        assert all(torch.equal(a, b) for a, b in pairs)
    sparsifiers = zip(*(tensors(state["sparsifier"]) for state in states), strict=True)
    assert all(torch.equal(a, b) for a, b in sparsifiers)
    files = [sorted(path.name for path in folder.glob("*.safetensors")) for folder in (one, other)]
    assert files[0] == files[1] != []
    for name in files[0]:
        best = [load_file(folder / name) for folder in (one, other)]
        assert best[0].keys() == best[1].keys()
        assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])
    assert metrics(one) == metrics(other)


def crash_and_resume(run, monkeypatch) -> None:
    """Let `run()` crash on its way, and `run(resume=True)` go on."""
    with monkeypatch.context() as patch:
        at_step(patch, 7, crash)
        with pytest.raises(Crash):
            run()
    run(resume=True)


def assert_a_crash_does_no_harm(folder: Path, monkeypatch) -> None:
    """A run with bad batches, `straight`, and one that crashes between checkpoints and goes on, `run`, end alike."""
    fit(folder / "straight", loss=poisoned)
    with monkeypatch.context() as patch:
        at_step(patch, 7, crash)
        with pytest.raises(Crash):
            fit(folder / "run", loss=poisoned, training=options(checkpoint_minutes=1e-9))
    with pytest.warns(UserWarning, match="checkpoint_minutes"):
        fit(folder / "run", loss=poisoned, resume=True)
    assert_same_end(folder / "straight", folder / "run")


def short_command(folder):
    """A short training as a command line, with many checkpoints; `train.py` calls the same."""
    for seed in range(4):
        write_picture(folder / "images" / f"{seed}.png", 40, 44, seed)
    return [
        "train", "--network=EPGN", "--network.phases=1", "--network.features=2",
        "--operator=BlockCompressedSensing", "--operator.ratio=0.25", "--operator.block=11",
        f"--data.train=[{folder / 'images'}]", "--data.hold_out=1", "--data.crop=22",
        "--training.steps=160", "--training.validations=40", "--training.batch=1", "--training.average=0.9",
        "--training.checkpoint_minutes=0.0003", "--threads=1", "--device=cpu",
    ]  # fmt: skip


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.0005)


# ---- several processes


def processes_context():
    """Processes that start in an instant: they are forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unrolled.cli.train", "torch._dynamo", __name__])
    return context


def command(argv, folder=None):
    """A command as the whole of a process, in a folder whose files `out` and `err` get what it says.

    The curve of a run is not drawn, which takes longer than the run.
    """
    if folder is not None:
        os.chdir(folder)
        for stream, name in ((1, "out"), (2, "err")):
            with Path(name).open("a") as file:
                os.dup2(file.fileno(), stream)
    training_curves.training_curve = lambda folder, score: (folder / "curve.png").touch()
    sys.exit(main(argv))


def start_together(function, *arguments, size=2):
    """Start processes with the environment that torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = processes_context()
    started = [context.Process(target=_as_rank, args=(rank, size, port, function, arguments)) for rank in range(size)]
    for process in started:
        process.start()
    return started


def run_together(function, *arguments, size=2):
    """Run a function in several processes, to the end."""
    started = start_together(function, *arguments, size=size)
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * size


def _as_rank(rank, size, port, function, arguments):
    torch.set_num_threads(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in place.items()})
    function(*arguments)


class DoubleTask(ReconstructionTask):
    """In float64, where sums in another order are the same to 1e-12; and some batches are spoiled, on request."""

    def __init__(self, name="EPGN", spoiled=False):
        torch.manual_seed(0 if distributed.rank() == 0 else 99)  # the first process's weights are to be everybody's
        network = {"EPGN": EPGN, "ISTANetPlus": ISTANetPlus}[name](2, 4).double()
        with torch.no_grad():  # a new network starts with maps of zero, and so with hardly any gradient
            for parameter in network.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, dtype=parameter.dtype)
        operator = BlockCompressedSensing(ratio=0.25, block=11).double()
        validation = [picture(22 + 11 * index, 33, index).double() for index in range(3)]
        super().__init__(network, operator, RandomCrops(IMAGES, 22, 5), validation)
        self.spoiled = spoiled

    def batch(self, step, size, part=None):
        return super().batch(step, size, part).double()

    def loss(self, model, batch, step):
        dark = batch.mean((1, 2, 3)) < 0.4287
        return super().loss(model, batch, step) * (float("nan") if self.spoiled and dark.any() else 1)


def gradients(folder, name):
    """One backward pass: what this process drew, its gradients, and what the small helpers say."""
    with distributed.joined(torch.device("cpu")):
        task, rank = DoubleTask(name), distributed.rank()
        batch = task.batch(3, 4, distributed.part(4))
        with distributed.shared_loss(task, broadcast_buffers=False) as loss:
            loss(batch, 3).backward()
        found = {
            "batch": batch,
            "gradients": [parameter.grad for parameter in task.model.parameters()],
            "shards": distributed.in_shards(lambda x: (x * x, rank), range(5)),
            "agreed": distributed.agreed(torch.tensor(rank + 1.0), torch.tensor(2.0), rank == 1, False).tolist(),
            "figures": task.validate(task.model.eval()),
        }
    torch.save(found, folder / f"{rank}.pt")


def train(folder, resume=False, event=None, sparsifier=None):
    """A run in float64; says how it ended, and with which weights, in files of each process beside its folder."""
    if event == "SIGSTOP":
        distributed.TIMEOUT = timedelta(seconds=3)
    with distributed.joined(torch.device("cpu")), ExitStack() as limits:
        rank, one_step = distributed.rank(), Loop._one_step
        task = DoubleTask(spoiled=True)
        few = options(batch=4, steps=24, validations=4)
        loop = Loop(task, few, folder, progress=False, sparsifier=sparsifier)

        def patched(loss_of):
            if loop.progress.step == 9 and event == "SIGTERM to the second" and rank == 1:
                signal.raise_signal(signal.SIGTERM)
            if loop.progress.step == 9 and event == "full disk" and rank == 0:
                limits.enter_context(file_size_limit(1000))
            if loop.progress.step == 9 and event in ("SIGKILL", "SIGSTOP") and rank == 1:
                os.kill(os.getpid(), signal.Signals[event])
            one_step(loop, loss_of)

        loop._one_step = patched
        try:
            outcome = [loop.run(resume), loop.progress.step]
        except (KeyboardInterrupt, TrainingError) as stop:
            outcome = [f"{type(stop).__name__} {stop}", loop.progress.step]
    folder.with_name(f"{folder.name}-{rank}.json").write_text(json.dumps(outcome))
    torch.save([value.detach() for value in task.model.parameters()], folder.with_name(f"{folder.name}-{rank}.pt"))


def on_gpus(folder):
    """A run of which every process has a GPU of its own."""
    fit(folder, training=options(batch=4), device="auto")
