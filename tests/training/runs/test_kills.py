"""A run that is killed again and again ends as one that was not."""

import contextlib
import json
import os
import random
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch

from tests.pairs import FULL
from tests.training.small_runs import (
    Crash,
    Line,
    assert_same_end,
    at_step,
    command,
    crash,
    options,
    pieces,
    processes_context,
    short_command,
    wait_for,
)
from unrolled.training import Loop
from unrolled.training.runs.checkpoint import Checkpoints

KILLS = 20 if FULL else 3


def last_step(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError, IndexError, json.JSONDecodeError):
        return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    return 0


def test_killed_again_and_again_a_run_ends_with_the_same_bits(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    argv = short_command(tmp_path)

    def start(*arguments):
        process = processes_context().Process(target=command, args=([*argv, *arguments],))
        process.start()
        return process

    process = start(f"--folder={straight}")
    chance = random.Random(0)
    for kill in range(KILLS):
        process_to_kill = start(f"--folder={killed}", "--resume")
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
    start(f"--folder={killed}", "--resume").join()
    assert_same_end(straight, killed)
    assert {path.name for path in killed.iterdir()} == {path.name for path in straight.iterdir()}
    assert not list(killed.glob(".*"))


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


def test_pieces_are_the_same_every_time():
    """What all comparisons here rest on."""
    assert all(map(torch.equal, pieces()[0].state_dict().values(), pieces()[0].state_dict().values()))
