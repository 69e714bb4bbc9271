"""The exponential penalty, whose slope decays as an exponential."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.penalty import Formulas, parameter
from unrolled.penalties.smooth_slope import SmoothPenalty


@dataclass(frozen=True)
class Exponential(SmoothPenalty):
    """ρ(z) = 1 − e^(−z/γ), also called Laplace penalty.

    Parameters
    ----------
    gamma : float > 0
        scale: values much larger cost 1 each.
    """

    formulas: ClassVar = Formulas(
        value="1 − e^(−z/γ)",
        threshold="s/γ for s ≤ γ², then where the larger root of z + (s/γ)e^(−z/γ) = v beats 0",
        eta="γ z e^(z/γ)",
        dual="numeric",
        source="Bradley, Mangasarian, Int. Conf. Machine Learning, 1998",
    )

    gamma: float | Tensor = parameter(1.0)

    def _value(self, z: Tensor) -> Tensor:
        return -torch.expm1(-z / self.gamma)

    def _slope(self, z: Tensor) -> Tensor:
        return torch.exp(-z / self.gamma) / self.gamma

    def _curvature(self, z: Tensor) -> Tensor:
        return -self._slope(z) / self.gamma

    def _eta(self, z: Tensor) -> Tensor:
        return self.gamma * z * torch.exp(z / self.gamma)

    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        # u + k·e^(−u) = w, that is u = w + W(−k·e^(−w)) of Lambert's W: Winitzki's approximation of it, which is right
        # at both ends, then two steps of Halley's method.
        w, k = magnitude / self.gamma, step / self.gamma**2
        m = (k.log() + 1 - w).exp().clamp(max=1)
        r = (2 - 2 * m).sqrt()
        u = w - m / (1 + r / (1 + (1 / (math.e - 1) - 0.5**0.5) * r))
        for _ in range(2):
            bend = k * torch.exp(-u)
            excess, slope = u - w + bend, 1 - bend
            u = u - excess * slope / (slope.square() - excess * bend / 2).clamp(min=torch.finfo(u.dtype).tiny)
        return u * self.gamma
