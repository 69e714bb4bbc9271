"""Arctangents of the magnitude."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.cubic_roots import FlatPenalty, extreme_roots, polished
from unrolled.penalties.penalty import Formulas, parameter
from unrolled.penalties.smooth_slope import SmoothPenalty


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
class ScaledArctan(FlatPenalty):
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
