"""Powers of the magnitude, from counting over the l1 norm to the ridge, and the elastic net."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.penalties.magnitudes import step_number, step_tensor
from unrolled.penalties.penalty import Formulas, SeparablePenalty, parameter
from unrolled.penalties.piecewise_linear import PiecewiseLinearPenalty
from unrolled.penalties.smooth_slope import SmoothPenalty


@dataclass(frozen=True)
class L1(SeparablePenalty):
    """ρ(z) = z. Its proximal map is soft thresholding."""

    formulas: ClassVar = Formulas(
        value="z", threshold="s", eta="z", dual="η", source="Tibshirani, J. R. Stat. Soc. B 58, 1996"
    )
    homogeneous: ClassVar[bool] = True

    def _value(self, z: Tensor) -> Tensor:
        return z

    def _slope(self, z: Tensor) -> Tensor:
        return torch.where(z.isnan(), torch.nan, torch.ones_like(z))

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        if v.is_complex() or not v.is_floating_point():
            return super().prox(v, step)
        if not isinstance(step, Tensor):
            return F.softshrink(v, step_number(step))  # one pass, but its threshold must be a number
        step = step_tensor(step, v)
        # sign(v)·(|v| − step)₊ without a sign: the fastest form forward and backward, in a network's innermost loop.
        return F.relu(v - step) - F.relu(-step - v)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return magnitude - step

    def threshold(self, step: Tensor | float) -> Tensor:
        return step_tensor(step)

    def dual(self, eta: Tensor) -> Tensor:
        return eta


@dataclass(frozen=True)
class L0(PiecewiseLinearPenalty):
    """ρ(z) = 1 if z ≠ 0, else 0. Its proximal map is hard thresholding at √(2·step)."""

    formulas: ClassVar = Formulas(
        value="1 if z ≠ 0, else 0",
        threshold="√(2s)",
        eta="∞ if z ≠ 0, else 0",
        dual="2 if η > 0, else 0",
        source="Donoho, Johnstone, Biometrika 81, 1994 (hard thresholding)",
    )
    prox_has_step_gradient: ClassVar[bool] = False

    def _value(self, z: Tensor) -> Tensor:
        return torch.where(z.isnan(), z, (z != 0).to(z.dtype))

    def _slope(self, z: Tensor) -> Tensor:
        return torch.where(z == 0, torch.inf, 0 * z.clamp(max=1))

    def _eta(self, z: Tensor) -> Tensor:
        return torch.where(z == 0, 0.0, torch.inf + z)

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        if isinstance(step, Tensor) or v.dtype not in (torch.float32, torch.float64):
            return super().prox(v, step)
        return F.hardshrink(v, math.sqrt(2 * step_number(step)))  # one pass, but its threshold must be a number

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return magnitude

    def threshold(self, step: Tensor | float) -> Tensor:
        return (2 * step_tensor(step)).sqrt()

    def dual(self, eta: Tensor) -> Tensor:
        return torch.where(eta.isnan(), eta, 2 * (eta > 0).to(eta.dtype))


@dataclass(frozen=True)
class Lp(SmoothPenalty):
    """ρ(z) = z^p for 0 < p < 1, between counting (p → 0) and l1 (p → 1). Its slope at 0 is infinite.

    Parameters
    ----------
    p : float, > 0 and < 1
    """

    formulas: ClassVar = Formulas(
        value="z^p",
        threshold="c(2 − p)/(2 − 2p), c = (2s(1 − p))^(1/(2 − p))",
        eta="z^(2 − p)/p",
        dual="(2 − p)(pη)^(p/(2 − p))",
        source="Marjanovic, Solo, IEEE Trans. Signal Process. 60, 2012",
    )

    p: float | Tensor = parameter(0.5, below=1.0)

    def _value(self, z: Tensor) -> Tensor:
        return z**self.p

    def _slope(self, z: Tensor) -> Tensor:
        return self.p * z ** (self.p - 1)

    def _curvature(self, z: Tensor) -> Tensor:
        return self.p * (self.p - 1) * z ** (self.p - 2)

    def _eta(self, z: Tensor) -> Tensor:
        return z ** (2 - self.p) / self.p

    def _landing(self, step: Tensor) -> Tensor:
        return (2 * (1 - self.p) * step) ** (1 / (2 - self.p))

    def threshold(self, step: Tensor | float) -> Tensor:
        return self._landing(step_tensor(step)) * (2 - self.p) / (2 * (1 - self.p))

    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        # With r = z/magnitude: r + k·r^(p − 1) = 1.
        k = self.p / (2 * (1 - self.p)) * (self._landing(step) / magnitude) ** (2 - self.p)
        return magnitude * self._ratio(k)

    def _ratio(self, k: Tensor) -> Tensor:
        """The larger root r of r + k·r^(p − 1) = 1."""
        if isinstance(self.p, float) and self.p == 1 / 2:
            return (1 + torch.cos(torch.acos((-(27**0.5) / 2) * k) * (2 / 3))) * (2 / 3)
        if isinstance(self.p, float) and self.p == 2 / 3:  # m⁴ − m + k = 0 of the cube root m
            m = 1 - k / 2
            for _ in range(4):
                cube = m * m * m
                m = (3 * m * cube - k) / (4 * cube - 1)
            return m * m * m
        r = 1 - k
        for _ in range(6):
            power = k * r ** (self.p - 1)
            r = r * (1 - (r + power - 1) / (r + (self.p - 1) * power))
        return r

    def dual(self, eta: Tensor) -> Tensor:
        return (2 - self.p) * (self.p * eta) ** (self.p / (2 - self.p))


@dataclass(frozen=True)
class Ridge(SeparablePenalty):
    """ρ(z) = z²/2, which constant dropout amounts to: η̂ = 1 everywhere, and nothing becomes exactly 0."""

    formulas: ClassVar = Formulas(
        value="z²/2",
        threshold="0",
        eta="1",
        dual="0 if η ≤ 1, else ∞",
        source="Hoerl, Kennard, Technometrics 12, 1970; Wager, Wang, Liang, Advances in Neural Information "
        "Processing Systems 26, 2013 (dropout)",
    )
    exact_zeros: ClassVar[bool] = False

    def _value(self, z: Tensor) -> Tensor:
        return z.square() / 2

    def _slope(self, z: Tensor) -> Tensor:
        return z

    def _eta(self, z: Tensor) -> Tensor:
        return torch.where(z.isnan(), z, 1.0)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return magnitude / (1 + step)

    def _prox(self, magnitude: Tensor, step: Tensor) -> Tensor:
        infinite = magnitude.isinf()  # with gradients that are finite
        return torch.where(infinite, magnitude, self._shrink(torch.where(infinite, 0.0, magnitude), step))

    def threshold(self, step: Tensor | float) -> Tensor:
        return 0 * step_tensor(step)

    def dual(self, eta: Tensor) -> Tensor:
        return torch.where(eta.isnan(), eta, torch.where(eta <= 1, 0.0, torch.inf).to(eta))


@dataclass(frozen=True)
class ElasticNet(SeparablePenalty):
    """ρ(z) = az + (1 − a)z²/2, between a ridge (a → 0) and l1 (a → 1), neither included (Zou, Hastie, 2005).

    Parameters
    ----------
    a : float, > 0 and < 1
        the part of l1.
    """

    formulas: ClassVar = Formulas(
        value="az + (1 − a)z²/2",
        threshold="as",
        eta="z/(a + (1 − a)z)",
        dual="a²η/(1 − (1 − a)η) for η < 1/(1 − a), then ∞",
        source="Zou, Hastie, J. R. Stat. Soc. B 67, 2005",
    )

    a: float | Tensor = parameter(0.9, below=1.0)

    def _value(self, z: Tensor) -> Tensor:
        return self.a * z + (1 - self.a) / 2 * z.square()

    def _slope(self, z: Tensor) -> Tensor:
        return self.a + (1 - self.a) * z

    def _eta(self, z: Tensor) -> Tensor:
        z = z.clamp(max=torch.finfo(z.dtype).max / 4)  # ∞/∞ has a value here
        return z / self._slope(z)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return (magnitude - step * self.a) / (1 + step * (1 - self.a))

    def threshold(self, step: Tensor | float) -> Tensor:
        return step_tensor(step) * self.a

    def dual(self, eta: Tensor) -> Tensor:
        room = 1 - (1 - self.a) * eta
        bounded = room > 0
        inside = self.a**2 * eta / torch.where(bounded, room, 1.0)
        return torch.where(bounded | eta.isnan(), inside, torch.inf)
