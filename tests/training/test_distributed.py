"""Several processes train as one does. Real processes, over gloo on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.helpers import write_picture
from tests.training.small_runs import DoubleTask, command, gradients, run_together, start_together, tensors, train
from unrolled.cli import main
from unrolled.training import distributed
from unrolled.training.runs.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]


def outcomes(folder: Path) -> list:
    return [json.loads(folder.with_name(f"{folder.name}-{rank}.json").read_text()) for rank in range(2)]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(one: Path, other: Path, tolerance: float) -> None:
    """The same checkpoint and metrics, but for rounding."""
    states = [load_checkpoint(folder / "last.pt") for folder in (one, other)]
    for part in ("model", "average", "optimizer"):
        pairs = list(zip(tensors(states[0][part]), tensors(states[1][part]), strict=True))
        assert pairs
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    assert len(lines(one)) == len(lines(other)) == 4
    for a, b in zip(lines(one), lines(other), strict=True):
        assert {**a, "seconds": 0} == pytest.approx({**b, "seconds": 0}, rel=tolerance)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process, in this process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(folder)
    assert 2 <= lines(folder)[-1]["skipped"] <= 12
    return folder


@pytest.mark.parametrize("name", ["EPGN", "ISTANetPlus"])
def test_gradients_are_those_of_one_process(name, tmp_path):
    run_together(gradients, tmp_path, name)
    task = DoubleTask(name)
    whole = task.batch(3, 4)
    task.loss(task.model, whole, 3).backward()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    # Together the parts are the batch: equal in length, without overlap.
    assert torch.equal(torch.cat([one["batch"] for one in found]), whole)
    assert [len(one["batch"]) for one in found] == [2, 2]
    gradient = torch.cat([parameter.grad.flatten() for parameter in task.model.parameters()])
    for one in found:
        assert (torch.cat([part.flatten() for part in one["gradients"]]) - gradient).norm() < 1e-12 * gradient.norm()
        assert one["shards"] == [(0, 0), (1, 1), (4, 0), (9, 1), (16, 0)]
        assert one["agreed"] == [1.5, 2.0, 1.0, 0.0]
        assert one["figures"] == pytest.approx(task.validate(task.model.eval()), rel=1e-12)


def test_a_run_of_two_processes_is_that_of_one(alone, tmp_path):
    run_together(train, tmp_path / "run")
    assert_same(alone, tmp_path / "run", 1e-9)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in alone.iterdir()}
    first, second = outcomes(tmp_path / "run")
    assert first == second


def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    run_together(train, tmp_path / "two", False, "SIGTERM to the second")
    stopped = outcomes(tmp_path / "two")
    assert stopped == [["KeyboardInterrupt 15", 10], ["KeyboardInterrupt 15", 10]]
    assert load_checkpoint(tmp_path / "two" / "last.pt")["step"] == 10
    train(tmp_path / "two", True)
    assert_same(alone, tmp_path / "two", 1e-9)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "last.pt").write_bytes((alone / "previous.pt").read_bytes())
    (tmp_path / "one" / "metrics.jsonl").write_bytes((alone / "metrics.jsonl").read_bytes())
    run_together(train, tmp_path / "one", True)
    assert_same(alone, tmp_path / "one", 1e-9)


def test_an_error_of_the_first_process_stops_all(tmp_path):
    run_together(train, tmp_path / "run", False, "full disk")
    first, second = outcomes(tmp_path / "run")
    assert first == second
    assert first[0].startswith("TrainingError training: stopped at step 12, for results could not be written")
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 6


@pytest.mark.full
@pytest.mark.parametrize("event", ["SIGKILL", "SIGSTOP"])
def test_a_process_that_is_killed_or_hangs_stops_the_others_and_loses_nothing(event, alone, tmp_path):
    first, second = start_together(train, tmp_path / "run", False, event)
    first.join(60)
    second.kill()
    second.join()
    assert first.exitcode == 1
    assert set(os.listdir(tmp_path / "run")) == {"last.pt", "previous.pt", "best.safetensors", "metrics.jsonl"}
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 6
    train(tmp_path / "run", True)
    assert_same(alone, tmp_path / "run", 1e-9)


@pytest.mark.parametrize("when", ["when they meet", "later"])
def test_processes_that_do_not_answer_are_a_line(when, monkeypatch):
    def lose(*args, **options):
        raise RuntimeError("[/third_party/gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:7")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lose if when == "when they meet" else lambda *a, **o: 0
    )
    with (
        pytest.raises(
            ValueError, match=r"another process ended, or has not answered for .*: Connection closed by peer"
        ),
        distributed.joined(torch.device("cpu")),
    ):
        lose()
    if when == "later":
        with pytest.raises(RuntimeError, match="out of memory"), distributed.joined(torch.device("cpu")):
            raise RuntimeError("CUDA out of memory")


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 2)
    assert distributed.part(12) == range(8, 12)
    with pytest.raises(ValueError, match="batch must be a multiple of the 3 processes, got 8"):
        distributed.part(8)


@contextmanager
def forked(argv, folder):
    """Two processes of a command as torchrun starts them, which takes seconds to do so itself; stopped at the end."""
    started = start_together(command, argv, folder)
    yield lambda: all(process.is_alive() for process in started)
    for process in started:
        process.terminate()
    for process in started:
        process.join(120)


@contextmanager
def by_torchrun(argv, folder):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", ROOT / "train.py"]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        launcher = subprocess.Popen(
            [*torchrun, *argv[1:]], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=out, stderr=err
        )
        yield lambda: launcher.poll() is None
        launcher.terminate()
        launcher.wait(120)


@pytest.mark.parametrize("launched", [forked, pytest.param(by_torchrun, marks=pytest.mark.full)])
def test_two_processes_stop_with_a_checkpoint_and_one_goes_on(launched, tmp_path):
    for seed in range(4):
        write_picture(tmp_path / "images" / f"{seed}.png", 66, 70, seed)
    argv = [
        "train", f"--config={ROOT / 'configs/cs/epgn_25.yaml'}", "--network.phases=1", "--network.features=2",
        "--threads=1", "--training.minutes=null", "--training.steps=60", "--training.validations=2",
        "--training.batch=2", "--training.bfloat16=false", f"--data.train=[{tmp_path / 'images'}]", "--data.hold_out=2",
    ]  # fmt: skip
    two, one = tmp_path / "two", tmp_path / "one"
    with launched([*argv, f"--folder={two}"], tmp_path) as running:
        deadline = time.monotonic() + 240
        while not (two / "last.pt").exists() and running() and time.monotonic() < deadline:
            time.sleep(0.005)
    out, err = ((tmp_path / name).read_text() for name in ("out", "err"))
    assert out.count("training EPGN") == 1, err
    assert err.count(f"go on with: torchrun --nproc-per-node 2 train.py --config {two / 'config.yaml'} --resume") == 1
    assert 0 < load_checkpoint(two / "last.pt")["step"] < 60
    assert json.loads((two / "environment.json").read_text())["processes"] == "2"
    assert not list(two.glob(".*"))
    assert main(["train", "--config", str(two / "config.yaml"), "--resume"]) == 0
    assert main([*argv, f"--folder={one}"]) == 0
    # In float32 sums in another order differ by 1e-7, which the steps of Adam, all within the warm-up, hardly enlarge.
    for a, b in zip(lines(one), lines(two), strict=True):
        assert b["psnr"] == pytest.approx(a["psnr"], abs=1e-3)
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3)


def test_the_slurm_example_saves_and_goes_back_into_the_queue(tmp_path):
    """The script among commands that stand in for Slurm's: a step that runs until it gets SIGTERM."""
    stubs = {
        "srun": 'echo "$@" >"$LOG/srun"; trap "touch $LOG/saved; exit 143" TERM; echo $$ >"$LOG/new"; '
        'mv "$LOG/new" "$LOG/pid"; while :; do sleep 0.05; done',
        "scancel": '[ "$*" = "--signal=TERM 7.0" ] && kill -TERM "$(cat "$LOG/pid")"',
        "scontrol": 'if [ "$1" = show ]; then printf "node1\\nnode2\\n"; '
        'else [ -e "$LOG/saved" ] && echo "$@" >"$LOG/queue"; fi',
    }
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"JOB_ID": "7", "JOB_NODELIST": "node[1-2]", "JOB_NUM_NODES": "2", "GPUS_ON_NODE": "8"}
    told = {f"SLURM_{name}": value for name, value in slurm.items()}
    job = subprocess.Popen(
        ["bash", ROOT / "docs" / "slurm.sh", "c.yaml", "runs/x"],
        env={**os.environ, **told, "LOG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    job.wait(60)
    assert (tmp_path / "queue").read_text() == "requeue 7\n"
    words = (tmp_path / "srun").read_text()
    assert "--nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint node1:29500" in words
    assert words.endswith("train.py --config c.yaml --folder runs/x --resume\n")


def test_every_process_that_torchrun_started_takes_its_own_gpu(monkeypatch):
    assert distributed.own_device("auto") == "auto"
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [distributed.own_device(name) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:3", "cuda:3", "cuda:1", "cpu",
    ]  # fmt: skip
