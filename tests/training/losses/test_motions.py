"""Motions of images, against those of PyTorch and against an image whose rotation is known."""

import itertools
import math

import pytest
import torch

from unrolled.training.losses.motions import MOTIONS, rotated

DRAWS = 3000


@pytest.mark.parametrize("kind", [torch.float64, torch.complex64])
@pytest.mark.parametrize(
    ("name", "shape", "images"),
    [
        ("shifts", (2, 3), lambda x: [x.roll(by, (-2, -1)) for by in itertools.product(range(2), range(3))]),
        ("flips", (2, 3), lambda x: [x, x.flip(-1), x.flip(-2), x.flip(-2, -1)]),
        ("turns", (3, 3), lambda x: [x.rot90(times, (-2, -1)) for times in range(4)]),
    ],
)
def test_every_image_becomes_one_of_those_that_are_possible_all_equally_often(name, shape, images, kind):
    torch.manual_seed(0)
    x = torch.randn(2, *shape, dtype=kind)
    found = MOTIONS[name](x.expand(DRAWS, *x.shape))
    possible = torch.stack(images(x))
    often = (found[:, None] == possible).flatten(2).all(2).sum(0) / DRAWS
    p = 1 / len(possible)
    assert often.sum() == pytest.approx(1)
    assert (often - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / DRAWS)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 56)])
def test_images_are_rotated_about_their_middle(height, width, monkeypatch):
    rows, columns = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )

    def spot(angle: float) -> torch.Tensor:
        row, column = 9 * math.sin(angle), 9 * math.cos(angle)
        return torch.exp(-((rows - row).square() + (columns - column).square()) / 32)

    turns = torch.tensor([0.0, 0.1, 0.7])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: turns)
    found = rotated(torch.complex(spot(0.3), -spot(0.3)).expand(3, 1, height, width))
    expected = torch.stack([spot(0.3 - 2 * math.pi * turn) for turn in turns.tolist()]).unsqueeze(1)
    for part in (found.real, -found.imag):
        assert (part - expected).abs().max() < 0.02  # of linear interpolation


def test_a_motion_lets_gradients_through_and_keeps_the_kind():
    for name, move in MOTIONS.items():
        x = torch.randn(2, 1, 6, 6, dtype=torch.complex128, requires_grad=True)
        moved = move(x)
        assert moved.dtype == x.dtype
        assert moved.shape == x.shape
        (gradient,) = torch.autograd.grad(moved.abs().square().sum(), x)
        assert gradient.abs().max() > 0, name
