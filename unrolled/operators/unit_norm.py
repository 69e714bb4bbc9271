"""Operators as networks are given them: with a norm of about 1, whatever the units of their measurements are."""

import json
import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from unrolled.operators.intake import numbers_of
from unrolled.operators.largest_singular_value import power_iteration
from unrolled.operators.linear_map import AS_GIVEN, LinearMap
from unrolled.operators.operator import Composition, LinearOperator, Scaled
from unrolled.system.devices import full_precision
from unrolled.system.recipes import describe

CLOSE = (0.5, 2.0)
"""Between these, a norm is left as it is: networks learn their steps, so 1 need not be met exactly."""

NORM = "_norm_for_networks"
"""The attribute in which an operator keeps the number that networks divide by."""


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


def norm_for_networks(operator: LinearOperator) -> float:
    """By what networks divide an operator and its measurements, or 1.

    It is ‖A‖ to three digits; of an operator with a conditioner C it is ‖CA‖, and networks are given C y and C A. It is
    found once, by ten steps of power iteration where the size of images is known and by `norm()` otherwise, and then
    kept with the operator, also while that learns, and with the weights. It is 1, and the operator left as it is, where
    ‖A‖ is within `CLOSE` or not known.
    """
    if NORM not in operator.__dict__:
        keep_norm(operator, once_per_recipe(operator, "for networks", _norm_in_digits))
    norm = float(operator.__dict__[NORM])
    if norm != 1 and AS_GIVEN not in operator.__dict__:
        operator.__dict__[AS_GIVEN] = UnitNorm(_conditioned(operator), norm)
    return norm


# A graph has it as a constant. This is all that torch.compiler.assume_constant_result does, which loads the compiler.
norm_for_networks._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _norm_in_digits(operator: LinearOperator) -> float:
    norm = _rough_norm(operator)
    left_alone = not (math.isfinite(norm) and norm > 0) or CLOSE[0] <= norm <= CLOSE[1]
    # Three digits, so that rounding does not tell machines apart.
    return 1.0 if left_alone else float(f"{_rough_norm(_conditioned(operator)):.3g}")


_FOUND: OrderedDict[tuple[str, ...], float] = OrderedDict()

MOST_FOUND = 1024


def once_per_recipe(operator: LinearOperator, what: str, find: Callable[[LinearOperator], float]) -> float:
    """A number of an operator; where that takes long, found once for all that are made alike: those drawn come back.

    Parameters
    ----------
    operator : LinearOperator
    what : str
        which number.
    find : callable operator ↦ number
        whose result depends on the operator alone.
    """
    number, device = numbers_of(operator)
    if not operator.norm_takes_long or device.type == "meta" or operator.state_dict():
        return find(operator)
    key = (what, json.dumps(describe(operator)), str(number), device.type)
    if key not in _FOUND:
        _FOUND[key] = find(operator)
        if len(_FOUND) > MOST_FOUND:
            _FOUND.popitem(last=False)
    return _FOUND[key]


def keep_norm(operator: LinearOperator, norm: float) -> None:
    """Let networks divide by this norm, or not at all if it is 1."""
    operator.__dict__[NORM] = norm
    operator.__dict__.pop(AS_GIVEN, None)


def with_unit_norm(y: Tensor, operator: LinearOperator) -> tuple[Tensor, LinearOperator]:
    """C y/‖CA‖ and C A/‖CA‖, or both as they are, see `norm_for_networks`; images stay in their units."""
    norm = norm_for_networks(operator)
    if norm == 1:
        return y, operator
    given = operator.__dict__[AS_GIVEN]
    # What is around the operator are the conditioner and the factor.
    return (y if given.operator is operator else given.operator.outer(y)) / norm, given


def _conditioned(operator: LinearOperator) -> LinearOperator:
    conditioner = operator.conditioner()
    if conditioner is None:
        return operator
    number, device = numbers_of(operator)
    return Composition(conditioner.to(device, number), operator)  # type: ignore[arg-type]


@torch.no_grad()
def _rough_norm(operator: LinearOperator) -> float:
    number, device = numbers_of(operator)
    with full_precision(torch.empty(0, dtype=number, device=device)):
        try:
            shape = operator.image_shape
            norm = operator.norm() if shape is None else power_iteration(operator, shape, 10)
        except ValueError:  # images of any size, and no norm of them is known
            return 1.0
    return 1.0 if norm.is_meta else float(norm)
