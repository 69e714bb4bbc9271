"""Conversion as a whole: kinds, options, and what the card tells."""

import hashlib

import pytest
import torch

import unrolled
from tests.weights.converting.test_deepinv_weights import dncnn, unfolded
from unrolled.operators import Identity, Inpainting
from unrolled.weights import convert, read_card
from unrolled.weights.converting.conversion import KINDS


def test_the_card_tells_whose_weights_they_are_and_how_they_came_here(tmp_path):
    file = tmp_path / "their weights.pth"
    torch.save(unfolded(), file)
    given = {"licence": "MIT", "author": "A. Author", "source": "https://example.org/weights"}
    operator = Inpainting(torch.ones(8, 9))
    converted = convert(file, "deepinv-unfolded", **given, algorithm="HQS", operator=operator)
    unrolled.save(tmp_path / "w.safetensors", converted.network, converted.operator, converted.card)
    card = read_card(tmp_path / "w.safetensors")
    assert {name: card[name] for name in given} == given
    told = card["converted"]
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert told["command"] == (
        "unrolled convert 'their weights.pth' --as deepinv-unfolded --algorithm HQS --operator Inpainting"
    )
    assert told["options"]["operator"]["class_path"] == "Inpainting"
    assert str(tmp_path) not in str(card)
    assert "norm" not in card  # operators are not brought to the norm 1, for that was not done there
    assert isinstance(unrolled.load(tmp_path / "w.safetensors")[1], Inpainting)


def test_networks_are_in_use_and_can_be_trained_on(tmp_path):
    torch.save(dncnn(), tmp_path / "w.pth")
    converted = convert(tmp_path / "w.pth", "deepinv-dncnn", licence="MIT")
    assert not converted.network.training
    assert isinstance(converted.operator, Identity)
    assert all(parameter.requires_grad for parameter in converted.network.parameters())
    # The prior alone, and in another algorithm.
    assert torch.equal(converted.network.phases[0].prior.layers[0].weight, dncnn_weight(tmp_path))


def dncnn_weight(folder):
    return torch.load(folder / "w.pth", weights_only=True)["in_conv.weight"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("ista-net", {"licence": "x"}, "as: must be one of ista-net-plus, .*, got 'ista-net'"),
        (None, {"licence": "x"}, "as: must be one of"),
        ("deepinv-dncnn", {"licence": " "}, "licence: must say under which one"),
        ("deepinv-dncnn", {"licence": None}, "licence: must say under which one"),
        (
            "deepinv-dncnn",
            {"licence": "x", "matrix": "phi.mat"},
            "matrix: is no option of deepinv-dncnn; it takes none",
        ),
        (
            "ista-net-plus",
            {"licence": "x", "algorithm": "PGD"},
            "algorithm: is no option of ista-net-plus; it takes matrix, initial, operator",
        ),
        (
            "fastmri-unet",
            {"licence": "x"},
            "w.pth is not the U-Net of fastMRI: .* names are those of --as deepinv-dncnn",
        ),
    ],
)
def test_what_is_asked_wrongly_is_refused(kind, options, message, tmp_path):
    torch.save(dncnn(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "w.pth", kind, **options)


def test_a_small_file_makes_no_large_network(tmp_path):
    large = {
        "in_conv.weight": torch.zeros(1).expand(9000, 9000, 3, 3),
        "conv_list.0.weight": torch.zeros(1),
        "out_conv.weight": torch.zeros(1),
    }
    torch.save(large, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="larger than the file"):
        convert(tmp_path / "w.pth", "deepinv-dncnn", licence="x")
    torch.save({**dncnn(), "in_conv.weight": torch.zeros(9000, 1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w.pth does not hold the network whose shapes it has: it asks for"):
        convert(tmp_path / "w.pth", "deepinv-dncnn", licence="x")


def test_no_kind_has_the_names_of_another():
    assert len({kind.marks for kind in KINDS.values()}) == len(KINDS)
