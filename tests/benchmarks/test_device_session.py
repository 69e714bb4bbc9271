"""The session on a machine that is lent for minutes: what it runs, what it writes, and what a cut-off leaves."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from benchmarks import device as session
from benchmarks import report, throughput
from tests.training.small_runs import short_command
from unrolled.cli import main
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.training.runs.checkpoint import load_checkpoint

ROWS = json.loads((report.FIGURES / "cpu.json").read_text())


def ask(folder, minutes=0.001):
    return session.main(["--minutes", str(minutes), "--out", str(folder), "--device", "cpu"])


@pytest.fixture
def in_this_process(tmp_path, monkeypatch):
    """Tests are not run, figures are those of the page, and the training is a short one; which commands were run."""
    ran = []

    def run(argv, seconds, log):
        ran.append(argv)
        log.write_text("\n" if argv[0] == "train.py" else "9 passed in 1s\n")
        if "pytest" in argv:
            return "passed"
        if argv[0] == "train.py":
            return "passed" if main(["train", *argv[1:]]) == 0 else "failed"
        with open(argv[argv.index("--json") + 1], "w") as file:
            json.dump({**ROWS, "rows": ROWS["rows"][:3]}, file)
        return "out of time"

    monkeypatch.setattr(session, "run", run)
    monkeypatch.setattr(session, "queued", lambda: short_command(tmp_path)[1:])
    return ran


@pytest.mark.filterwarnings("ignore:resume.*holds no checkpoint yet:UserWarning")
def test_everything_is_written_as_it_comes(in_this_process, tmp_path, monkeypatch):
    assert ask(tmp_path / "out") == 0
    assert [argv[0] for argv in in_this_process] == ["-m", "-m", "train.py"]
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert found["tests"]["summary"] == "9 passed in 1s"
    assert found["rows"] == ROWS["rows"][:3]
    assert found["training"]["outcome"] == "passed"
    assert found["training"]["last"]["step"] == load_checkpoint(tmp_path / "out" / "training" / "last.pt")["step"]
    page = report.on_a_gpu(found)
    assert "Tests of devices: passed (9 passed in 1s)." in page
    assert f"{found['training']['last']['psnr']:.2f} dB on held-out images" in page


def test_a_failing_test_ends_everything(in_this_process, tmp_path, monkeypatch):
    argvs, before = [], session.run
    monkeypatch.setattr(session, "run", lambda *given: (argvs.append(given), before(*given), "failed")[-1])
    assert ask(tmp_path / "out") == 1
    assert len(argvs) == 1
    assert json.loads((tmp_path / "out" / "gpu.json").read_text())["tests"]["outcome"] == "failed"


def test_a_part_ends_when_its_time_is_over_and_may_still_save(tmp_path):
    saves = "import signal, sys, time; signal.signal(15, lambda *_: (print('saved'), sys.exit(1))); print('begun', "
    argv = ["-u", "-c", f"{saves}flush=True); time.sleep(60)"]
    began = time.monotonic()
    assert session.run(argv, 1.0, tmp_path / "log.txt") == "out of time"
    assert time.monotonic() - began < 30
    assert (tmp_path / "log.txt").read_text().split() == ["begun", "saved"]


def test_the_queue_begins_with_a_training_that_the_command_line_takes():
    queued = session.queued()
    assert queued[:2] == ["--config", "configs/cs/epgn_25.yaml"]
    assert "--resume" in queued


def test_rows_are_kept_as_they_are_measured(monkeypatch):
    pieces = ("EPGN", EPGN(1, 2), BlockCompressedSensing(ratio=0.25))
    monkeypatch.setattr(throughput, "networks", lambda device: iter([pieces]))
    monkeypatch.setattr(throughput, "ceilings", lambda device: {"float32": 1.0, "bfloat16": 1.0, "bytes": 1.0})
    monkeypatch.setattr(throughput, "peak_memory", lambda *_: 1.0)
    monkeypatch.setattr(throughput, "quality", lambda *_: 30.0)
    monkeypatch.setattr(throughput, "CROP", 33)
    monkeypatch.setattr(throughput, "SIDE", 33)
    monkeypatch.setattr(throughput, "BATCH", 1)
    kept = []
    throughput.measure(torch.device("cpu"), 2, set(), lambda result: kept.append(len(result["rows"])))
    assert kept == list(range(1, 11))


@pytest.mark.full
def test_two_minutes_on_a_cpu(tmp_path):
    argv = [sys.executable, "-m", "benchmarks.device", "--minutes", "2", "--out", str(tmp_path), "--device", "cpu"]
    began = time.monotonic()
    done = subprocess.run(argv, cwd=session.ROOT, env={**os.environ, "UNROLLED_TEST_FULL": ""}, timeout=300)
    assert done.returncode == 0
    assert time.monotonic() - began < 180
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["tests"]["outcome"] in ("passed", "out of time")
    assert load_checkpoint(tmp_path / "training" / "last.pt")["step"] >= 0
