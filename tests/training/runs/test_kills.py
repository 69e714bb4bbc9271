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

from tests.helpers import write_picture
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
    start_together,
    wait_for,
)
from unrolled.training import Loop
from unrolled.training.runs.checkpoint import Checkpoints

KILLS = {"one process": 60 if FULL else 2, "two processes": 40, "sparse": 50, "classify": 50}
"""How often a run is killed, by its setting; with the outputs below 300 times in all."""

OUTPUT_KILLS = 50
STEPS = 160 if FULL else 50
SPARSE = ["--sparsifier=ProximalStep", "--sparsifier.penalty=L0", "--sparsifier.target=0.5"]


def last_step(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError, IndexError, json.JSONDecodeError):
        return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    return 0


def command_of(setting: str, folder: Path) -> list[str]:
    """A short training with many checkpoints."""
    argv = [each.replace("=160", f"={STEPS}").replace("=40", f"={STEPS // 4}") for each in short_command(folder)]
    if setting == "classify":
        kept = [each for each in argv if each.startswith(("--training.", "--threads", "--device"))]
        return ["classify", "--classifier=LeNet300100", *SPARSE, *kept]
    if setting == "two processes":
        argv = ["--training.batch=2" if each == "--training.batch=1" else each for each in argv]
    return argv + SPARSE * (setting == "sparse")


def start(setting: str, argv: list[str]):
    """Start the processes of a command."""
    if setting == "two processes":
        return start_together(command, argv)
    process = processes_context().Process(target=command, args=(argv,))
    process.start()
    return [process]


def kill(processes) -> None:
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.join()
        assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    "setting", ["one process", *(pytest.param(each, marks=pytest.mark.full) for each in [*KILLS][1:])]
)
def test_killed_again_and_again_a_run_ends_with_the_same_bits(setting, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    argv, kills = command_of(setting, tmp_path), KILLS[setting]
    whole = start(setting, [*argv, f"--folder={straight}"])
    chance = random.Random(0)
    for number in range(kills):
        running = start(setting, [*argv, f"--folder={killed}", "--resume"])
        reached = STEPS * (number + 1) // (kills + 2)
        wait_for(lambda reached=reached: last_step(killed) >= reached, running[0])
        if number % 2:  # in the middle of writing a checkpoint
            wait_for(lambda: list(killed.glob(".partial-last-*")), running[0])
        else:
            time.sleep(chance.uniform(0, 0.03))
        kill(running)
    for process in whole:
        process.join()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kill may have hit between the two renames
        assert Checkpoints(killed).load()["step"] < STEPS
    for process in start(setting, [*argv, f"--folder={killed}", "--resume"]):
        process.join()
    assert_same_end(straight, killed)
    assert {path.name for path in killed.iterdir()} == {path.name for path in straight.iterdir()}
    assert not list(killed.glob(".*"))


@pytest.mark.full
@pytest.mark.parametrize("name", ["reconstruct", "prepare"])
def test_killed_again_and_again_a_command_leaves_a_whole_file_or_none(name, tmp_path):
    photos = tmp_path / "photos"
    for seed in range(40):
        write_picture(photos / f"{seed}.png", 264, 264, seed)

    def argv(folder):
        if name == "prepare":
            return ["data", "prepare", str(photos), "--out", str(folder / "set.h5"), "--force"]
        small = ["--weights=epgn-cs25-small", "--iterates", "--device=cpu"]
        return ["reconstruct", str(photos / "0.png"), "--out", str(folder / "a.png"), *small]

    def contents(folder):
        return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    began = time.monotonic()
    start(name, argv(straight))[0].join()
    lasts, whole, chance = time.monotonic() - began, contents(straight), random.Random(0)
    for number in range(OUTPUT_KILLS):
        (running,) = start(name, argv(killed))
        if number % 2:
            with contextlib.suppress(AssertionError):  # it may be over in between
                wait_for(lambda: list(killed.glob(".partial-*")), running)
        else:
            time.sleep(chance.uniform(0.3, 1) * lasts)
        running.kill()
        running.join()
        assert contents(killed).items() <= whole.items()
        assert len(list(killed.glob(".partial-*"))) <= 1  # what was left before went when the target was written again
    start(name, argv(killed))[0].join()
    assert contents(killed) == whole
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
