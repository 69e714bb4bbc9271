"""Penalties of single numbers whose proximal maps are straight lines in pieces."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.penalties.penalty import Formulas, SeparablePenalty, parameter, step_tensor


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
        return F.relu(v - step) + (v + step).clamp(max=0)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return magnitude - step

    def threshold(self, step: Tensor | float) -> Tensor:
        return step_tensor(step)

    def dual(self, eta: Tensor) -> Tensor:
        return eta


@dataclass(frozen=True)
class L0(SeparablePenalty):
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

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return magnitude

    def threshold(self, step: Tensor | float) -> Tensor:
        return (2 * step_tensor(step)).sqrt()

    def dual(self, eta: Tensor) -> Tensor:
        return torch.where(eta.isnan(), eta, 2 * (eta > 0).to(eta.dtype))


@dataclass(frozen=True)
class MCP(SeparablePenalty):
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
        convex = step < self.b
        # Where the step is too large for the formula a harmless one stands in, so that no gradient becomes NaN.
        ratio = torch.where(convex, step / self.b, 0.5)
        firm = (magnitude - step * self.gamma) / (1 - ratio)
        return torch.where(convex & (magnitude < self.b * self.gamma), firm, magnitude)

    def threshold(self, step: Tensor | float) -> Tensor:
        step = step_tensor(step)
        return torch.where(step < self.b, step * self.gamma, self.gamma * (step * self.b).sqrt())

    def dual(self, eta: Tensor) -> Tensor:
        return self.gamma**2 * self.b * torch.where(eta.isinf(), 1.0, eta / (eta + self.b))
