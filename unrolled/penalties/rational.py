"""Rational penalties: quotients of the magnitude that are bounded."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.magnitudes import step_tensor
from unrolled.penalties.penalty import Formulas, parameter
from unrolled.penalties.smooth_slope import SmoothPenalty


@dataclass(frozen=True)
class _Quotient(SmoothPenalty):
    """height·u/(1 + u) with u = z/scale."""

    @property
    @abstractmethod
    def _scale(self) -> float | Tensor: ...

    @property
    @abstractmethod
    def _height(self) -> float | Tensor: ...

    def _value(self, z: Tensor) -> Tensor:
        z = z.clamp(max=torch.finfo(z.dtype).max / 4)  # ∞/∞ has a value here
        return self._height * (z / (self._scale + z))

    def _slope(self, z: Tensor) -> Tensor:
        return self._height / self._scale * (1 + z / self._scale) ** -2

    def _curvature(self, z: Tensor) -> Tensor:
        return -2 * self._height / self._scale**2 * (1 + z / self._scale) ** -3

    def _eta(self, z: Tensor) -> Tensor:
        return z * (1 + z / self._scale) ** 2 * (self._scale / self._height)

    def threshold(self, step: Tensor | float) -> Tensor:
        step = step_tensor(step)
        k = step * self._height / self._scale**2
        jumps = k > 0.5
        return self._scale * torch.where(jumps, (2 * torch.where(jumps, k, 0.5)).sqrt() - 0.5, k)

    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        # z = magnitude − (scale + magnitude)·d, where d(1 − d)² = q: of its three roots the smallest, by the triple
        # angle formula of sin². Solving for d keeps all digits where z is small beside the scale.
        q = step * self._height / self._scale**2 / (1 + magnitude / self._scale) ** 3
        d = torch.sin(torch.asin((q * (27 / 4)).clamp(max=1).sqrt()) / 3).square() * (4 / 3)
        return magnitude - (self._scale + magnitude) * d


@dataclass(frozen=True)
class TransformedL1(_Quotient):
    """ρ(z) = (a + 1)z/(a + z), between counting (a → 0) and l1 (a → ∞); ρ(1) = 1 (Zhang, Xin, 2018).

    Parameters
    ----------
    a : float > 0
    """

    formulas: ClassVar = Formulas(
        value="(a + 1)z/(a + z)",
        threshold="s(a + 1)/a for s ≤ a²/(2(a + 1)), then √(2s(a + 1)) − a/2",
        eta="z(a + z)²/(a(a + 1))",
        dual="numeric",
        source="Zhang, Xin, Math. Program. 169, 2018",
    )

    a: float | Tensor = parameter(1.0)

    @property
    def _scale(self) -> float | Tensor:
        return self.a

    @property
    def _height(self) -> float | Tensor:
        return self.a + 1


@dataclass(frozen=True)
class Geman(_Quotient):
    """ρ(z) = z/(z + γ) (Geman, Yang, 1995).

    Parameters
    ----------
    gamma : float > 0
        the value at which half of the bound 1 is reached.
    """

    formulas: ClassVar = Formulas(
        value="z/(z + γ)",
        threshold="s/γ for s ≤ γ²/2, then √(2s) − γ/2",
        eta="z(z + γ)²/γ",
        dual="numeric",
        source="Geman, Yang, IEEE Trans. Image Process. 4, 1995",
    )

    gamma: float | Tensor = parameter(1.0)

    @property
    def _scale(self) -> float | Tensor:
        return self.gamma

    @property
    def _height(self) -> float | Tensor:
        return 1.0
