"""The root of the ramp filter: a root, of the filter, that makes tomography even."""

import numpy as np
import pytest
import torch

from tests.operators.laws import OperatorLaws
from unrolled.operators import Radon
from unrolled.operators.root_ramp import RootRamp


class TestRootRamp(OperatorLaws):
    operator_class = RootRamp
    cases = {"of an odd number": lambda: (RootRamp(9).double(), (2, 1, 4, 9))}


def test_applied_twice_it_is_the_ramp_filter():
    y = torch.rand(1, 1, 3, 40)
    root = RootRamp(40)
    taps = [-1 / (np.pi * lag) ** 2 if lag % 2 else 0.25 * (lag == 0) for lag in range(-39, 40)]
    expected = np.stack([np.convolve(row, taps)[39:79] for row in y[0, 0].numpy()])
    torch.testing.assert_close(root(root(y))[0, 0], torch.from_numpy(expected).float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(root.estimate(root(y)), y, atol=1e-5, rtol=0)


def test_singular_values_of_tomography_lie_closer_together():
    operator = Radon(40, 11, 11).double()
    unit = torch.eye(121, dtype=torch.float64).view(121, 1, 11, 11)
    spread = []
    for each in (operator, RootRamp(operator.detectors).double() @ operator):
        values = torch.linalg.svdvals(each(unit).flatten(1))
        spread.append(float(values[0] / values[90]))
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.parametrize("make", [lambda: RootRamp(0), lambda: RootRamp(9)(torch.ones(1, 1, 2, 8))])
def test_other_numbers_of_detectors_are_refused(make):
    with pytest.raises(ValueError, match=r"RootRamp: .*detectors"):
        make()
