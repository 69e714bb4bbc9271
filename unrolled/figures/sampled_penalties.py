"""The three curves of a penalty: its dropout rule, its value, and its shrinkage."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unrolled.penalties import Penalty, SeparablePenalty
from unrolled.penalties.names import label
from unrolled.system.files import replacing

_POINTS = 401


@dataclass(frozen=True)
class Curve:
    """A sampled function.

    Attributes
    ----------
    x, y : Tensor, (points,), float64
        x does not fall; where the function jumps, x is repeated with the values on both sides.
    """

    x: Tensor
    y: Tensor

    def pieces(self) -> list[tuple[Tensor, Tensor]]:
        """(x, y) between the jumps."""
        ends = (self.x.diff() == 0).nonzero().flatten() + 1
        return list(zip(self.x.tensor_split(ends), self.y.tensor_split(ends), strict=True))


@dataclass(frozen=True)
class Curves:
    """What there is to see of a penalty.

    Attributes
    ----------
    label : str
        the penalty with its parameters.
    keep_probability : Curve
        α over |w|.
    value : Curve
        ρ over w.
    prox : Curve
        the shrunk value over v, with the strength as its step.
    """

    label: str
    strength: float
    keep_probability: Curve
    value: Curve
    prox: Curve


def telling_reach(penalties: Sequence[Penalty], strength: float) -> float:
    """A range of w in which what is peculiar to the penalties can be seen.

    Raises
    ------
    ValueError
        if the strength is not a finite number > 0, or a penalty is not one of single numbers.
    """
    _check_positive("strength", strength)
    for penalty in penalties:
        _check_separable(penalty)
    return max(4.0, *(math.ceil(2.5 * float(penalty.threshold(strength))) for penalty in penalties))


def penalty_curves(penalty: Penalty, strength: float = 1.0, reach: float | None = None) -> Curves:
    """The curves of a penalty of single numbers.

    Parameters
    ----------
    penalty : SeparablePenalty
    strength : float > 0
        of the dropout rule, and the step of the proximal map.
    reach : float > 0, optional
        the curves are sampled for |w| up to here; by default far enough to see the shrinkage.

    Raises
    ------
    ValueError
        if the penalty is not one of single numbers, or a number is out of its range.
    """
    _check_separable(penalty)
    reach = telling_reach([penalty], strength) if reach is None else reach
    _check_positive("strength", strength)
    _check_positive("reach", reach)
    try:
        return Curves(
            label(penalty),
            strength,
            sampled(lambda w: penalty.keep_probability(w, strength), 0, reach),
            sampled(penalty.value, -reach, reach),
            sampled(lambda v: penalty.prox(v, strength), -reach, reach),
        )
    except RuntimeError as error:  # of shapes that do not broadcast
        raise ValueError(f"{label(penalty)} cannot be drawn: its parameters differ between numbers") from error


def sampled(function: Callable[[Tensor], Tensor], low: float, high: float, points: int = _POINTS) -> Curve:
    """A curve of an elementwise function; where it jumps, at the very place."""
    x = torch.linspace(low, high, points, dtype=torch.float64)
    x = torch.where(x.abs() < 1e-12 * high, 0.0, x)  # the middle
    y = function(x)
    steep = (y.diff().abs() > 1.5 * x.diff()).nonzero().flatten()
    jumps = dict(zip(steep.tolist(), _narrowed(function, x, y, steep), strict=True))
    size = 1e-4 * float(y.max() - y.min())  # what is less than that in a point is steep, but no jump
    found = [(float(x[0]), float(y[0]))]
    for interval, point in enumerate(zip(x[1:].tolist(), y[1:].tolist(), strict=True)):
        place, before, after = jumps.get(interval, (0.0, 0.0, 0.0))
        sides = [(place, before), (place, after)] if abs(after - before) > size else []
        for place, there in [*sides, point]:
            if place > found[-1][0] or abs(there - found[-1][1]) > size:
                found.append((place, there))
    return Curve(*torch.tensor(found, dtype=torch.float64).T)


def _narrowed(
    function: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, intervals: Tensor
) -> list[tuple[float, float, float]]:
    """Where in each interval most happens, and the function's values before and after."""
    left, right, before, after = x[intervals], x[intervals + 1], y[intervals], y[intervals + 1]
    for _ in range(200):  # halvings: towards 0 floating point numbers become very fine
        middle = (left + right) / 2
        if ((middle == left) | (middle == right)).all():
            break
        there = function(middle)
        first = (there - before).abs() > (after - there).abs()
        left, before = torch.where(first, left, middle), torch.where(first, before, there)
        right, after = torch.where(first, middle, right), torch.where(first, there, after)
    place = torch.where(right.abs() < 1e-12, 0.0, right)  # at 0 an interval ends in the smallest of numbers
    return list(zip(place.tolist(), before.tolist(), after.tolist(), strict=True))


def write_csv(path: str | Path, drawn: Sequence[Curves]) -> None:
    """Write curves as lines of penalty, strength, curve, x, y.

    Raises
    ------
    ValueError
        if the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["penalty", "strength", "curve", "x", "y"])
        for curves in drawn:
            for name in ("keep_probability", "value", "prox"):
                curve: Curve = getattr(curves, name)
                for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True):
                    lines.writerow([curves.label, f"{curves.strength:g}", name, f"{x:.8g}", f"{y:.8g}"])


def _check_separable(penalty: Penalty) -> None:
    if not isinstance(penalty, SeparablePenalty):
        raise ValueError(f"{label(penalty)} cannot be drawn: it does not act on single numbers")


def _check_positive(name: str, number: float) -> None:
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {number!r}")
