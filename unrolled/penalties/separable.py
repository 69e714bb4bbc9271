"""Penalties that act on each number alone."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.penalties.penalty import Penalty, step_tensor


@dataclass(frozen=True)
class L1(Penalty):
    """ρ(z) = z. Its proximal map is soft thresholding."""

    homogeneous: ClassVar[bool] = True

    def value(self, w: Tensor) -> Tensor:
        return w.abs()

    def derivative(self, w: Tensor) -> Tensor:
        return torch.where(w.isnan(), torch.nan, torch.ones_like(w.abs()))

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        if v.is_complex():
            return super().prox(v, step)
        if not isinstance(step, Tensor) and step > 0:
            return F.softshrink(v, step)  # one pass, but its threshold must be a number
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
class L0(Penalty):
    """ρ(z) = 1 if z ≠ 0, else 0. Its proximal map is hard thresholding at √(2·step)."""

    prox_has_step_gradient: ClassVar[bool] = False

    def value(self, w: Tensor) -> Tensor:
        magnitude = w.abs()
        return torch.where(magnitude.isnan(), magnitude, (magnitude != 0).to(magnitude.dtype))

    def derivative(self, w: Tensor) -> Tensor:
        return torch.where(w.abs() == 0, torch.inf, 0 * w.abs().clamp(max=1))

    def eta(self, w: Tensor) -> Tensor:
        return torch.where(w.abs() == 0, 0.0, torch.inf + w.abs())

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return magnitude

    def threshold(self, step: Tensor | float) -> Tensor:
        return (2 * step_tensor(step)).sqrt()

    def dual(self, eta: Tensor) -> Tensor:
        return torch.where(eta.isnan(), eta, 2 * (eta > 0).to(eta.dtype))


@dataclass(frozen=True)
class MCP(Penalty):
    """The minimax concave penalty (Zhang, 2010): γz − z²/(2b) up to z = bγ, constant bγ²/2 beyond.

    Its proximal map is firm thresholding for step < b, and hard thresholding at γ√(step·b) from there on.

    Parameters
    ----------
    gamma : float > 0
        slope at 0.
    b : float > 0
        concavity: the slope falls by 1/b per unit, and is 0 from bγ on.
    """

    gamma: float = 1.0
    b: float = 2.0

    def value(self, w: Tensor) -> Tensor:
        z = w.abs().clamp(max=self.b * self.gamma)
        return self.gamma * z - z.square() / (2 * self.b)

    def derivative(self, w: Tensor) -> Tensor:
        return (self.gamma - w.abs() / self.b).clamp(min=0)

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
