"""Penalties of single numbers with a smooth slope: powers, quotients, logarithm, exponential."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.penalty import Formulas, SmoothPenalty, parameter, step_tensor


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
