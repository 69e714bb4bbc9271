"""Operators as networks see them: with a norm of about 1, whatever the units of their measurements are."""

import math

import torch
from torch import Tensor

from unrolled.operators.intake import numbers_of
from unrolled.operators.linear_map import LinearMap, power_iteration
from unrolled.operators.operator import Composition, LinearOperator, Scaled
from unrolled.system.devices import full_precision

CLOSE = (0.5, 2.0)
"""Between these, a norm is left as it is: networks learn their steps, so 1 need not be met exactly."""

KEPT = "_with_unit_norm"
"""The attribute in which an operator keeps itself with the norm 1; no submodule, for it would contain itself."""


class UnitNorm(Scaled):
    """A/‖A‖ of an operator A of a known norm: what a network is given, with the measurements y/‖A‖.

    It differs from a multiple in its estimate. Where that of A is Aᴴy, which grows with ‖A‖², this is that of A/‖A‖;
    other estimates are in the units of the image, and stay as they are.

    Parameters
    ----------
    operator : LinearOperator
    size : float > 0
        ‖A‖, about.
    """

    def __init__(self, operator: LinearOperator, size: float):
        super().__init__(operator, 1 / size)
        self.size = size

    def estimate(self, y: Tensor) -> Tensor:
        return self.adjoint(y) if _estimates_by_adjoint(self.operator) else super().estimate(y)


def _estimates_by_adjoint(operator: LinearMap) -> bool:
    if isinstance(operator, Composition):
        return _estimates_by_adjoint(operator.outer) and _estimates_by_adjoint(operator.inner)
    if isinstance(operator, Scaled) and not isinstance(operator, UnitNorm):
        return _estimates_by_adjoint(operator.operator)
    return type(operator).estimate is LinearMap.estimate


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def norm_for_networks(operator: LinearOperator) -> float:
    """By what networks divide an operator and its measurements: ‖A‖ to three digits, or 1.

    It is found once, by ten steps of power iteration where the size of images is known and by `norm()` otherwise, and
    then kept with the operator, also while that learns, and with the weights. It is 1 for norms within `CLOSE`, and
    where the norm is not known.
    """
    if KEPT not in operator.__dict__:
        keep_norm(operator, _rough_norm(operator))
    kept = operator.__dict__[KEPT]
    return 1.0 if kept is None else float(kept.size)


def keep_norm(operator: LinearOperator, norm: float) -> None:
    """Let networks divide by this norm, or not at all if it is 1."""
    operator.__dict__[KEPT] = None if norm == 1 else UnitNorm(operator, norm)


def with_unit_norm(y: Tensor, operator: LinearOperator) -> tuple[Tensor, LinearOperator]:
    """y/‖A‖ and A/‖A‖, or both as they are, see `norm_for_networks`; images stay in their units."""
    norm = norm_for_networks(operator)
    return (y, operator) if norm == 1 else (y / norm, operator.__dict__[KEPT])


@torch.no_grad()
def _rough_norm(operator: LinearOperator) -> float:
    number, device = numbers_of(operator)
    with full_precision(torch.empty(0, dtype=number, device=device)):
        try:
            shape = operator.image_shape
            norm = operator.norm() if shape is None else power_iteration(operator, shape, 10)
        except ValueError:  # images of any size, and no norm of them is known
            return 1.0
    found = 1.0 if norm.is_meta else float(norm)
    left_alone = not (math.isfinite(found) and found > 0) or CLOSE[0] <= found <= CLOSE[1]
    return 1.0 if left_alone else float(f"{found:.3g}")  # so that rounding does not tell machines apart
