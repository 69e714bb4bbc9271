"""Weights and checkpoints from when the start of a network kept the autocorrelation of images."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

import unrolled
from tests.helpers import picture
from unrolled.networks import EPGN, AdjointStart
from unrolled.operators import BlockCompressedSensing, MaskedFourier, RadialMask
from unrolled.training.tasks.reconstruction import Reconstructor
from unrolled.weights.tensors import hash_of
from unrolled.weights.transfer import take

OPERATORS = {
    "blocks": lambda: BlockCompressedSensing(ratio=0.5, block=3),
    "scaled blocks": lambda: 2.0 * BlockCompressedSensing(ratio=0.5, block=3),
    "learned blocks": lambda: BlockCompressedSensing(ratio=0.5, block=3, learned=True),
    "Fourier": lambda: MaskedFourier(RadialMask(0.5), 6, 6),
}


def as_earlier(tensors, prefix=""):
    """The same tensors under the names of then."""
    kept = {key: value for key, value in tensors.items() if not key.endswith("autocorrelation")}
    r = [value for key, value in tensors.items() if key.endswith("autocorrelation")]
    kept[f"{prefix}network.start.autocorrelation"] = r[0] if r else torch.rand(65, 65, dtype=torch.float64)
    return kept


def trained(operator):
    operator.fit_images([picture(40, 40)])
    return EPGN(1, 2), operator


def write_earlier(path, network, operator):
    unrolled.save(path, network, operator)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    tensors = as_earlier(load_file(path))
    (key,) = facts
    card = json.loads(facts[key])
    card["sha256"] = hash_of(tensors)
    save_file(tensors, path, {key: json.dumps(card)})


@pytest.mark.parametrize("name", OPERATORS)
def test_weights_load_with_the_same_numbers(name, tmp_path):
    network, operator = trained(OPERATORS[name]())
    write_earlier(tmp_path / "w.safetensors", network, operator)
    again, own = unrolled.load(tmp_path / "w.safetensors")
    y = operator(picture(6, 6).unsqueeze(0))
    assert torch.equal(again(y, own), network(y, operator))
    other, fresh = EPGN(1, 2), OPERATORS[name]()
    take(tmp_path / "w.safetensors", network=other, operator=fresh)
    assert torch.equal(other(y, fresh), network(y, operator))


def test_weights_of_a_network_with_another_start_load(tmp_path):
    network, operator = EPGN(1, 2, start=AdjointStart()), OPERATORS["blocks"]()
    unrolled.save(tmp_path / "w.safetensors", network, operator)
    state = {key: value for key, value in operator.state_dict().items() if key != "autocorrelation"}
    operator.load_state_dict(state)
    assert not operator.fitted


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_checkpoints_load_with_the_same_numbers(name, averaged):
    def model(network, operator):
        made = Reconstructor(network, operator)
        return AveragedModel(made) if averaged else made

    network, operator = trained(OPERATORS[name]())
    state = as_earlier(model(network, operator).state_dict(), "module." if averaged else "")
    keys = list(state)
    again = model(EPGN(1, 2), OPERATORS[name]())
    again.load_state_dict(state)
    assert list(state) == keys
    x = picture(6, 6).unsqueeze(0)
    assert torch.equal(again(x), Reconstructor(network, operator)(x))


def with_norm(path, **norm):
    """Weights whose card states another norm, or none."""
    network, operator = EPGN(1, 2), 8.0 * OPERATORS["blocks"]()
    unrolled.save(path, network, operator)
    with safe_open(path, "pt") as file:
        (key,), card = file.metadata(), json.loads(file.metadata()["card"])
    del card["norm"]
    save_file(load_file(path), path, {key: json.dumps({**card, **norm})})
    return network, operator


def test_weights_of_before_take_their_operator_as_it_is(tmp_path):
    network, operator = with_norm(tmp_path / "w.safetensors")
    again, own = unrolled.load(tmp_path / "w.safetensors")
    y = operator(picture(6, 6).unsqueeze(0))
    new = network(y, operator)
    network.normalizes = False
    assert torch.equal(again(y, own), network(y, operator))
    assert not torch.equal(again(y, own), new)
    other = EPGN(1, 2)
    take(tmp_path / "w.safetensors", network=other, operator=operator)
    assert torch.equal(other(y, operator), network(y, operator))


@pytest.mark.parametrize("norm", [0, -1.0, "8", True, None, float("inf")])
def test_a_norm_that_is_none_is_refused(norm, tmp_path):
    with_norm(tmp_path / "w.safetensors", norm=norm)
    with pytest.raises(ValueError, match="the norm in their card must be a finite number > 0"):
        unrolled.load(tmp_path / "w.safetensors")
