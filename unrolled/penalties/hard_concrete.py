"""Hard concrete gates as a penalty."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.curve import Curve
from unrolled.penalties.interpolated import CostlyCurve
from unrolled.penalties.numeric import NumericPenalty
from unrolled.penalties.penalty import Formulas, parameter
from unrolled.penalties.quadrature import gauss_legendre
from unrolled.penalties.root_finding import derivative_of, geometric_grid
from unrolled.system.compilation import outside_graphs
from unrolled.system.devices import in_double


@dataclass(frozen=True, eq=False)
class _Gates(CostlyCurve):
    """Gates of a location u; beyond that from which on a gate is best left open for good, z grows with u."""

    beta: float | Tensor
    gamma: float | Tensor
    zeta: float | Tensor

    def nodes(self, device: torch.device) -> Tensor:
        return geometric_grid(2.0**-64, 2.0**50, device)

    def at(self, u: Tensor) -> tuple[Tensor, Tensor]:
        last = self.opening(u.device, u.dtype)
        z, eta, _ = self.gate(torch.minimum(u, last))
        return z * (u / last).clamp(min=1), torch.where(u > last, torch.inf, eta)

    def value(self, u: Tensor) -> Tensor:
        last = self.opening(u.device, u.dtype)
        return torch.where(u > last, 1.0, self.gate(torch.minimum(u, last))[2])

    def top(self, device: torch.device) -> Tensor:
        return self.once(self._top, device)

    def _top(self, device: torch.device) -> Tensor:
        return self.gate(self.opening(device, torch.float64))[0]

    def opening(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The location from which on it is better to open the gate for good: where ρ reaches 1 first."""
        return self.once(self._opening, device, dtype)

    def _opening(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        numbers = [number.detach() for number in self._numbers(dtype, device)]
        with torch.no_grad():
            low, high = torch.broadcast_tensors(*numbers)[:2]
            low, high = torch.full_like(low, -10.0), torch.full_like(high, 50 * math.log(2))
            grid = torch.linspace(0, 1, 65, dtype=dtype, device=device).reshape(-1, *[1] * low.ndim)
            for _ in range(9):
                reached = self.gate((low + (high - low) * grid).exp())[2] >= 1
                first = torch.where(reached.any(0), reached.to(torch.int8).argmax(0), 64)
                low, high = low + (high - low) * (first - 1).clamp(min=0) / 64, low + (high - low) * first / 64
        return high.exp()

    def _numbers(self, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        return [torch.as_tensor(each, dtype=dtype, device=device) for each in (self.beta, self.gamma, self.zeta)]

    def gate(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, η and ρ of gates of the location a, even where another gate would reach less."""
        beta, gamma, zeta = self._numbers(a.dtype, a.device)
        low, high = torch.log(-gamma / zeta), torch.log((1 - gamma) / (zeta - 1))
        location = a.log()
        # Moments E[s] = ∫ P(s > t) dt and E[s²] = ∫ 2t P(s > t) dt over t in [0, 1], and their derivatives in log a;
        # those of 1 − s, too, for large a: their variance is the same, without cancellation.
        axes = [-1] + [1] * max(a.ndim, low.ndim, beta.ndim)
        points, weights = (
            torch.tensor(each, dtype=a.dtype, device=a.device).reshape(axes) for each in gauss_legendre(20)
        )
        logit = (low + high) / 2 + (high - low) / 2 * points
        s = torch.sigmoid(logit)
        t = gamma + (zeta - gamma) * s
        width = weights * (zeta - gamma) * s * (1 - s) * (high - low) / 2
        alive, dead = torch.sigmoid(location - beta * logit), torch.sigmoid(beta * logit - location)
        rate = alive * dead
        mean, square = (alive * width).sum(0), (alive * (2 * t * width)).sum(0)
        missing, missing_square = (dead * width).sum(0), (dead * (2 * (1 - t) * width)).sum(0)
        mean_rate, square_rate = (rate * width).sum(0), (rate * (2 * t * width)).sum(0)
        opened = mean > 0.5
        variance = torch.where(opened, missing_square - missing.square(), square - mean.square())
        # d Var = d E[s²] − 2 E[s] d E[s], written for 1 − s where that is small
        variance_rate = torch.where(
            opened, square_rate - 2 * mean_rate + 2 * missing * mean_rate, square_rate - 2 * mean * mean_rate
        )
        eta = mean.square() / variance
        eta_rate = 2 * mean * mean_rate / variance - eta * variance_rate / variance
        cost = torch.sigmoid(location - beta * low)
        cost_rate = 2 * cost * torch.sigmoid(beta * low - location)
        z = eta * (cost_rate / eta_rate).sqrt()
        return z, eta, (z.square() / eta) / 2 + cost


@dataclass(frozen=True)
class HardConcrete(NumericPenalty):
    """What hard concrete gates amount to at strength 1: a saturating penalty, close to counting.

    A gate of location a is s = min(1, max(0, (ζ − γ)s̄ + γ)), s̄ concrete with temperature β. It is worth
    1/η = Var(s)/E[s]² of noise, at the cost f = 2 P(s > 0) = 2σ(log a − β log(−γ/ζ)), and

        ρ(w) = ½ min over a of w²/η + f,

    which is 1 from some w on: there the gate is open for good.

    Parameters
    ----------
    beta : float in (0, 1)
        temperature.
    gamma : float in (−1, 0)
    zeta : float > 1
        s̄ is stretched to (γ, ζ), then cut off at 0 and 1.
    """

    formulas: ClassVar = Formulas(
        value="½ min of z²/η + f over the gate's location",
        threshold="numeric",
        eta="E[s]²/Var(s) of the gate s that reaches the minimum",
        dual="numeric; 2P(s > 0) along the gates that reach a minimum",
        source="Louizos, Welling, Kingma, Int. Conf. Learning Representations, 2018",
    )

    beta: float | Tensor = parameter(2 / 3, below=1.0)
    gamma: float | Tensor = parameter(-0.1, above=-1.0, below=0.0)
    zeta: float | Tensor = parameter(1.1, above=1.0)

    def _make_curve(self) -> Curve:
        return _Gates(self.beta, self.gamma, self.zeta).interpolated()

    @outside_graphs
    def dual(self, eta: Tensor) -> Tensor:
        exact = in_double(eta)
        gates = _Gates(self.beta, self.gamma, self.zeta)
        last = gates.opening(exact.device, torch.float64)
        rho = gates.gate(last)[2]  # which stays 1 when the parameters change: so the location does
        rate = derivative_of(lambda a: gates.gate(a)[2], last).detach()
        top, most, _ = gates.gate(last - (rho - rho.detach()) / rate)
        opened = exact > most
        before = super().dual(torch.where(opened, most.detach(), exact))
        return torch.where(opened, 2 - top.square() / torch.where(opened, exact, 1.0), before).to(eta.device, eta.dtype)
