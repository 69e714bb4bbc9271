"""Roots of cubics, and penalties whose proximal map is the better one of two such roots."""

import math

import torch
from torch import Tensor

from unrolled.penalties.smooth_slope import SmoothPenalty


def extreme_roots(b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest real root of x³ + bx² + cx + d, to half of the digits.

    Parameters
    ----------
    b, c, d : Tensor
        of about the size of 1 or smaller: larger ones overflow earlier than they have to.
    """
    third = (c - b.square() / 3) / 3
    half = (c / 3 - b.square() * (2 / 27)) * b / 2 - d / 2
    discriminant = half.square() + third**3
    # One real root: of Cardano's two cube roots the one without cancellation; their product is −third.
    cube = torch.copysign((half.abs() + discriminant.clamp(min=0).sqrt()) ** (1 / 3), half)
    only = cube - third / torch.where(cube == 0, 1.0, cube)
    # Three: by the cosine of a third of an angle.
    radius = (-third).clamp(min=0).sqrt()
    angle = torch.acos((half / radius**3).nan_to_num().clamp(-1, 1)) / 3
    single = discriminant > 0
    low = torch.where(single, only, 2 * radius * torch.cos(angle + 2 * math.pi / 3)) - b / 3
    high = torch.where(single, only, 2 * radius * torch.cos(angle)) - b / 3
    return low, high


def polished(x: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """A root of x³ + bx² + cx + d from one that is close.

    Three steps of Newton's method, written so that small roots keep their relative precision.
    """
    for _ in range(3):
        slope = (3 * x + 2 * b) * x + c
        step = (x.square() * (2 * x + b) - d) / slope
        x = torch.where(slope.abs() > 1e-12, step, x)
    return x


class FlatPenalty(SmoothPenalty):
    """A penalty whose slope is not convex near 0: of two stationary points the smaller one may be the better one."""

    def _best(self, cubic: tuple[Tensor, Tensor, Tensor], unit: Tensor, magnitude: Tensor, step: Tensor) -> Tensor:
        """The better one of the extreme roots of a cubic, times the unit."""
        low, high = (
            torch.minimum((polished(root, *cubic) * unit).clamp(min=0), magnitude) for root in extreme_roots(*cubic)
        )
        return self._better(low, high, magnitude, step)

    def _better(self, low: Tensor, high: Tensor, magnitude: Tensor, step: Tensor) -> Tensor:
        """Of two candidates, low ≤ high, the one with the smaller objective."""
        rise = (high - low) * ((high + low) / 2 - magnitude) + step * (self._value(high) - self._value(low))
        return torch.where(rise > 0, low, high)
