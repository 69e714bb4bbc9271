"""The shipped weights still give the pictures that they gave when they were measured."""

import pytest
import torch

import unrolled
from tests.pairs import FULL
from unrolled import weights
from unrolled.data import embedded_images

# PSNR in dB of the middle of an embedded test image when the weights were published, float32.
PSNR = {
    "epgn-cs25": {"camera": 35.682, "cat": 31.348},
    "epgn-cs25-small": {"camera": 35.407, "cat": 31.211},
    "epgn-mri20": {"camera": 36.828, "cat": 29.689},
}


def test_all_shipped_weights_are_here():
    assert set(PSNR) == set(weights.names())


@pytest.mark.parametrize(("name", "bfloat16"), [*((name, False) for name in PSNR), ("epgn-cs25", True)])
def test_quality_is_as_published(name, bfloat16):
    images = embedded_images("test")
    side = 256 if name == "epgn-mri20" else 264
    chosen = PSNR[name] if FULL else ["cat"]
    middles = {key: images[key][:, 20 : 20 + side, 100 : 100 + side] for key in chosen}
    result = unrolled.evaluate(name, middles, bfloat16=bfloat16)
    for row in result["images"]:
        assert row["psnr"] == pytest.approx(PSNR[name][row["name"]], abs=0.02), row["name"]


def test_the_small_network_is_like_the_one_it_was_made_from_and_has_a_fifth_of_its_parameters():
    (dense, operator), (small, same) = (unrolled.load(name) for name in ("epgn-cs25", "epgn-cs25-small"))
    assert operator.hash() == same.hash()
    assert small.parameter_count < 0.22 * dense.parameter_count
    assert torch.equal(operator.autocorrelation, same.autocorrelation)
    assert operator.fitted
    assert small.compacted().arguments == small.arguments  # nothing in it is dead
    image = embedded_images("test")["camera"][:, :99, :99]
    difference = unrolled.reconstruct(image, small, operator) - unrolled.reconstruct(image, dense, operator)
    assert float(difference.square().mean().sqrt()) < 0.02
