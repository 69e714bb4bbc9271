"""Networks, operators and classifiers of a module of the user's own, from training to a picture, by the commands."""

import json

import numpy as np
import pytest

from tests.helpers import picture, write_picture
from tests.training.small_runs import command, processes_context
from unrolled.cli import main

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


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "of_mine.py").write_text(MODULE)
    (tmp_path / "network.yaml").write_text("network: {class_path: Mine, init_args: {width: 3}}\n")
    for seed in range(4):
        write_picture(tmp_path / "photos" / f"{seed}.png", 22, 22, seed)
    return tmp_path


def run(folder, *commands):
    """The statuses of commands, each in a process that has imported nothing of the user's, and what they say."""
    statuses = []
    for argv in commands:
        process = processes_context().Process(target=command, args=(argv, folder))
        process.start()
        process.join(120)
        statuses.append(process.exitcode)
    return statuses, (folder / "out").read_text(), (folder / "err").read_text()


@pytest.mark.full  # each of its commands starts a process
def test_from_training_to_pictures(folder):
    small = ["--training.steps=1", "--training.batch=1", "--training.validations=1"]
    small += ["--data.train=[photos]", "--data.hold_out=1", "--data.crop=22"]
    blocks = ["--operator=of_mine.Blocks", "--operator.ratio=0.25", "--operator.block=11"]
    fourier = [
        "--operator=MaskedFourier",
        "--operator.mask=CartesianMask",
        "--operator.height=22",
        "--operator.width=22",
    ]
    np.save(folder / "y.npy", np.fft.fft2(picture(22, 22)[0].numpy()).astype(np.complex64))
    weights, mine = "--weights=runs/1/best.safetensors", "--import=of_mine"
    study = ["--images=1", "--methods=[estimate]", "--noise=[0]", "--ratios=[]", "--perturbations=[]"]
    kspace = ["kspace", "y.npy", "--weights=runs/2/best.safetensors", "--out=y.png"]
    statuses, out, err = run(
        folder,
        ["train", "--network=of_mine.Mine", mine, *blocks, *small, "--folder=runs/1"],
        ["train", "--network=of_mine.Mine", mine, *fourier, *small, "--folder=runs/2"],
        ["classify", "--classifier=of_mine.Small", mine, *small[:3], "--folder=runs/3"],
        ["evaluate", weights, "--data=photos"],
        ["evaluate", weights, "--data=photos", "--import", "of_mine"],
        ["reconstruct", "photos/0.png", weights, "--out=x.png", mine],
        ["robustness", weights, "--data=photos", "--json=x.json", *study, mine],
        kspace,
        [*kspace, mine],
        ["zoo", "runs/1/best.safetensors"],
        ["train", "--config=network.yaml", mine, *blocks, *small, "--print_config"],
        ["train", "--config=runs/1/config.yaml", "--resume"],
        ["train", "--config=runs/1/config.yaml", "--resume", mine],
    )
    assert statuses == [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0], err
    assert err.count("'of_mine.Mine' may not be named") == 1
    assert err.count("unknown UnrolledNetwork 'of_mine.Mine'") == err.count("with --import of_mine") == 2
    assert "mean" in out
    assert (folder / "x.png").exists()
    assert set(json.loads((folder / "x.json").read_text())["noise"]) == {"values", "network", "estimate"}
    assert (folder / "y.png").exists()
    assert '"class_path": "of_mine.Mine"' in out  # the card names the module
    assert "class_path: of_mine.Mine" in out  # the name alone is enough once the module is imported


@pytest.mark.parametrize("command", ["train", "classify", "evaluate", "reconstruct", "kspace", "robustness"])
def test_every_command_that_loads_or_makes_networks_takes_modules(command, capsys):
    assert main([command, "--import=none_of_mine"]) == 1
    message = "import: none_of_mine cannot be imported: ModuleNotFoundError: No module named 'none_of_mine'"
    assert f"unrolled {command}: error: {message}" in capsys.readouterr().err
