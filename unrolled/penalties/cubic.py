"""Penalties of single numbers whose proximal map is a root of a cubic: arctangents and the Cauchy penalty."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.penalty import Formulas, SmoothPenalty, parameter, step_tensor


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


class _Flat(SmoothPenalty):
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


@dataclass(frozen=True)
class Arctan(SmoothPenalty):
    """ρ with ρ' = 1/(1 + az + a²z²), an arctangent that stays close to l1 at small values (Selesnick, Bayram, 2014).

    Parameters
    ----------
    a : float > 0
        concavity: ρ''(0) = −a; its slope at 0 is 1.
    """

    formulas: ClassVar = Formulas(
        value="(2/(a√3))(atan((1 + 2az)/√3) − π/6)",
        threshold="s for s ≤ 1/a, then where the largest root of (z − v)(1 + az + a²z²) + s = 0 beats 0",
        eta="z(1 + az + a²z²)",
        dual="numeric",
        source="Selesnick, Bayram, IEEE Trans. Signal Process. 62, 2014",
    )

    a: float | Tensor = parameter(1.0)

    def _value(self, z: Tensor) -> Tensor:
        y = self.a * z.clamp(max=torch.finfo(z.dtype).max ** 0.5)
        # The difference of the two arctangents, without cancellation.
        return torch.atan(3**0.5 * (y / (2 + y))) * (2 / 3**0.5) / self.a

    def _slope(self, z: Tensor) -> Tensor:
        y = self.a * z
        return 1 / (1 + y + y.square())

    def _curvature(self, z: Tensor) -> Tensor:
        return -self.a * (1 + 2 * self.a * z) * self._slope(z).square()

    def _eta(self, z: Tensor) -> Tensor:
        y = self.a * z
        return z * (1 + y + y.square())

    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        w, k = self.a * magnitude, self.a * step
        unit = torch.maximum(w, k.sqrt().clamp(min=1))
        b, part = (1 - w) / unit, 1 / unit
        cubic = b, b * part, (k - w) / unit * part.square()
        return polished(extreme_roots(*cubic)[1], *cubic) * unit / self.a


@dataclass(frozen=True)
class ScaledArctan(_Flat):
    """ρ(z) = (2/π)·atan(z/γ), bounded by 1.

    Its slope is flat at 0: beyond step = 4πγ²/(3√3) the proximal map jumps, at first not from 0 but from a small value.

    Parameters
    ----------
    gamma : float > 0
        the value at which half of the bound 1 is reached.
    """

    formulas: ClassVar = Formulas(
        value="(2/π) atan(z/γ)",
        threshold="2s/(πγ), or where the largest root of (z − v)(γ² + z²) + 2γs/π = 0 beats 0 if that is less",
        eta="πz(γ² + z²)/(2γ)",
        dual="numeric",
        source="Candès, Wakin, Boyd, J. Fourier Anal. Appl. 14, 2008",
    )

    gamma: float | Tensor = parameter(1.0)

    def _value(self, z: Tensor) -> Tensor:
        return torch.atan(z / self.gamma) * (2 / math.pi)

    def _slope(self, z: Tensor) -> Tensor:
        return 2 / math.pi / self.gamma / (1 + (z / self.gamma).square())

    def _curvature(self, z: Tensor) -> Tensor:
        u = z / self.gamma
        return -4 / math.pi / self.gamma**2 * u * (1 + u.square()) ** -2

    def _eta(self, z: Tensor) -> Tensor:
        return z * (1 + (z / self.gamma).square()) * (self.gamma * math.pi / 2)

    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        w, k = magnitude / self.gamma, 2 / math.pi * step / self.gamma**2
        unit = torch.maximum(w, k.sqrt().clamp(min=1))
        part = 1 / unit
        cubic = -w / unit, part.square(), (k - w) / unit * part.square()
        return self._best(cubic, unit * self.gamma, magnitude, step)


@dataclass(frozen=True)
class Cauchy(_Flat):
    """ρ(z) = log(1 + z²/γ²). It is a ridge at small values: they shrink, but never to exactly 0.

    Its proximal map is continuous for step ≤ 4γ²; beyond it jumps from a small value to a large one.

    Parameters
    ----------
    gamma : float > 0
        scale, from where on values are taken to be large.
    """

    formulas: ClassVar = Formulas(
        value="log(1 + z²/γ²)",
        threshold="0",
        eta="(γ² + z²)/2",
        dual="2 log h + 2/h − 2, h = max(2η/γ², 1)",
        source="Karakuş, Mayo, Achim, IEEE Trans. Signal Process. 68, 2020",
    )
    exact_zeros: ClassVar[bool] = False

    gamma: float | Tensor = parameter(1.0)

    def _folded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """u = z/γ and the smaller one of u and 1/u, which neither overflows nor has NaN gradients."""
        u = z / self.gamma
        return u, torch.where(u > 1, 1 / u.clamp(min=1), u)

    def _value(self, z: Tensor) -> Tensor:
        u, small = self._folded(z)
        return torch.log1p(small.square()) + 2 * u.clamp(min=1).log()

    def _slope(self, z: Tensor) -> Tensor:
        small = self._folded(z)[1]
        return 2 / self.gamma * (small / (1 + small.square()))

    def _curvature(self, z: Tensor) -> Tensor:
        part = 1 / (1 + (z / self.gamma).square())
        return 2 / self.gamma**2 * part * (2 * part - 1)

    def _eta(self, z: Tensor) -> Tensor:
        return (self.gamma**2 + z.square()) / 2

    def threshold(self, step: Tensor | float) -> Tensor:
        return 0 * step_tensor(step)

    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        w, k = magnitude / self.gamma, step / self.gamma**2
        unit = torch.maximum(w, k.sqrt().clamp(min=1))
        part = 1 / unit
        b = -w / unit
        cubic = b, (1 + 2 * k) * part * part, b * part * part
        return self._best(cubic, unit * self.gamma, magnitude, step)

    def dual(self, eta: Tensor) -> Tensor:
        h = (2 * eta / self.gamma**2).clamp(min=1)
        return 2 * (h.log() + 1 / h - 1)
