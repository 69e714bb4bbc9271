"""Distances between images, against those of PyTorch and scikit-image, and sums and weights by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch.nn import functional

from tests.helpers import picture
from tests.training.losses.small import measured
from unrolled.metrics import psnr
from unrolled.training.losses import (
    CharbonnierLoss,
    EdgeLoss,
    HuberLoss,
    L1Loss,
    LogMSELoss,
    MSELoss,
    PhaseLoss,
    SSIMLoss,
    WeightedSum,
)

IMAGE, TRUTH = (torch.stack([picture(11, 12, seed), picture(11, 12, seed + 1)]).double() for seed in (0, 4))


def test_they_are_those_of_pytorch():
    for loss, expected in (
        (MSELoss(), functional.mse_loss),
        (L1Loss(), functional.l1_loss),
        (HuberLoss(0.1), lambda x, y: functional.huber_loss(x, y, delta=0.1)),
        (HuberLoss(1e3), lambda x, y: functional.mse_loss(x, y) / 2),
        (CharbonnierLoss(0.02), lambda x, y: torch.hypot(x - y, torch.tensor(0.02)).mean()),
    ):
        torch.testing.assert_close(loss.distance(IMAGE, TRUTH), expected(IMAGE, TRUTH), msg=str(loss))


def test_the_logarithm_is_psnr_of_each_image_down_to_its_floor():
    expected = -np.mean([float(psnr(x[None], y[None])) for x, y in zip(IMAGE, TRUTH, strict=True)])
    assert LogMSELoss(1e-30).distance(IMAGE, TRUTH).item() * 10 / math.log(10) == pytest.approx(expected)
    assert LogMSELoss(1e-4).distance(IMAGE, IMAGE).item() == pytest.approx(math.log(1e-4))
    # Of two images with errors of 1 and 100 units, each pulls as strongly as the other.
    image = TRUTH + torch.tensor([1e-3, 1e-1], dtype=torch.float64).view(2, 1, 1, 1) * IMAGE
    image.requires_grad_()
    (pull,) = torch.autograd.grad(LogMSELoss(1e-12).distance(image, TRUTH), image)
    small, large = ((pull[index] * (image - TRUTH)[index]).sum().item() for index in (0, 1))
    assert small == pytest.approx(large, rel=1e-4)


@pytest.mark.parametrize("loss", [MSELoss(), L1Loss(), LogMSELoss(), HuberLoss(0.1), CharbonnierLoss(0.02), EdgeLoss()])
def test_of_complex_images_it_is_that_of_magnitudes_of_the_difference(loss):
    turn = torch.polar(torch.ones(()), torch.tensor(0.7)).to(torch.complex128)
    expected = loss.distance(IMAGE, TRUTH)
    torch.testing.assert_close(loss.distance(turn * IMAGE, turn * TRUTH), expected)


@pytest.mark.parametrize("peak", [1.0, 2.5, "max"])
def test_similarity_is_that_of_scikit_image_and_not_clipped(peak):
    image = 1.3 * IMAGE - 0.2
    whites = [float(x.max()) if peak == "max" else peak for x in TRUTH]
    expected = [
        structural_similarity(x[0].numpy(), y[0].numpy(), data_range=white)
        for x, y, white in zip(image, TRUTH, whites, strict=True)
    ]
    assert SSIMLoss(peak=peak).distance(image, TRUTH).item() == pytest.approx(1 - np.mean(expected), rel=1e-10)
    angle = torch.polar(torch.ones_like(TRUTH), 3 * TRUTH)
    of_magnitudes = SSIMLoss(peak=peak).distance(IMAGE * angle, TRUTH * angle.conj())
    torch.testing.assert_close(of_magnitudes, SSIMLoss(peak=peak).distance(IMAGE, TRUTH))


def test_edges_are_differences_of_neighbours():
    error = (IMAGE - TRUTH).numpy()
    rows, columns = (np.abs(np.diff(error, axis=axis)).mean() for axis in (2, 3))
    assert EdgeLoss().distance(IMAGE, TRUTH).item() == pytest.approx((rows + columns) / 2)
    assert EdgeLoss().distance(TRUTH + 0.5, TRUTH).item() == pytest.approx(0, abs=1e-15)


def test_a_sum_weighs_its_parts():
    found = WeightedSum([MSELoss(), L1Loss()], [2, 0.5]).distance(IMAGE, TRUTH)
    torch.testing.assert_close(found, 2 * functional.mse_loss(IMAGE, TRUTH) + 0.5 * functional.l1_loss(IMAGE, TRUTH))


@pytest.mark.parametrize("kind", ["pixels", "coils"])
def test_phases_count_more_the_later_they_are(kind):
    net, operator, x, y = measured(kind)
    net.repeats = 3
    net.phases[0].layers[0].weight.data *= 0.3
    images = net.iterates(y, operator)[1:]
    errors = [(image - x).abs().square().mean().item() for image in images]
    expected = (0.25 * errors[0] + 0.5 * errors[1] + errors[2]) / 1.75
    assert PhaseLoss(MSELoss(), 0.5)(net, y, operator, x).item() == pytest.approx(expected)
    assert len(set(errors)) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HuberLoss(0), "HuberLoss: delta must be a finite number > 0, got 0"),
        (lambda: CharbonnierLoss(math.inf), "CharbonnierLoss: epsilon must be a finite number > 0"),
        (lambda: SSIMLoss(window=1), "SSIMLoss: window must be >= 2, got 1"),
        (lambda: SSIMLoss(peak=-1), "SSIMLoss: peak must be a finite number > 0, got -1"),
        (lambda: SSIMLoss(peak="largest"), "SSIMLoss: peak must be .* or 'max', got 'largest'"),
        (lambda: SSIMLoss(window=20).distance(IMAGE, TRUTH), "SSIMLoss: window must be within the images"),
        (lambda: EdgeLoss().distance(IMAGE[..., :1], TRUTH[..., :1]), "EdgeLoss: images must be at least 2 pixels"),
        (lambda: WeightedSum([MSELoss()], [-1]), "WeightedSum: weights must be finite numbers >= 0, got -1"),
        (lambda: WeightedSum([MSELoss()], [math.nan]), "WeightedSum: weights must be finite numbers >= 0, got nan"),
        (lambda: WeightedSum([MSELoss()], [0]), "WeightedSum: weights must be 1 numbers >= 0.* not all 0"),
        (lambda: WeightedSum([MSELoss()], [1, 2]), "WeightedSum: weights must be 1 numbers"),
        (lambda: WeightedSum([MSELoss()], ["1"]), "WeightedSum: weights must be a number, got '1'"),
        (lambda: WeightedSum(["mse"], [1]), "WeightedSum: losses must compare images"),
        (lambda: PhaseLoss(MSELoss(), 0), r"PhaseLoss: decay must be in \(0, 1\], got 0"),
        (lambda: PhaseLoss("mse"), "PhaseLoss: loss must compare images, as MSELoss or SSIMLoss does, got 'mse'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
