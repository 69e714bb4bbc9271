"""Several processes train as one does. Real processes, over gloo on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.runs import DoubleTask, gradients, run_together, tensors, train
from unrolled.cli import main
from unrolled.training import distributed
from unrolled.training.checkpoint import load_checkpoint

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
        assert one["agreed"] == (1.5, 1.0, 0.0)
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


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 2)
    assert distributed.part(12) == range(8, 12)
    with pytest.raises(ValueError, match="batch must be a multiple of the 3 processes, got 8"):
        distributed.part(8)


def test_torchrun_starts_the_command(tmp_path):
    arguments = [
        "--config=configs/cs/epgn_25.yaml", "--training.minutes=null", "--training.steps=6", "--training.validations=2",
        "--training.batch=2", "--network.phases=1", "--network.features=2", "--training.bfloat16=false", "--threads=1",
    ]  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    done = subprocess.run(
        [*command, *arguments, f"--folder={tmp_path / 'two'}"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.count("validation PSNR") == 1
    assert main(["train", *arguments, f"--folder={tmp_path / 'one'}"]) == 0
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    for one, two in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        # Sums in another order differ by 1e-7; six steps of Adam move each weight by at most 6e-3.
        assert two["psnr"] == pytest.approx(one["psnr"], abs=1e-3)
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == "2"


def test_the_slurm_example_is_a_valid_script():
    subprocess.run(["bash", "-n", ROOT / "docs" / "slurm.sh"], check=True)
