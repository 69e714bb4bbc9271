"""How far runs are: what is read of their folders, and what the command says of them."""

import json
import math
import os
import time

import pytest

from unrolled.cli import main
from unrolled.training.runs.lock import is_held, locked
from unrolled.training.runs.overview import age, runs_below, state_of


def write(folder, lines, config=True, written=None):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    )
    if config:
        (folder / "config.yaml").write_text("# Written by unrolled train.\n")
    if written is not None:
        os.utime(folder / "metrics.jsonl", (written, written))


def line(step, psnr, steps=100, **more):
    return {"step": step, "steps": steps, "psnr": psnr, "seconds": 2.0 * step, **more}


def test_the_best_figure_and_the_last_step_count(tmp_path):
    write(tmp_path / "a", [line(10, 30.0), line(20, 31.5), "{damaged", line(30, 31.0)])
    state = state_of(tmp_path / "a")
    assert (state.step, state.steps, state.score, state.best) == (30, 100, "psnr", 31.5)
    assert state.left == 140
    assert not state.ended
    write(tmp_path / "b", [line(100, None)])
    assert state_of(tmp_path / "b").ended
    assert math.isnan(state_of(tmp_path / "b").best)
    write(tmp_path / "c", [])
    assert math.isnan(state_of(tmp_path / "c").left)
    write(tmp_path / "d", [{"step": 5, "steps": 9, "seconds": 1.0, "accuracy": 0.9}])
    assert state_of(tmp_path / "d").score == "accuracy"


def test_a_folder_is_held_while_a_run_is_in_it(tmp_path):
    write(tmp_path / "a", [line(10, 30.0)])
    assert not is_held(tmp_path / "a")
    with locked(tmp_path / "a"):
        assert is_held(tmp_path / "a")
        assert state_of(tmp_path / "a").running
    assert not state_of(tmp_path / "a").running


def test_the_command_says_what_to_do_with_each(tmp_path, capsys):
    now = time.time()
    write(tmp_path / "deep" / "stopped", [line(25, 30.0)], written=now - 7200)
    write(tmp_path / "ended", [line(100, 33.25)], written=now - 600)
    write(tmp_path / "own", [line(5, 20.0)], config=False, written=now - 400_000)
    write(tmp_path / "running", [line(50, 31.0)], written=now)
    with locked(tmp_path / "running"):
        assert main(["runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [row.split()[0].rsplit("/", 1)[1] for row in said] == ["running", "ended", "stopped", "own"]
    assert said[0].endswith("50 of     100 steps  best psnr 31 dB               running, about 2 min left")
    assert "best psnr 33.25 dB" in said[1]
    assert said[1].endswith("ended 10 min ago")
    assert said[2].endswith(
        f"stopped 2 hours ago: unrolled train --config {tmp_path / 'deep/stopped/config.yaml'} --resume"
    )
    assert said[3].endswith("stopped 5 days ago: resume it by the program that began it")
    (tmp_path / "empty").mkdir()
    assert main(["runs", str(tmp_path / "empty")]) == 0
    assert "no run has validated anything" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "missing")]) == 1
    assert "missing is no folder" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is no folder"):
        runs_below(tmp_path / "missing")
    assert age(0.0, 60 * 60 * 24 * 3) == "3 days ago"
