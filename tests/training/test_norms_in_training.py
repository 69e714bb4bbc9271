"""Training with operators whose norm is not 1: in the units of users, and as good as with the norm 1."""

import json

import pytest
import torch
from safetensors import safe_open

import unrolled
from tests.training.small_runs import HELD_OUT, fit, options
from unrolled.operators import BlockCompressedSensing, GaussianNoise, LinearOperator, PhotonNoise, Radon
from unrolled.training.runs.checkpoint import load_checkpoint, write_checkpoint


def scaled(scale: float) -> LinearOperator:
    operator = BlockCompressedSensing(ratio=0.25, block=11)
    return operator if scale == 1 else scale * operator


def norm_in(path) -> float | None:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["card"]).get("norm")


def test_the_units_of_measurements_change_no_bit_of_a_run(tmp_path):
    noise = {1.0: GaussianNoise(2.0**-6), 64.0: GaussianNoise(1.0)}
    plain, large = (fit(tmp_path / str(c), operator=scaled(c), noise=noise[c])[0] for c in noise)
    for one, other in zip(plain.parameters(), large.parameters(), strict=True):
        assert torch.equal(one, other)
    assert norm_in(tmp_path / "64.0" / "best.safetensors") == 64
    network, operator = unrolled.load(tmp_path / "64.0" / "best.safetensors")
    y = scaled(1)(HELD_OUT[0][None, :, :33, :44])
    expected, own = unrolled.load(tmp_path / "1.0" / "best.safetensors")
    assert torch.equal(network(64 * y, operator), expected(y, own))
    assert network.norm_of(operator) == 64


def test_line_integrals_with_photons_train_as_they_are(tmp_path):
    network, operator, figures = fit(
        tmp_path,
        operator=Radon(10, 24, 24),
        noise=PhotonNoise(1e5, white=0.02),
        training=options(validations=1),
        crop=24,
    )
    assert figures["psnr"] > figures["start_psnr"] + 1
    truth = HELD_OUT[0][:, :24, :24]
    found = unrolled.reconstruct(truth, network, operator, noise=PhotonNoise(1e5, white=0.02))
    assert (found - truth).square().mean() < 0.02


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_goes_on_as_it_was(earlier, tmp_path):
    half = options(steps=12, validations=2)
    fit(tmp_path, operator=scaled(4.0), training=half)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["facts"]["norm"] == "4"
    if earlier:
        del state["facts"]["norm"]
        write_checkpoint(tmp_path / "last.pt", state)
    network, operator, _ = fit(tmp_path, operator=scaled(4.0), training=half, resume=True)
    assert network.normalizes == (not earlier)
    assert network.norm_of(operator) == (1 if earlier else 4)
    unrolled.save(tmp_path / "again.safetensors", network, operator)
    assert norm_in(tmp_path / "again.safetensors") == (None if earlier else 4)
