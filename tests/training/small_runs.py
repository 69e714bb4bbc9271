"""Small runs that the tests of training share."""

import json
import multiprocessing
import os
import resource
import signal
import socket
from contextlib import ExitStack, contextmanager

import torch

import unrolled
from tests.helpers import picture
from unrolled import TrainingOptions
from unrolled.data import RandomCrops
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing
from unrolled.training import Loop, ReconstructionTask, Task, TrainingError, distributed

IMAGES = [picture(60, 70, seed) for seed in range(4)]
HELD_OUT = [picture(40, 50, 9)]


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


# ---- several processes


def processes_context():
    """Processes that start in an instant: they are forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unrolled.cli.train", "torch._dynamo", "matplotlib.figure"])
    return context


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
            "agreed": distributed.agreed(torch.tensor(rank + 1.0), rank == 1, False),
            "figures": task.validate(task.model.eval()),
        }
    torch.save(found, folder / f"{rank}.pt")


def train(folder, resume=False, event=None, sparsifier=None):
    """A run in float64; says how it ended, and with which weights, in files of each process beside its folder."""
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
            one_step(loop, loss_of)

        loop._one_step = patched
        try:
            outcome = [loop.run(resume), loop.progress.step]
        except (KeyboardInterrupt, TrainingError) as stop:
            outcome = [f"{type(stop).__name__} {stop}", loop.progress.step]
    folder.with_name(f"{folder.name}-{rank}.json").write_text(json.dumps(outcome))
    torch.save([value.detach() for value in task.model.parameters()], folder.with_name(f"{folder.name}-{rank}.pt"))
