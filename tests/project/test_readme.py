"""Every command and every example of the README runs."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest

import unrolled
from tests.helpers import readme_commands, write_picture
from unrolled import weights
from unrolled.cli import main
from unrolled.system import import_torchvision

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)
# Training as written takes half an hour, or needs a download: the same commands with a budget of two steps.
SHORT = ["--training.minutes=null", "--training.epochs=null", "--training.steps=2", "--training.validations=1",
         "--training.batch=2"]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder as a reader has it: a photo, and a folder of photos."""
    write_picture(tmp_path / "photo.jpg", 40, 50, mode="RGB")
    for seed in range(9):  # of which training holds out eight
        write_picture(tmp_path / "photos" / f"{seed}.jpg", 66, 66, seed, mode="RGB")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands(folder, capsys):
    commands = readme_commands()
    assert len(commands) >= 5
    for command in commands:
        program, *argv = shlex.split(command)
        assert program == "unrolled"
        if argv[0] in ("train", "classify"):
            small = (
                ["--data.source=drawn-digits"] if argv[0] == "classify" else ["--data.hold_out=1", "--network.phases=1"]
            )
            argv += SHORT + small
        assert main(argv) == 0, capsys.readouterr().err
    for file in ("photo.png", "photo-comparison.png", "photo-iterates.png", "result.json", "runs/mine/curve.png"):
        assert (folder / file).is_file(), file


@pytest.mark.filterwarnings("ignore:operator. weights will not say how to make it:UserWarning")  # of functions
@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples(code, folder, monkeypatch):
    short = unrolled.TrainingOptions(steps=2, batch=1, validations=1)
    monkeypatch.setattr(unrolled, "TrainingOptions", lambda minutes: short)
    if "resnet18" in code:  # one of half the depth
        models = import_torchvision("torchvision.models")
        smaller = partial(models.ResNet, models.resnet.BasicBlock, [1, 1, 1, 1])
        monkeypatch.setattr(models, "resnet18", smaller)
    exec(code, {})


def test_figures_are_those_of_the_cards():
    for name in weights.names():
        for test, figures in weights.read_card(name).get("evaluation", {}).items():
            assert f"{figures['psnr']:.2f}" in README, (name, test)


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[2] / target).exists(), target
