"""What a config and a command line may make: classes of the kind that a place asks for, and nothing else is called."""

import json
import sys

import pytest
import yaml

from unrolled.cli import main

BASE = {
    "network": {"class_path": "EPGN", "init_args": {"phases": 1, "features": 2}},
    "operator": {"class_path": "BlockCompressedSensing", "init_args": {"ratio": 0.25, "block": 11}},
    "training": {"steps": 1},
}
CANARY = {"class_path": "os.system", "init_args": {"command": "touch canary"}}


def refused(capsys, *argv) -> str:
    """The one line that is said of a command line that must fail."""
    try:
        status = main([*argv])
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2), argv
    *_, last = capsys.readouterr().err.splitlines()
    return last


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("sparsifier", CANARY, "'os.system' may not be named"),
        ("sparsifier", {"class_path": "torch.hub.load", "init_args": {"repo_or_dir": "x", "model": "y"}}, "torch.hub"),
        (
            "sparsifier",
            {"class_path": "unrolled.system.files.write_json", "init_args": {"path": "canary", "facts": 1}},
            "sparsifier: only classes may be named, got the function write_json",
        ),
        ("sparsifier", {"class_path": "unrolled.sparsify.sparsifier.torch.load"}, "'torch.serialization.load' may not"),
        ("sparsifier", {"class_path": "EPGN"}, "no class is called 'EPGN'"),
        ("sparsifier", {"class_path": "unrolled.networks.EPGN"}, "to be a subclass of <class 'Sparsifier'>"),
        (
            "sparsifier",
            {"class_path": "ProximalStep", "init_args": {"penalty": CANARY}},
            "'os.system' may not be named",
        ),
        ("sparsifier", {"class_path": "ProximalStep", "dict_kwargs": {"penalty": CANARY}}, "'os.system' may not"),
        ("sparsifier", {"class_path": "ProximalStep", "init_args": {"groups": CANARY}}, "'os.system' may not be named"),
        ("network", {"class_path": "EPGN", "init_args": {"penalty": [CANARY]}}, "os.system"),
        ("network", CANARY, "'os.system' may not be named"),
        (
            "network",
            {"class_path": "unrolled.operators.as_operator"},
            "does not correspond to a subclass of UnrolledNet",
        ),
        ("operator", {"class_path": "unrolled.networks.EPGN"}, "does not correspond to a subclass of LinearOperator"),
        ("operator", {"class_path": "MaskedFourier", "init_args": {"mask": CANARY}}, "os.system"),
        ("noise", CANARY, "os.system"),
        ("loss", CANARY, "os.system"),
        ("loss", {"class_path": "PhaseLoss", "init_args": {"loss": CANARY}}, "os.system"),
        ("loss", {"class_path": "unrolled.networks.EPGN"}, "EPGN"),
        ("loss", {"class_path": "unrolled.training.losses.as_loss"}, "as_loss"),
        ("data", CANARY, "data"),
        ("training", CANARY, "training"),
        ("classifier", CANARY, "'os.system' may not be named"),
        ("classifier", {"class_path": "torch.nn.init.ones_"}, "torch.nn.init.ones_"),
    ],
)
def test_only_classes_of_the_kind_of_a_place_are_made(place, value, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base = {"training": {"steps": 1}} if place == "classifier" else BASE
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**base, place: value}))
    for more in ([], ["--print_config"]):
        assert message in refused(capsys, "train", "--config=config.yaml", *more)
    assert not (tmp_path / "canary").exists()
    assert not list(tmp_path.glob("runs/*/*.pt"))


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("train", "network"),
        ("train", "network.penalty"),
        ("train", "sparsifier"),
        ("train", "loss"),
        ("classify", "classifier"),
        ("kspace", "mask"),
        ("train", "network.help"),
    ],
)
def test_options_are_kept_to_the_same(command, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(BASE))
    first = {"train": ["--config=config.yaml"], "classify": [], "kspace": ["y.npy", "--out=x.png", "--method=tv"]}
    for value in ("os.system", json.dumps(CANARY), "a_stranger.Network"):
        said = refused(capsys, command, *first[command], f"--{option}={value}")
        assert value.partition(".")[0] in said or "os.system" in said
    assert "a_stranger" not in sys.modules
    assert not (tmp_path / "canary").exists()
