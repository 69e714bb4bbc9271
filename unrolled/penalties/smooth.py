"""Penalties of single numbers with a smooth slope."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.penalty import Formulas, SmoothPenalty, parameter


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

    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        half = (magnitude + self.epsilon) / 2
        root = half * (1 - step / half.square()).clamp(min=0).sqrt()  # of half² − step, which may overflow
        return (magnitude - self.epsilon) / 2 + root


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
        source="Mangasarian, Advances in Neural Information Processing 9, 1997",
    )

    gamma: float | Tensor = parameter(1.0)

    def _value(self, z: Tensor) -> Tensor:
        return -torch.expm1(-z / self.gamma)

    def _slope(self, z: Tensor) -> Tensor:
        return torch.exp(-z / self.gamma) / self.gamma

    def _curvature(self, z: Tensor) -> Tensor:
        return -self._slope(z) / self.gamma
