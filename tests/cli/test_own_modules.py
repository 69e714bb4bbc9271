"""Networks, operators and classifiers of a module of the user's own, from training to a picture, by the commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import write_picture

MODULE = """
from torch import nn
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing

class Mine(EPGN):
    def __init__(self, width: int = 2):
        super().__init__(1, width)

class Blocks(BlockCompressedSensing):
    pass

class Small(nn.Sequential):
    def __init__(self, num_classes: int = 10):
        super().__init__(nn.Flatten(), nn.Linear(784, num_classes))
"""
RUN = """
import json, sys
from unrolled.cli import main
for argv in json.loads(sys.argv[1]):
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code
    print("status", status)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "of_mine.py").write_text(MODULE)
    (tmp_path / "network.yaml").write_text("network: {class_path: Mine, init_args: {width: 3}}\n")
    for seed in range(4):
        write_picture(tmp_path / "photos" / f"{seed}.png", 22, 22, seed)
    return tmp_path


def run(folder, *commands):
    """The statuses of commands in a fresh process, which has imported nothing of the user's, and what it says."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", RUN, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    statuses = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("status ")]
    return statuses, done.stdout, done.stderr


def test_from_training_to_a_picture(folder):
    small = ["--training.steps=1", "--training.batch=1", "--training.validations=1"]
    operator = ["--operator=of_mine.Blocks", "--operator.ratio=0.25", "--operator.block=11"]
    data = ["--data.train=[photos]", "--data.hold_out=1", "--data.crop=22"]
    statuses, _, err = run(
        folder,
        ["train", "--network=of_mine.Mine", *operator, *data, *small, "--folder=runs/1"],
        ["classify", "--classifier=of_mine.Small", *small, "--folder=runs/2"],
    )
    assert statuses == [0, 0], err
    evaluate = ["evaluate", "--weights=runs/1/best.safetensors", "--data=photos"]
    statuses, out, err = run(
        folder,
        evaluate,
        [*evaluate, "--import", "of_mine"],
        ["reconstruct", "photos/0.png", *evaluate[1:2], "--out=x.png", "--import=of_mine"],
        ["train", "--config=network.yaml", "--import=of_mine", *operator, *small, "--print_config"],
    )
    assert statuses == [1, 0, 0, 0], err
    assert "unknown UnrolledNetwork 'of_mine.Mine'" in err
    assert "--import of_mine" in err
    assert "mean" in out
    assert (folder / "x.png").exists()
    assert "class_path: of_mine.Mine" in out  # the name alone is enough once the module is imported
