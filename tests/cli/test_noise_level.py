"""Noise levels on the command line, and options of training that configs give as lists and tables."""

import json

import numpy as np
import pytest
import torch
import yaml

import unrolled
from tests.helpers import picture, write_picture
from unrolled.cli import main
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.training import train_task
from unrolled.training.runs.checkpoint import load_checkpoint


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    network = EPGN(1, 2, noise_range=(0.01, 0.2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    path = tmp_path / "w.safetensors"
    unrolled.save(path, network, BlockCompressedSensing(ratio=0.25, block=11))
    return str(path)


@pytest.mark.filterwarnings("ignore:noise. cannot be estimated from measurements by BlockCompressedSensing")
def test_commands_take_a_noise_level(weights, tmp_path, capsys):
    write_picture(tmp_path / "photo.png", 33, 44)
    photo, figures = str(tmp_path / "photo.png"), []
    for level in ([], ["--noise", "0.1"], ["--noise=0.2"]):
        argv = ["evaluate", "--weights", weights, "--data", photo, "--json", str(tmp_path / "r.json"), *level]
        assert main(argv) == 0
        figures.append(json.loads((tmp_path / "r.json").read_text())["psnr"])
    assert figures == sorted(figures, reverse=True)
    assert len(set(figures)) == 3
    assert main(["reconstruct", photo, "--weights", weights, "--out", str(tmp_path / "x.png"), "--noise=0.1"]) == 0
    assert f"PSNR {figures[1]:.1f}"[:-1] in capsys.readouterr().out
    np.save(tmp_path / "y.npy", unrolled.load(weights)[1](picture(33, 44).unsqueeze(0)).numpy())
    argv = ["reconstruct", "--measured", str(tmp_path / "y.npy"), "--weights", weights, "--out"]
    for name, level in (("a", []), ("b", ["--noise=0.2"])):
        assert main([*argv, str(tmp_path / f"{name}.png"), *level]) == 0
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    assert main(["evaluate", "--weights", weights, "--data", photo, "--noise=-1"]) == 1
    assert "error: noise: must be a standard deviation, a finite number >= 0, got -1.0" in capsys.readouterr().err


def test_a_config_trains_with_noise_of_all_levels_and_parts_of_weights(weights, tmp_path, monkeypatch, capsys):
    for seed in range(3):
        write_picture(tmp_path / "images" / f"{seed}.png", 33, 33, seed)
    config = {
        "network": {"class_path": "EPGN", "init_args": {"phases": 1, "features": 2, "noise_range": [0.01, 0.2]}},
        "operator": {"class_path": "BlockCompressedSensing", "init_args": {"ratio": 0.25, "block": 11}},
        "noise": {"class_path": "VaryingGaussianNoise", "init_args": {"low": 0.01, "high": 0.2}},
        "data": {
            "train": [str(tmp_path / "images")], "hold_out": 1, "crop": 22, "bias_field": 0.3, "intensity": [0.8, 1],
        },
        "training": {
            "steps": 9, "validations": 9, "batch": 2, "accumulate": 2, "patience": 2, "min_improvement": 100.0,
            "train_only": ["network.*"], "freeze": ["*.pair.*"], "rates": {"*.factors.*": 2.0},
        },
        "weights": weights,
        "folder": str(tmp_path / "run"),
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(train_task, "_draw_curve", lambda *_: None)
    assert main(["train", "--config", str(tmp_path / "c.yaml")]) == 0
    out = capsys.readouterr().out
    assert "ended at step 3: no improvement in 2 validations" in out
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 3
    before, after = (unrolled.load(path)[0] for path in (weights, tmp_path / "run" / "best.safetensors"))
    for name, value in after.state_dict().items():
        assert torch.equal(value, before.state_dict()[name]) == (".pair." in name), name
    assert main(["train", "--config", str(tmp_path / "run" / "config.yaml"), "--resume"]) == 0
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 3
