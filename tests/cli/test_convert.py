"""unrolled convert."""

import pytest
import torch

import unrolled
from tests.helpers import write_picture
from tests.weights.converting.test_deepinv_weights import dncnn
from tests.weights.converting.test_ista_net_weights import state
from unrolled.cli import main
from unrolled.operators import MaskedFourier
from unrolled.weights import read_card


def test_weights_are_converted_and_used_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({name: tensor / 100 for name, tensor in dncnn().items()}, "dncnn.pth")
    told = ["--licence", "MIT", "--author", "Kai", "--source", "their page"]
    assert main(["convert", "dncnn.pth", "--as", "deepinv-dncnn", "--out", "w.safetensors", *told]) == 0
    assert "ComposedNetwork of 226 parameters with Identity" in capsys.readouterr().out
    card = read_card("w.safetensors")
    assert (card["licence"], card["author"], card["source"]) == ("MIT", "Kai", "their page")
    write_picture(tmp_path / "picture.png", 16, 16)
    assert main(["reconstruct", "picture.png", "--weights", "w.safetensors", "--out", "out.png"]) == 0


def test_an_operator_is_named_by_its_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(state(), "net.pkl", _use_new_zipfile_serialization=False)
    operator = ["--operator", "MaskedFourier", "--operator.mask", "RadialMask", "--operator.mask.ratio", "0.4"]
    operator += ["--operator.height", "16", "--operator.width", "16"]
    kind = ["--as", "ista-net-plus", "--licence", "Apache-2.0"]
    assert main(["convert", "net.pkl", *kind, *operator, "--out", "w.safetensors"]) == 0
    assert isinstance(unrolled.load("w.safetensors")[1], MaskedFourier)


def test_without_a_file_the_kinds_are_listed(capsys):
    assert main(["convert"]) == 0
    out = capsys.readouterr().out
    assert "ista-net-plus        ISTA-Net+ (ISTA-Net-PyTorch); takes matrix, initial, operator" in out
    assert "fastmri-varnet" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--licence", "MIT", "--out", "w.safetensors"], "--as: is needed, one of ista-net-plus, "),
        (["--as", "deepinv-dncnn", "--licence", "MIT"], "--out: is needed"),
        (["--as", "deepinv-dncnn", "--out", "w.safetensors"], "--licence: is needed"),
        (["--as", "dncnn", "--out", "w.safetensors", "--licence", "MIT"], "as: must be one of ista-net-plus, "),
        (["--as", "deepinv-dncnn", "--out", "dncnn.pth", "--licence", "MIT"], "cannot write dncnn.pth: it is an input"),
        (
            ["--as", "deepinv-drunet", "--out", "w.safetensors", "--licence", "MIT"],
            "is not DRUNet of deepinv: it has no m_head.weight; its names are those of --as deepinv-dncnn",
        ),
    ],
)
def test_what_cannot_be_done_is_said(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(dncnn(), "dncnn.pth")
    assert main(["convert", "dncnn.pth", *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w.safetensors").exists()
