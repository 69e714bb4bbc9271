"""How training crops are varied: by what is asked for, as a function of seed, step and index."""

import math

import numpy as np
import pytest
import torch

from tests.helpers import picture
from unrolled.data import ImageData, RandomCrops
from unrolled.data.augmentation import Augmentation, bias_field

IMAGE = picture(30, 30) * 0.5 + 0.25


def crops(size=(22, 22), image=IMAGE, **options):
    return RandomCrops([image], size, seed=3, augmentation=Augmentation(**options))


def test_by_default_crops_are_what_they_were():
    assert torch.equal(crops().batch(2, 16), RandomCrops([IMAGE], 22, seed=3).batch(2, 16))
    as_bytes = (255 * IMAGE).byte()
    assert crops(image=as_bytes).sample(0, 0).dtype == torch.uint8


def test_without_orientations_crops_are_parts_of_the_image():
    for image, size in ((IMAGE, (22, 22)), (picture(40, 30), (22, 14))):
        windows = image.unfold(1, size[0], 1).unfold(2, size[1], 1).flatten(1, 2)
        for turned, all_are in ((False, True), (True, False)):
            batch = crops(size, image, orientations=turned).batch(0, 8)
            inside = [bool((windows == crop.unsqueeze(1)).flatten(2).all(2).any()) for crop in batch]
            assert all(inside) is all_are


def test_intensities_are_spread_over_their_range():
    plain, varied = crops().batch(0, 300), crops(intensity=(0.5, 1.5)).batch(0, 300)
    ratio = (varied / plain).flatten(1).double()
    assert (ratio.amax(1) - ratio.amin(1)).max() < 1e-5
    factors = ratio.mean(1)
    assert 0.5 <= factors.min() <= factors.max() <= 1.5
    assert float(factors.mean()) == pytest.approx(1, abs=5 * math.sqrt(1 / 12 / 300))
    assert float(factors.var()) == pytest.approx(1 / 12, rel=0.2)


def test_a_bias_field_is_smooth_and_within_its_range():
    field = torch.stack([bias_field(40, 50, 2.0, np.random.default_rng(seed)) for seed in range(200)]).double().log()
    assert float(field.amax((1, 2)).abs().max()) < 1e-6
    least = -field.amin((1, 2))  # b, drawn evenly
    assert 0 < least.min() < 0.1
    assert 1.9 < least.max() <= 2
    assert float(least.mean()) == pytest.approx(1, abs=0.15)
    # Of the second order: third differences are 0.
    for axis in (1, 2):
        assert float(torch.diff(field, 3, axis).abs().max()) < 1e-4
    assert float(torch.diff(field, 2, 1).abs().mean()) > 1e-5


@pytest.mark.parametrize("kind", [torch.float32, torch.complex64])
def test_a_bias_field_multiplies_crops(kind):
    image = IMAGE.to(kind) * (1j if kind.is_complex else 1)
    plain, varied = crops(image=image).batch(0, 20), crops(image=image, bias_field=1.0).batch(0, 20)
    assert varied.dtype == kind
    ratio = varied / plain
    assert float(ratio.imag.abs().max() if kind.is_complex else 0) < 1e-6
    ratio = ratio.real.double()
    assert 1 / math.e - 1e-6 <= ratio.min() <= ratio.max() <= 1 + 1e-6
    assert ratio.amin((1, 2, 3)).unique().numel() == 20


def test_every_place_of_a_batch_is_drawn_for_itself():
    source = crops(intensity=(0.5, 1.0), bias_field=0.5)
    whole = source.batch(5, 8)
    assert torch.equal(source.batch(5, 8, range(2, 5)), whole[2:5])
    assert not torch.equal(source.batch(6, 8), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intensity": (0, 1)}, r"data: intensity must be two numbers, 0 < low <= high <= 2, got \(0, 1\)"),
        ({"intensity": (1.5, 0.5)}, "intensity must be"),
        ({"intensity": [0.5, 10]}, "intensity must be"),
        ({"intensity": (0.5,)}, "intensity must be"),
        ({"intensity": (0.5, float("nan"))}, "intensity must be"),
        ({"intensity": "ab"}, "intensity must be"),
        ({"bias_field": -0.1}, r"bias_field must be in \[0, 5\], got -0.1"),
        ({"bias_field": float("nan")}, "bias_field must be"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    for make in (Augmentation, ImageData):
        with pytest.raises(ValueError, match=message):
            make(**options)
