"""Penalties of single numbers whose proximal maps are straight lines in pieces."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.penalties.penalty import Formulas, SeparablePenalty, above, parameter, step_tensor

_STEEP = 1e30  # the slope of a line that stands for a jump


class _Lines(SeparablePenalty):
    """A penalty whose `_shrink` is harmless for all magnitudes."""

    def _kept(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return above(magnitude, self.threshold(step)) * self._shrink(magnitude, step)


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
            return F.softshrink(v, float(step_tensor(step)))  # one pass, but its threshold must be a number
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
class L0(_Lines):
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
        return F.hardshrink(v, float(self.threshold(step)))  # one pass, but its threshold must be a number

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return magnitude

    def threshold(self, step: Tensor | float) -> Tensor:
        return (2 * step_tensor(step)).sqrt()

    def dual(self, eta: Tensor) -> Tensor:
        return torch.where(eta.isnan(), eta, 2 * (eta > 0).to(eta.dtype))


@dataclass(frozen=True)
class MCP(_Lines):
    """The minimax concave penalty (Zhang, 2010): γz − z²/(2b) up to z = bγ, constant bγ²/2 beyond.

    Its proximal map is firm thresholding for step < b, and hard thresholding at γ√(step·b) from there on.

    Parameters
    ----------
    gamma : float > 0
        slope at 0.
    b : float > 0
        concavity: the slope falls by 1/b per unit, and is 0 from bγ on.
    """

    formulas: ClassVar = Formulas(
        value="γz − z²/(2b) up to z = bγ, then bγ²/2",
        threshold="γs for s < b, then γ√(sb)",
        eta="bz/(bγ − z) up to z = bγ, then ∞",
        dual="γ²bη/(η + b)",
        source="Zhang, Ann. Stat. 38, 2010",
    )

    gamma: float | Tensor = parameter(1.0)
    b: float | Tensor = parameter(2.0)

    def _value(self, z: Tensor) -> Tensor:
        top = self.b * self.gamma
        z = torch.where(z < top, z, top + 0 * z.clamp(max=1))  # NaN stays
        return self.gamma * z - z.square() / (2 * self.b)

    def _slope(self, z: Tensor) -> Tensor:
        return (self.gamma - z / self.b).clamp(min=0)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        # A deduction that falls to 0 at bγ. From step = b on the map jumps there or beyond, and deducts nothing.
        ratio = step / self.b
        convex = ratio < 1
        per_unit = torch.where(convex, ratio, 0.0) / torch.where(convex, 1 - ratio, 1.0)
        return F.relu(magnitude - F.relu(self.b * self.gamma - magnitude) * per_unit)

    def threshold(self, step: Tensor | float) -> Tensor:
        step = step_tensor(step)
        return self.gamma * torch.where(step < self.b, step, (step * self.b).sqrt())

    def dual(self, eta: Tensor) -> Tensor:
        return self.gamma**2 * self.b * torch.where(eta.isinf(), 1.0, eta / (eta + self.b))


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


@dataclass(frozen=True)
class SCAD(_Lines):
    """The smoothly clipped absolute deviation (Fan, Li, 2001): γz up to z = γ, then bending, constant from aγ on.

    Parameters
    ----------
    gamma : float > 0
        slope at 0, and the value up to which it holds.
    a : float > 2
        the slope falls to 0 between γ and aγ.
    """

    formulas: ClassVar = Formulas(
        value="γz up to z = γ, then (2aγz − z² − γ²)/(2(a − 1)) up to aγ, then γ²(a + 1)/2",
        threshold="γs for s ≤ a + 1, then γ√(s(a + 1))",
        eta="z/γ up to z = γ, then (a − 1)z/(aγ − z) up to aγ, then ∞",
        dual="γ²η up to η = 1, then γ²((a + 1)η − 1)/(η + a − 1)",
        source="Fan, Li, J. Am. Stat. Assoc. 96, 2001",
    )

    gamma: float | Tensor = parameter(1.0)
    a: float | Tensor = parameter(3.7, above=2.0)

    def _value(self, z: Tensor) -> Tensor:
        u = z / self.gamma
        bent = torch.where(u < self.a, u, self.a + 0 * u.clamp(max=1))  # NaN stays
        bent = (bent - 1).clamp(min=0)  # how far into the bend
        line = u.clamp(max=1) + bent - bent.square() / (2 * (self.a - 1))
        return self.gamma**2 * line

    def _slope(self, z: Tensor) -> Tensor:
        return self.gamma * ((self.a - z / self.gamma) / (self.a - 1)).clamp(0, 1)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        # Soft thresholding deducts γ·step; through the bend the deduction falls to 0 at aγ. From step = a − 1 on it
        # drops to 0 at once, in between; from a + 1 on nothing is deducted where the map is not 0.
        ratio = step / (self.a - 1)
        convex = ratio < 1
        drop = torch.where(step > self.a + 1, 0.0, (self.a + 1 + step) / 2)
        end = self.gamma * torch.where(convex, self.a, drop)
        per_unit = torch.where(convex, ratio, _STEEP) / torch.where(convex, 1 - ratio, 1.0)
        most = step * self.gamma
        return magnitude - (most - F.relu(most - F.relu(end - magnitude) * per_unit))

    def threshold(self, step: Tensor | float) -> Tensor:
        step = step_tensor(step)
        return self.gamma * torch.where(step <= self.a + 1, step, (step * (self.a + 1)).sqrt())

    def dual(self, eta: Tensor) -> Tensor:
        finite = torch.where(eta.isinf(), 1.0, eta)
        bent = torch.where(eta.isinf(), self.a + 1, ((self.a + 1) * finite - 1) / (finite + self.a - 1))
        return self.gamma**2 * torch.where(eta <= 1, eta, bent)


@dataclass(frozen=True)
class CappedL1(_Lines):
    """ρ(z) = min(z, θ) (Zhang, 2010).

    Parameters
    ----------
    theta : float > 0
        the cap: larger values are not penalised more.
    """

    formulas: ClassVar = Formulas(
        value="min(z, θ)",
        threshold="s for s ≤ 2θ, then √(2sθ)",
        eta="z up to z = θ, then ∞",
        dual="η up to η = θ, then 2θ − θ²/η",
        source="Zhang, J. Mach. Learn. Res. 11, 2010",
    )

    theta: float | Tensor = parameter(1.0)

    def _value(self, z: Tensor) -> Tensor:
        return torch.where(z >= self.theta, self.theta, z)

    def _slope(self, z: Tensor) -> Tensor:
        return torch.where(z.isnan(), z, (z < self.theta).to(z.dtype))

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        free = torch.where(step > 2 * self.theta, 0.0, self.theta + step / 2)  # from there on
        return magnitude - step * above(free, magnitude)

    def threshold(self, step: Tensor | float) -> Tensor:
        step = step_tensor(step)
        return torch.where(step <= 2 * self.theta, step, (2 * step * self.theta).sqrt())

    def dual(self, eta: Tensor) -> Tensor:
        beyond = eta > self.theta
        return torch.where(beyond, 2 * self.theta - self.theta**2 / torch.where(beyond, eta, 1.0), eta)
