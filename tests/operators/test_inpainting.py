import numpy as np
import pytest
import torch

import unrolled
from tests.helpers import picture, write_matrix
from tests.operators.laws import OperatorLaws
from unrolled.metrics import psnr
from unrolled.networks import EPGN
from unrolled.operators import Inpainting

MASK = torch.tensor([[1.0, 0, 0, 1, 1], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0]])


class TestInpainting(OperatorLaws):
    operator_class = Inpainting
    cases = {
        "own mask": lambda: (Inpainting(MASK).double(), (2, 3, 3, 5)),
        "drawn": lambda: (Inpainting(keep=0.3, height=9, width=7, seed=1).double(), (2, 2, 9, 7)),
        "one row": lambda: (Inpainting(keep=0.01, height=1, width=9).double(), (2, 1, 1, 9)),
    }


def test_measures_the_pixels_of_the_mask():
    x = torch.rand(2, 3, 3, 5)
    y = Inpainting(MASK.bool())(x)
    for row in range(3):
        for column in range(5):
            expected = x[:, :, row, column] if MASK[row, column] else torch.zeros(2, 3)
            assert torch.equal(y[:, :, row, column], expected)


def test_a_drawn_mask_has_so_many_pixels_and_is_the_same_everywhere():
    mask = Inpainting(keep=0.3, height=4, width=5).mask
    # Written down once: another machine or a later version must draw the same mask.
    assert mask.nonzero().tolist() == [[0, 1], [1, 3], [2, 0], [3, 2], [3, 3], [3, 4]]
    for keep, count in [(1.0, 20), (0.5, 10), (1e-9, 1)]:
        assert Inpainting(keep=keep, height=4, width=5).mask.sum() == count
    assert not torch.equal(Inpainting(keep=0.3, height=4, width=5, seed=1).mask, mask)


def test_all_pixels_are_drawn_equally_often():
    often = sum(Inpainting(keep=0.25, height=4, width=4, seed=seed).mask for seed in range(400))
    assert (often - 100).abs().max() < 4.5 * (400 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("keep", [0.02, 0.1, 0.3, 0.6, 0.9])
def test_the_estimate_fills_holes(keep):
    x = torch.stack([picture(60, 41, seed) for seed in range(4)])
    operator = Inpainting(keep=keep, height=60, width=41)
    y = operator(x)
    found = operator.estimate(y)
    torch.testing.assert_close(operator(found), y)
    assert found.min() >= x.min() - 1e-6
    assert found.max() <= x.max() + 1e-6
    mean = y.sum((2, 3), keepdim=True) / operator.mask.sum()
    flat = y + (1 - operator.mask) * mean
    assert (psnr(found, x) > psnr(operator.adjoint(y), x) + 5).all()
    assert (psnr(found, x) > psnr(flat, x) + 3).all()


def test_the_estimate_is_linear_and_keeps_one_brightness_across_a_large_hole():
    mask = torch.ones(40, 64)
    mask[3:37, 5:61] = 0
    operator = Inpainting(mask).double()
    bright = torch.full((1, 1, 40, 64), 0.3, dtype=torch.float64)
    torch.testing.assert_close(operator.estimate(operator(bright)), bright)
    a, b = torch.rand(2, 1, 1, 40, 64, dtype=torch.float64)
    torch.testing.assert_close(
        operator.estimate(operator(2 * a - 3 * b)), 2 * operator.estimate(a) - 3 * operator.estimate(b)
    )


def test_masks_from_files_and_in_weights(tmp_path):
    path = write_matrix(tmp_path / "mask.npy", MASK.numpy().astype(np.uint8))
    assert torch.equal(Inpainting(path).mask, MASK)
    network, x = EPGN(1, 2).eval(), torch.rand(1, 1, 3, 5)
    for operator in (Inpainting(path), Inpainting(keep=0.5, height=3, width=5, seed=3)):
        unrolled.save(tmp_path / "a.safetensors", network, operator)
        _, again = unrolled.load(tmp_path / "a.safetensors")
        assert torch.equal(again(x), operator(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of mask and keep"),
        ({"mask": MASK, "keep": 0.5}, "exactly one of mask and keep"),
        ({"mask": torch.zeros(3, 5)}, "mask must sample something, but is empty"),
        ({"mask": MASK / 2}, "mask must be of 0 and 1, got values such as 0.5"),
        ({"mask": MASK * torch.nan}, "mask must be of 0 and 1, got values such as nan"),
        ({"mask": torch.ones(3)}, r"mask must be \(height, width\)"),
        ({"mask": MASK, "height": 4}, "height must be that of the mask, 3, got 4"),
        ({"keep": 0.0, "height": 3, "width": 3}, r"keep must be in \(0, 1\], got 0.0"),
        ({"keep": float("nan"), "height": 3, "width": 3}, "keep must be in"),
        ({"keep": 0.5, "height": 3}, "height and width must be >= 1 with keep, got 3 and None"),
        ({"keep": 0.5, "height": 3, "width": 0}, "height and width must be >= 1"),
        ({"keep": 0.5, "height": 3, "width": 3, "seed": -1}, "seed must be in"),
        ({"keep": 0.5, "height": 10**6, "width": 10**6}, "pixels can be drawn, got 1000000 × 1000000"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=f"Inpainting: .*{message}"):
        Inpainting(**options)


def test_images_of_another_size_are_refused():
    operator = Inpainting(MASK)
    for bad in (torch.zeros(1, 1, 5, 3), torch.zeros(3, 5), torch.zeros(1, 1, 3, 5, dtype=torch.complex64)):
        for apply, what in (
            (operator, "images"),
            (operator.adjoint, "measurements"),
            (operator.estimate, "measurements"),
        ):
            with pytest.raises(ValueError, match=rf"Inpainting: {what} must be real, \(batch, channel, 3, 5\)"):
                apply(bad)
