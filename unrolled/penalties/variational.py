"""Penalties of learned noise: variational dropout and hard concrete gates."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.dawson_integral import dawson, gauss_rule
from unrolled.penalties.interpolated import InterpolatedPenalty
from unrolled.penalties.numeric import derivative_of, nodes
from unrolled.penalties.penalty import Formulas, parameter


class _DualPenalty(InterpolatedPenalty):
    """A penalty known through its dual f: at u = η it has z = η√f'(η) and ρ = ½(z²/η + f(η))."""

    def _exact_nodes(self, device: torch.device) -> Tensor:
        return nodes(2.0**-54, 2.0**64, device)

    @abstractmethod
    def _dual(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """f and f', for 0 < η < ∞."""

    def _exact(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f, slope = self._dual(u)
        return u * slope.sqrt(), u, (u * slope + f) / 2

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def dual(self, eta: Tensor) -> Tensor:
        exact = eta.double()
        inside = torch.where((exact == 0) | exact.isinf(), 1.0, exact)
        f = torch.where(exact.isinf(), exact, self._dual(inside)[0])
        return torch.where(exact == 0, 0 * exact, f).to(eta.dtype)


@dataclass(frozen=True)
class VariationalDropout(_DualPenalty):
    """What variational dropout amounts to at strength 1: Gaussian noise of variance 1/η, at the cost f(η)/2 of telling
    the noisy weight, by its divergence from a log-uniform prior (up to a constant).

    f'(η) = D(x)/x with x = √(η/2) and Dawson's integral D; ρ has the slope 1 at 0 and is log z + 1.135 for large z.
    """

    formulas: ClassVar = Formulas(
        value="½(z²/η + f(η)) at the η for which z = η√f'(η)",
        threshold="numeric",
        eta="numeric",
        dual="4∫ D from 0 to √(η/2), D Dawson's integral",
        source="Kingma, Salimans, Welling, Advances in Neural Information Processing Systems 28, 2015",
    )

    def _dual(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        x = (eta / 2).sqrt()
        value, integral = dawson(x)
        return 4 * integral, value / x


@dataclass(frozen=True)
class VariationalDropoutFit(_DualPenalty):
    """Variational dropout with a closed form fitted to the divergence, to 9.4e-3 in f/2 for η in [1e-4, 1e4].

    f(η) = 2k₁σ(k₃ log η − k₂) + log(1 + η) with k = (0.63576, 1.8732, 1.48695).
    """

    formulas: ClassVar = Formulas(
        value="½(z²/η + f(η)) at the η for which z = η√f'(η)",
        threshold="numeric",
        eta="numeric",
        dual="2k₁σ(k₃ log η − k₂) + log(1 + η)",
        source="Molchanov, Ashukha, Vetrov, Int. Conf. Machine Learning, 2017",
    )

    def _dual(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        k1, k2, k3 = 0.63576, 1.8732, 1.48695
        sigmoid = torch.sigmoid(k3 * eta.log() - k2)
        f = 2 * k1 * sigmoid + torch.log1p(eta)
        return f, 2 * k1 * k3 * sigmoid * (1 - sigmoid) / eta + 1 / (1 + eta)


@dataclass(frozen=True)
class HardConcrete(InterpolatedPenalty):
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

    def _exact_nodes(self, device: torch.device) -> Tensor:
        return nodes(2.0**-64, 2.0**50, device)  # of the location a

    def _gate(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, η and ρ of gates of the location a, even where another gate would reach less."""
        beta, gamma, zeta = (torch.as_tensor(each, dtype=a.dtype, device=a.device) for each in self._numbers())
        low, high = torch.log(-gamma / zeta), torch.log((1 - gamma) / (zeta - 1))
        location = a.log()
        # Moments E[s] = ∫ P(s > t) dt and E[s²] = ∫ 2t P(s > t) dt over t in [0, 1], and their derivatives in log a;
        # those of 1 − s, too, for large a: their variance is the same, without cancellation.
        axes = [-1] + [1] * max(a.ndim, low.ndim, beta.ndim)
        points, weights = (torch.tensor(each, dtype=a.dtype, device=a.device).reshape(axes) for each in gauss_rule(20))
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

    def _numbers(self) -> tuple[float | Tensor, ...]:
        return self.beta, self.gamma, self.zeta

    def _exact(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        last = self._once(self._opening, u.device, u.dtype)
        z, eta, rho = self._gate(torch.minimum(u, last))
        opened = u > last
        return z * (u / last).clamp(min=1), torch.where(opened, torch.inf, eta), torch.where(opened, 1.0, rho)

    def _top(self, device: torch.device) -> Tensor:
        return self._once(self._opened, device)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def dual(self, eta: Tensor) -> Tensor:
        exact = eta.double()
        last = self._once(self._opening, exact.device, torch.float64)
        rho = self._gate(last)[2]  # which stays 1 when the parameters change: so the location does
        rate = derivative_of(lambda a: self._gate(a)[2], last).detach()
        top, most, _ = self._gate(last - (rho - rho.detach()) / rate)
        opened = exact > most
        before = super().dual(torch.where(opened, most.detach(), exact))
        return torch.where(opened, 2 - top.square() / torch.where(opened, exact, 1.0), before).to(eta.dtype)

    def _opened(self, device: torch.device) -> Tensor:
        return self._gate(self._once(self._opening, device, torch.float64))[0]

    def _opening(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The location from which on it is better to open the gate for good: where ρ reaches 1 first."""
        numbers = [torch.as_tensor(each, dtype=dtype, device=device).detach() for each in self._numbers()]
        with torch.no_grad():
            low, high = torch.broadcast_tensors(*numbers)[:2]
            low, high = torch.full_like(low, -10.0), torch.full_like(high, 50 * math.log(2))
            grid = torch.linspace(0, 1, 65, dtype=dtype, device=device).reshape(-1, *[1] * low.ndim)
            for _ in range(9):
                reached = self._gate((low + (high - low) * grid).exp())[2] >= 1
                first = torch.where(reached.any(0), reached.to(torch.int8).argmax(0), 64)
                low, high = low + (high - low) * (first - 1).clamp(min=0) / 64, low + (high - low) * first / 64
        return high.exp()
