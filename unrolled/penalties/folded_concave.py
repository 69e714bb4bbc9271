"""Folded concave penalties, which stop growing at some magnitude: MCP, SCAD and capped l1."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.penalties.magnitudes import above, step_tensor
from unrolled.penalties.penalty import Formulas, parameter
from unrolled.penalties.piecewise_linear import PiecewiseLinearPenalty

_STEEP = 1e30  # the slope of a line that stands for a jump


@dataclass(frozen=True)
class MCP(PiecewiseLinearPenalty):
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
class SCAD(PiecewiseLinearPenalty):
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
class CappedL1(PiecewiseLinearPenalty):
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
