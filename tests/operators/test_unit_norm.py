"""The norm that networks divide by: found once, kept, and never where it is near 1 or not known."""

import copy
import pickle

import pytest
import torch

from tests.operators.laws import OperatorLaws
from unrolled.operators import BlockCompressedSensing, Dense, Identity, LinearOperator, Radon
from unrolled.operators.linear_map import AS_GIVEN
from unrolled.operators.unit_norm import UnitNorm, keep_norm, norm_for_networks, with_unit_norm


def with_norm(norm: float, rows: int = 7) -> Dense:
    """A matrix with singular values that fall quickly from a norm."""
    left, right = (
        torch.linalg.qr(torch.randn(size, rows, generator=torch.Generator().manual_seed(size)))[0]
        for size in (rows, 30)
    )
    return Dense((left * norm * 0.3 ** torch.arange(rows)) @ right.T, 5, 6)


class AnySize(LinearOperator):
    """Nine times the image."""

    def forward(self, x):
        return 9 * x

    def adjoint(self, y):
        return 9 * y


class TestUnitNorm(OperatorLaws):
    operator_class = UnitNorm
    cases = {"of a matrix": lambda: (UnitNorm(with_norm(40).double(), 38.0), (2, 2, 5, 6))}


@pytest.mark.parametrize("norm", [1e-6, 0.3, 2.5, 40.0, 12345.0])
def test_the_norm_is_found_to_three_digits(norm):
    assert norm_for_networks(with_norm(norm)) == float(f"{norm:.3g}")


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_norm(0.6),
        lambda: with_norm(1.9),
        lambda: Dense(torch.zeros(3, 30), 5, 6),
        lambda: AnySize(),  # a norm that is not known
        lambda: Dense(torch.ones(3, 30), 5, 6).to("meta"),
    ],
)
def test_others_are_left_alone(make):
    operator = make()
    y = torch.ones(1, 1, 7)
    assert norm_for_networks(operator) == 1
    assert with_unit_norm(y, operator) == (y, operator)


def test_measurements_of_any_size_are_divided_by_the_norm_that_the_operator_states():
    operator = 50.0 * BlockCompressedSensing(ratio=0.5, block=3)
    x = torch.rand(1, 1, 6, 9)
    y, unit = with_unit_norm(operator(x), operator)
    torch.testing.assert_close(y, operator.operator(x))
    torch.testing.assert_close(unit(x), y)


def test_first_images_are_in_the_units_of_the_image():
    x = torch.rand(1, 1, 5, 6)
    dense = with_norm(40)
    unit = dense.matrix / 40
    for operator in (dense, 3.0 * with_norm(40 / 3), with_norm(10) @ (4.0 * Identity())):
        found = with_unit_norm(operator(x), operator)
        torch.testing.assert_close(found[1].estimate(found[0]).flatten(), unit.T @ unit @ x.flatten())
    radon, image = Radon(9, 12, 12), torch.rand(1, 1, 12, 12)
    y = radon(image)
    found = with_unit_norm(y, radon)
    torch.testing.assert_close(found[1].estimate(found[0]), radon.estimate(y))


def test_the_norm_stays_with_the_operator_and_its_copies():
    operator = with_norm(40)
    assert norm_for_networks(operator) == 40
    with torch.no_grad():
        operator.matrix.mul_(2)  # as if it were learned
    for again in (operator, copy.deepcopy(operator), pickle.loads(pickle.dumps(operator)), operator.double()):
        assert norm_for_networks(again) == 40
        assert again.__dict__[AS_GIVEN].operator is again
        assert set(again.state_dict()) == {"matrix"}
    keep_norm(operator, 1.0)
    assert norm_for_networks(operator) == 1
