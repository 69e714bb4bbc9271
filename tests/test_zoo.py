"""The shipped weights still give the pictures that they gave when they were measured."""

import pytest

import unrolled
from unrolled import weights
from unrolled.data import embedded_images

# PSNR in dB of the middle of an embedded test image when the weights were published, float32.
PSNR = {"epgn-cs25": {"camera": 35.682, "cat": 31.348}}


def test_all_shipped_weights_are_here():
    assert set(PSNR) == set(weights.names())


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("name", PSNR)
def test_quality_is_as_published(name, bfloat16):
    images = embedded_images("test")
    middles = {key: images[key][:, 20:284, 100:364] for key in PSNR[name]}
    result = unrolled.evaluate(name, middles, bfloat16=bfloat16)
    for row in result["images"]:
        assert row["psnr"] == pytest.approx(PSNR[name][row["name"]], abs=0.02), row["name"]
