"""Logarithms of the magnitude and of its square."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.cubic_roots import FlatPenalty
from unrolled.penalties.magnitudes import step_tensor
from unrolled.penalties.penalty import Formulas, parameter
from unrolled.penalties.smooth_slope import SmoothPenalty


@dataclass(frozen=True)
class LogSum(SmoothPenalty):
    """ρ(z) = log(1 + z/ε), the penalty behind reweighted l1 (Candès, Wakin, Boyd, 2008).

    Parameters
    ----------
    epsilon : float > 0
        the smaller, the closer to counting; its slope at 0 is 1/ε.
    """

    formulas: ClassVar = Formulas(
        value="log(1 + z/ε)",
        threshold="s/ε for s ≤ ε², then the root in [2√s − ε, s/ε] where the larger solution beats 0",
        eta="z(ε + z)",
        dual="2 log((r + ε)/(2ε)) − (r − ε)²/(4η), r = √(ε² + 4η)",
        source="Candès, Wakin, Boyd, J. Fourier Anal. Appl. 14, 2008",
    )

    epsilon: float | Tensor = parameter(1.0)

    def _value(self, z: Tensor) -> Tensor:
        return torch.log1p(z / self.epsilon)

    def _slope(self, z: Tensor) -> Tensor:
        return 1 / (self.epsilon + z)

    def _curvature(self, z: Tensor) -> Tensor:
        return -self._slope(z).square()

    def _eta(self, z: Tensor) -> Tensor:
        return z * (self.epsilon + z)

    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        half = (magnitude + self.epsilon) / 2
        drop = step / half
        return magnitude - drop / (1 + (1 - drop / half).clamp(min=0).sqrt())

    def dual(self, eta: Tensor) -> Tensor:
        infinite = eta.isinf()
        finite = torch.where(infinite, 1.0, eta)
        w = 2 * finite / ((self.epsilon**2 + 4 * finite).sqrt() + self.epsilon)  # η̂(w) = η
        tilted = 2 * self._value(w) - w / (self.epsilon + w)
        return torch.where(infinite, eta, tilted)


@dataclass(frozen=True)
class Cauchy(FlatPenalty):
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
