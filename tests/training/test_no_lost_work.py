"""Whatever happens to a run, what it has learned is kept, and resumed it ends as if nothing had happened."""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import time
import warnings
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import unrolled
from tests.helpers import write_picture
from tests.training.small_runs import (
    IMAGES,
    Line,
    at_step,
    file_size_limit,
    fit,
    options,
    pieces,
    processes_context,
    tensors,
)
from unrolled.cli import main
from unrolled.figures.training_curves import training_curve
from unrolled.networks import EPGN
from unrolled.system.files import remove_temporary
from unrolled.training import Loop, TrainingError
from unrolled.training.runs.checkpoint import Checkpoints, load_checkpoint, write_checkpoint
from unrolled.training.runs.lock import locked

KILLS = 20 if os.environ.get("UNROLLED_TEST_FULL") else 5
STATE = ("model", "average", "optimizer")


def metrics(folder: Path) -> list[dict]:
    """The lines of metrics without the one figure that is a time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_end(one: Path, other: Path) -> None:
    """The same weights, averages, optimiser states, best weights and metrics, bit for bit."""
    states = [load_checkpoint(folder / "last.pt") for folder in (one, other)]
    for part in STATE:
        pairs = list(zip(tensors(states[0][part]), tensors(states[1][part]), strict=True))
        assert pairs
        assert all(torch.equal(a, b) for a, b in pairs)
    best = [load_file(folder / "best.safetensors") for folder in (one, other)]
    assert best[0].keys() == best[1].keys()
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])
    assert metrics(one) == metrics(other)


class Crash(Exception):
    """The run ends with no chance to save."""


def crash():
    raise Crash


# ---- kills


@pytest.fixture(scope="module")
def processes():
    return processes_context()


@pytest.fixture
def command(tmp_path):
    """A short training as a command line, with many checkpoints; `train.py` calls the same."""
    for seed in range(4):
        write_picture(tmp_path / "images" / f"{seed}.png", 40, 44, seed)
    return [
        "train", "--network=EPGN", "--network.phases=1", "--network.features=2",
        "--operator=BlockCompressedSensing", "--operator.ratio=0.25", "--operator.block=11",
        f"--data.train=[{tmp_path / 'images'}]", "--data.hold_out=1", "--data.crop=22",
        "--training.steps=160", "--training.validations=40", "--training.batch=1", "--training.average=0.9",
        "--training.checkpoint_minutes=0.0003", "--threads=1", "--device=cpu",
    ]  # fmt: skip


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def last_step(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError, IndexError, json.JSONDecodeError):
        return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    return 0


def test_killed_again_and_again_a_run_ends_with_the_same_bits(processes, command, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    process = processes.Process(target=main, args=([*command, f"--folder={straight}"],))
    process.start()
    chance = random.Random(0)
    for kill in range(KILLS):
        process_to_kill = processes.Process(target=main, args=([*command, f"--folder={killed}", "--resume"],))
        process_to_kill.start()
        reached = 150 * kill // KILLS
        wait_for(lambda reached=reached: last_step(killed) >= reached, process_to_kill)
        if kill % 2:  # in the middle of writing a checkpoint
            wait_for(lambda: list(killed.glob(".partial-last-*")), process_to_kill)
        else:
            time.sleep(chance.uniform(0, 0.03))
        os.kill(process_to_kill.pid, signal.SIGKILL)
        process_to_kill.join()
        assert process_to_kill.exitcode == -signal.SIGKILL
    process.join()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kill may have hit between the two renames
        assert Checkpoints(killed).load()["step"] < 160
    process = processes.Process(target=main, args=([*command, f"--folder={killed}", "--resume"],))
    process.start()
    process.join()
    assert_same_end(straight, killed)
    assert {path.name for path in killed.iterdir()} == {path.name for path in straight.iterdir()}
    assert not list(killed.glob(".*"))


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_gone(processes, command, tmp_path, capsys):
    folder = tmp_path / "run"
    argv = [*command, f"--folder={folder}", "--training.steps=100000"]
    process = processes.Process(target=main, args=(argv,))
    process.start()
    wait_for(lambda: (folder / "last.pt").exists(), process)
    before = (folder / "config.yaml").read_bytes()
    assert main([*argv, "--resume"]) == 1
    assert f"in use by another run (process {process.pid} on " in capsys.readouterr().err
    assert (folder / "config.yaml").read_bytes() == before
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (folder / "run.lock").exists()
    with locked(folder):
        pass
    assert not (folder / "run.lock").exists()


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch):
    def refuse(file):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("unrolled.training.runs.lock._lock", refuse)
    with pytest.warns(UserWarning, match="without locks"), locked(tmp_path):
        assert (tmp_path / "run.lock").read_text().startswith(f"process {os.getpid()} on ")


# ---- stops


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signals_leave_a_checkpoint_and_the_command_to_go_on(number, status, command, tmp_path, capsys, monkeypatch):
    at_step(monkeypatch, 30, lambda: signal.raise_signal(number))
    folder = tmp_path / "run"
    assert (
        main([*command, f"--folder={folder}", "--training.checkpoint_minutes=5", "--training.validations=1"]) == status
    )
    assert f"--config {folder / 'config.yaml'} --resume" in capsys.readouterr().err
    assert load_checkpoint(folder / "last.pt")["step"] == 31  # the step was finished first


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    fit(tmp_path / "straight")
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "stopped")
    fit(tmp_path / "stopped", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "stopped")


def test_a_second_ctrl_c_takes_effect_at_once(tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(monkeypatch, 6, twice)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 4


def test_random_numbers_of_a_step_are_the_same_after_a_resume(tmp_path, monkeypatch):
    class Noisy(Line):
        def loss(self, model, batch, step):
            return super().loss(model, torch.nn.functional.dropout(batch + torch.randn(batch.shape)), step)

    def run(name, resume=False):
        torch.manual_seed(0)
        task = Noisy()
        Loop(task, options(), tmp_path / name, progress=False, seed=3).run(resume)
        return task.model.weight

    straight = run("straight")
    with monkeypatch.context() as patch:
        at_step(patch, 7, crash)
        with pytest.raises(Crash):
            run("crashed")
    before = torch.get_rng_state()
    assert torch.equal(run("crashed", resume=True), straight)
    torch.manual_seed(0)
    Noisy()
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    run("again")
    assert torch.equal(torch.get_rng_state(), after)  # the caller's random numbers go on as if there had been no run


def test_a_resume_before_the_first_checkpoint_starts_and_says_so(tmp_path):
    fit(tmp_path / "straight")
    with pytest.warns(UserWarning, match="holds no checkpoint yet; starting at the beginning"):
        fit(tmp_path / "resumed", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "resumed")


# ---- checkpoints


def test_checkpoints_by_time_change_nothing(tmp_path, monkeypatch):
    fit(tmp_path / "rare")
    saved, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, state: (saved.append(state["step"]), save(self, state)))
    fit(tmp_path / "often", training=options(checkpoint_minutes=1e-9))
    assert saved == list(range(13))
    assert_same_end(tmp_path / "rare", tmp_path / "often")


def test_the_steps_of_a_run_by_time_are_fixed_once(tmp_path, monkeypatch):
    def run(resume):
        Loop(Line(), options(steps=None, minutes=0.01, validations=1), tmp_path, progress=False).run(resume)

    with monkeypatch.context() as patch:
        at_step(patch, 20, crash)
        with pytest.raises(Crash):
            run(resume=False)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 20
    run(resume=True)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == state["steps"] > 20


@pytest.mark.parametrize("harm", ["a flipped bit", "cut short", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(harm, tmp_path, monkeypatch):
    fit(tmp_path / "straight")
    with monkeypatch.context() as patch:
        at_step(patch, 10, crash)
        with pytest.raises(Crash):
            fit(tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    content = bytearray(last.read_bytes())
    weight = next(t for t in tensors(load_checkpoint(last)["average"]) if t.numel() > 20)
    content[content.index(weight.numpy().tobytes()) + 8] ^= 1
    last.write_bytes(content if harm == "a flipped bit" else content[: len(content) // 2])
    if harm == "missing":
        last.unlink()
    message = "no checkpoint" if harm == "missing" else "damaged"
    with pytest.warns(UserWarning, match=f"last.pt.*{message}.*|{message}.*last.pt.*going on from previous.pt, step 4"):
        fit(tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")


def test_when_both_are_damaged_the_run_is_refused(tmp_path):
    fit(tmp_path / "run")
    for name in ("last.pt", "previous.pt"):
        path = tmp_path / "run" / name
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"last.pt is damaged.*previous.pt is damaged"):
        fit(tmp_path / "run", resume=True)


def test_at_every_moment_of_saving_there_is_a_whole_checkpoint(tmp_path, monkeypatch):
    checkpoints, found = Checkpoints(tmp_path), []
    checkpoints.save({"step": 0})
    checkpoints.save({"step": 1})
    replace = Path.replace

    def watched(self, target):
        replace(self, target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(Checkpoints(tmp_path).load()["step"])

    monkeypatch.setattr(Path, "replace", watched)
    checkpoints.save({"step": 2})
    assert found == [1, 2]
    # After a fall-back the damaged last one must not take the place of the whole one before.
    (tmp_path / "last.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="going on from previous.pt"):
        assert checkpoints.load()["step"] == 1
    checkpoints.save({"step": 3})
    assert found == [1, 2, 3]
    assert load_checkpoint(tmp_path / "previous.pt")["step"] == 1


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    write_checkpoint(tmp_path / "last.pt", {"step": 1, "code": Evil()})
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        fit(tmp_path, resume=True)


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    write_checkpoint(tmp_path / "last.pt", {"step": 1, "format": 99})
    with pytest.raises(ValueError, match="format 99, this version reads 2"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": EPGN(2, 4)}, "network must be"),
        ({"operator": unrolled.operators.BlockCompressedSensing(ratio=0.1, block=11)}, "operator must be"),
        ({"seed": 7}, "seed must be that of the run in .*, 0, got 7"),
        ({"training": options(batch=3)}, "batch must be that of the run in .*, 2, got 3"),
    ],
)
def test_a_run_goes_on_only_with_what_it_was_started_with(changes, named, tmp_path):
    fit(tmp_path / "run")
    with pytest.raises(ValueError, match=f"resume: {named}"):
        fit(tmp_path / "run", resume=True, **changes)


def test_what_else_changed_is_said(tmp_path):
    fit(tmp_path / "run")
    with pytest.warns(UserWarning, match="resume: learning_rate was 0.001 and is 0.5"):
        fit(tmp_path / "run", training=options(learning_rate=0.5), resume=True)
    with pytest.warns(UserWarning, match="resume: the run keeps its 12 steps"):
        fit(tmp_path / "run", training=options(steps=99), resume=True)
    with pytest.warns(UserWarning, match=r"resume: the data were .* samples"):
        fit(tmp_path / "run", dataset=IMAGES[:2], resume=True)


def test_half_a_line_of_metrics_is_repaired(tmp_path, monkeypatch):
    fit(tmp_path / "straight")
    with monkeypatch.context() as patch:
        at_step(patch, 10, crash)
        with pytest.raises(Crash):
            fit(tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 12, "lo')
    (tmp_path / "run" / ".partial-last-abc.pt").write_bytes(b"left by a kill")
    fit(tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")
    assert not list((tmp_path / "run").glob(".partial-*"))


DAMAGED = b'\xff\xfe\x00\n{"step": "4"}\n[1]\n{"step": 4, "lo\n\n'


def test_damaged_lines_of_metrics_are_named_and_left_out(tmp_path):
    fit(tmp_path / "straight")
    fit(tmp_path / "run")
    lines = tmp_path / "run" / "metrics.jsonl"
    lines.write_bytes(DAMAGED + lines.read_bytes())
    with pytest.warns(UserWarning, match=r"resume: .*metrics\.jsonl: damaged lines are left out: \[1, 2, 3, 4, 5\]"):
        fit(tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")


def test_the_curve_is_drawn_of_the_lines_that_are_whole(tmp_path):
    fit(tmp_path / "run")
    whole = (tmp_path / "run" / "curve.png").read_bytes()
    lines = tmp_path / "run" / "metrics.jsonl"
    lines.write_bytes(DAMAGED + lines.read_bytes())
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: damaged lines are left out: \[1, 2, 3, 4, 5\]"):
        training_curve(tmp_path / "run")
    assert (tmp_path / "run" / "curve.png").read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "value"),
    [("facts", None), ("options", [1]), ("model", 3), ("optimizer", {}), ("average", {"a": 1}), ("step", "4")],
)
def test_a_whole_checkpoint_with_wrong_contents_is_refused(tmp_path, name, value):
    fit(tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    write_checkpoint(last, {**load_checkpoint(last), name: value})
    with pytest.raises(ValueError, match=f"resume: .*run (is damaged: {name} is|belongs to another model or task)"):
        fit(tmp_path / "run", resume=True)


# ---- batches of NaN


def poisoned(image, truth):
    """A loss that is NaN on some batches, by what they show."""
    error = (image - truth).square().mean()
    return error * float("nan") if truth[0].mean() > truth[1].mean() else error


def test_a_batch_of_nan_changes_nothing_but_the_count(tmp_path, monkeypatch):
    unchanged, one_step = [], Loop._one_step

    def watched(self, loss_of):
        def all_tensors():
            return tensors([self.task.model.state_dict(), self.average.state_dict(), self.optimizer.state_dict()])

        before, skipped, step = [tensor.clone() for tensor in all_tensors()], self.progress.skipped, self.progress.step
        one_step(self, loss_of)
        assert self.progress.step == step + 1
        same = len(before) == len(all_tensors()) and all(map(torch.equal, before, all_tensors()))
        assert same == (self.progress.skipped == skipped + 1)
        unchanged.append(same)

    monkeypatch.setattr(Loop, "_one_step", watched)
    fit(tmp_path / "run", loss=poisoned)
    assert 2 <= sum(unchanged) <= 10
    assert metrics(tmp_path / "run")[-1]["skipped"] == sum(unchanged)


def test_skipped_batches_are_counted_alike_after_a_resume(tmp_path, monkeypatch):
    fit(tmp_path / "straight", loss=poisoned)
    with monkeypatch.context() as patch:
        at_step(patch, 7, crash)
        with pytest.raises(Crash):
            fit(tmp_path / "run", loss=poisoned, training=options(checkpoint_minutes=1e-9))
    with pytest.warns(UserWarning, match="checkpoint_minutes"):
        fit(tmp_path / "run", loss=poisoned, resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")


def test_many_in_a_row_stop_the_run_and_the_last_good_weights_stay(tmp_path):
    calls = []

    def loss(image, truth):
        calls.append(1)
        return (image - truth).square().mean() * (float("nan") if len(calls) > 6 else 1)

    with pytest.raises(
        TrainingError, match=r"loss became nan at step 8, and 3 batches .* keeps the checkpoint of step 6"
    ):
        fit(tmp_path / "run", loss=loss, training=options(validations=1, nan_limit=3, checkpoint_minutes=1e-9))
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert (state["step"], state["skipped"]) == (6, 0)
    assert all(torch.isfinite(tensor).all() for tensor in tensors(state["model"]))


def test_a_gradient_of_nan_is_skipped_too(tmp_path):
    calls = []

    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            calls.append(1)
            return gradient * (float("nan") if len(calls) == 4 else 1)  # in the step before a validation

    def loss(image, truth):
        return (Poisoned.apply(image) - truth).square().mean()

    fit(tmp_path / "run", loss=loss)
    assert [line["skipped"] for line in metrics(tmp_path / "run")] == [1, 1, 1]
    unrolled.load(tmp_path / "run" / "best.safetensors")
    calls.clear()
    with pytest.raises(TrainingError, match="norm of the gradient became nan at step 3"):
        fit(tmp_path / "strict", loss=loss, training=options(nan_limit=1))


def test_a_skipped_batch_leaves_no_trace_in_running_statistics(tmp_path):
    class Normalised(Line):
        def __init__(self):
            self.model = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1))

        def batch(self, step, size, part=None):
            return super().batch(step, size) * (float("nan") if step == 5 else 1)

        def validate(self, model):
            return {"fit": 0.0}

    task = Normalised()
    Loop(task, options(), tmp_path, progress=False).run()
    assert task.model[0].num_batches_tracked == 11
    assert all(torch.isfinite(value).all() for value in task.model.state_dict().values())


# ---- disks


@pytest.mark.parametrize("room", ["for nothing", "for weights but no checkpoint"])
def test_on_a_full_disk_the_last_checkpoint_stays(room, tmp_path, monkeypatch):
    fit(tmp_path / "straight")
    sizes = [(tmp_path / "straight" / name).stat().st_size for name in ("best.safetensors", "last.pt")]
    assert sizes[0] < sizes[1]
    limit = 1000 if room == "for nothing" else sum(sizes) // 2
    with contextlib.ExitStack() as full, monkeypatch.context() as patch:
        at_step(patch, 5, lambda: full.enter_context(file_size_limit(limit)))
        message = r"stopped at step 8, for results could not be written: .*[Ff]ile too large.* the checkpoint of step 4"
        with pytest.raises(TrainingError, match=message):
            fit(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 4
    fit(tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")


def test_a_disk_that_is_full_from_the_start_is_noticed_before_training(tmp_path, monkeypatch):
    at_step(monkeypatch, 0, crash)
    with file_size_limit(1000), pytest.raises(ValueError, match="File too large"):
        fit(tmp_path / "limited")
    usage = namedtuple("Usage", "total used free")(10**9, 10**9, 50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"has 0\.1 MB free, and the checkpoints need 0\.\d MB"):
        fit(tmp_path / "full")


def test_the_room_that_is_asked_for_is_what_the_checkpoints_take(tmp_path, monkeypatch):
    asked = []

    class Usage:
        @property
        def free(self):
            return 0

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage())
    with pytest.raises(ValueError, match="checkpoints need") as error:
        fit(tmp_path / "run", network=EPGN(3, 16))
    asked = 1e6 * float(str(error.value).split("need ")[1].split(" MB")[0])
    monkeypatch.undo()
    fit(tmp_path / "run", network=EPGN(3, 16), training=options(steps=2))
    assert asked == pytest.approx(3 * (tmp_path / "run" / "last.pt").stat().st_size, rel=0.1)


@pytest.mark.parametrize("folder", ["/proc/run", "/dev/null/run"])
def test_folders_that_cannot_be_written_are_refused_before_training(folder, monkeypatch):
    at_step(monkeypatch, 0, crash)
    with pytest.raises(ValueError, match=f"cannot write {folder}"):
        fit(folder)


def test_only_temporary_files_are_removed(tmp_path):
    for name in (".partial-last-x.pt", ".hidden", "last.pt"):
        (tmp_path / name).write_bytes(b"")
    remove_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "last.pt"}


def test_pieces_are_the_same_every_time():
    """What all comparisons here rest on."""
    assert all(map(torch.equal, pieces()[0].state_dict().values(), pieces()[0].state_dict().values()))
