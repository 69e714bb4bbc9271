"""Losses by their names, alone and in sums."""

import math

import pytest

from unrolled.training.losses import (
    LOSSES,
    SSDU,
    HuberLoss,
    L1Loss,
    MSELoss,
    PhaseLoss,
    SSIMLoss,
    WeightedSum,
    as_loss,
)


def test_names_and_weights_make_losses():
    for name, cls in LOSSES.items():
        assert as_loss(name) == cls()
    total = WeightedSum([MSELoss(), SSIMLoss()], [1, 0.1])
    assert as_loss({"mse": 1, "ssim": 0.1}) == total
    assert as_loss({"mse": 1, "ssim": 0.1, "phases": 0.7}) == PhaseLoss(total, 0.7)
    assert as_loss(None) is None
    own = HuberLoss(0.3)
    assert as_loss(own) is own
    assert as_loss(lambda x, y: 3.0)  # a function of one's own

    class Mine:
        needs_truth = False

        def __call__(self, network, y, operator, truth=None, *, noise=None):
            return y.sum()

    mine = Mine()
    assert as_loss(mine) is mine


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("l2", "loss: must be one of mse, l1, log_mse, huber, .*equivariant, .*, got 'l2'"),
        ({"mse": 1, "l2": 1}, "loss: must be one of mse, .*, got 'l2'"),
        ({"mse": -1}, "weights must be finite numbers >= 0, got -1"),
        ({"mse": math.nan}, "weights must be finite numbers >= 0, got nan"),
        ({"mse": "1"}, "loss: mse must be a number, got '1'"),
        ({"mse": 0, "l1": 0}, "not all 0"),
        ({"mse": 1, "phases": 2}, r"decay must be in \(0, 1\], got 2"),
        ({}, "loss: must have at least one of mse, l1, log_mse, huber, charbonnier, ssim, edges with a weight"),
        ({"phases": 0.5}, "loss: must have at least one of"),
        ({"mse": 1, "ssdu": 1}, "loss: sums are of losses that compare images, and 'ssdu' learns from measurements"),
        (3, "loss: must be one of mse, .*, got 3"),
        (L1Loss, "loss: must be one of mse, .*, got <class"),
        ([SSDU()], "loss: must be one of mse"),
    ],
)
def test_what_is_no_loss_is_refused_and_says_what_there_is(given, message):
    with pytest.raises(ValueError, match=message):
        as_loss(given)
