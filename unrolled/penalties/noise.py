"""Penalties of learned noise: variational dropout and hard concrete gates."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unrolled.penalties.numeric import HIGHEST, LOWEST, NumericPenalty, derivative_of, nodes, root
from unrolled.penalties.penalty import Formulas, parameter


class _Interpolated(NumericPenalty):
    """A penalty with a costly curve that is smooth up to some z: with numbers as parameters it is tabulated over z."""

    @abstractmethod
    def _exact(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, η̂ and ρ at u, which need not be the magnitude."""

    @abstractmethod
    def _exact_nodes(self, device: torch.device) -> Tensor:
        """Values of u as of `_nodes`, from where z is below all magnitudes that count."""

    def _top(self, device: torch.device) -> Tensor:
        """The z from which on ρ is 1, if there is one."""
        return torch.tensor(torch.inf, dtype=torch.float64, device=device)

    def _of_magnitude(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """η̂ and ρ at z, (n,)."""
        grid = self._exact_nodes(z.device)
        at = torch.searchsorted(self._exact(grid)[0], z).clamp(1, len(grid) - 1)
        u = root(lambda u: self._exact(u)[0] - z, grid[at - 1], grid[at])
        return self._exact(u)[1:]

    def _interpolant(self, device: torch.device) -> "Interpolant":
        return Interpolant(self._of_magnitude, LOWEST, min(HIGHEST, float(self._top(device))), device)

    def _nodes(self, device: torch.device) -> Tensor:
        if self._tensors():
            return self._exact_nodes(device)
        grid, top = super()._nodes(device), self._top(device)  # where ρ' jumps
        return torch.cat([grid, torch.stack([top, top.nextafter(top + 1)])[top.isfinite().expand(2)]]).sort().values

    def _locate(self, z: Tensor) -> Tensor:
        return super()._locate(z) if self._tensors() else z

    def _curve(self, u: Tensor) -> tuple[Tensor, Tensor]:
        if self._tensors():
            return self._exact(u)[:2]
        top = self._top(u.device)
        return u, torch.where(u > top, torch.inf, self._once(self._interpolant, u.device)(torch.minimum(u, top), 0))

    def _value_at(self, u: Tensor) -> Tensor:
        if self._tensors():
            return self._exact(u)[2]
        top = self._top(u.device)
        return torch.where(u > top, 1.0, self._once(self._interpolant, u.device)(torch.minimum(u, top), 1))


class Interpolant:
    """Positive functions of u > 0 by polynomials of degree 7 on logarithmic scales, in stretches as short as it takes.

    Their relative error is of the order of 1e-14, or what rounding u does to the functions. Beyond the last node they
    go on as powers.

    Parameters
    ----------
    functions : callable
        maps u, (n,), to a tuple of tensors, (n,).
    low, high : float
        the first and the last node.
    device : torch.device
    """

    def __init__(
        self, functions: Callable[[Tensor], tuple[Tensor, ...]], low: float, high: float, device: torch.device
    ) -> None:
        count = math.ceil(math.log2(high / low) * 8)
        edges = torch.linspace(math.log(low), math.log(high), count + 1, dtype=torch.float64, device=device)
        chebyshev = np.cos((np.arange(8) + 0.5) * np.pi / 8)
        between = np.array([-0.97, -0.5, 0.3, 0.97])  # where the polynomials are checked
        places = torch.from_numpy(np.concatenate([chebyshev, between])).to(device)
        to_powers = torch.from_numpy(np.linalg.inv(np.vander(chebyshev, increasing=True))).to(device)
        at_between = torch.from_numpy(np.vander(between, 8, increasing=True)).to(device)
        for _ in range(40):
            middle, half = (edges[1:] + edges[:-1]) / 2, edges.diff() / 2
            x = middle[:, None] + half[:, None] * places
            logs = torch.stack([value.log() for value in functions(x.exp().reshape(-1))]).detach().reshape(-1, *x.shape)
            first = logs[..., :1]
            coefficients = (logs - first)[..., :8] @ to_powers.T  # differences are small, and lose no digits
            error = (coefficients @ at_between.T - (logs - first)[..., 8:]).abs().amax(-1)
            rounding = (logs - first).abs().amax(-1) / half * (1 + middle.abs()) * 4 * torch.finfo(x.dtype).eps
            bad = (error > 2e-14 + rounding).any(0)
            if not bad.any():
                break
            edges = torch.cat([edges, middle[bad]]).sort().values
        coefficients[..., :1] += first
        self.coefficients, self.middle, self.half, self.edges = coefficients, middle, half, edges[1:-1].contiguous()
        self.end = math.log(high)
        self.powers = (logs[:, -1, 0] - logs[:, -1, 1]) / (x[-1, 0] - x[-1, 1])

    def __call__(self, u: Tensor, part: int) -> Tensor:
        """One of the functions at u > 0, no less than the first node."""
        x = u.log()
        inside = x.clamp(max=self.end)
        at = torch.searchsorted(self.edges, inside.detach().contiguous())
        offset = (inside - self.middle[at]) / self.half[at]
        *rest, value = self.coefficients[part][at].unbind(-1)
        for coefficient in reversed(rest):
            value = value * offset + coefficient
        return (value + (x - inside) * self.powers[part]).exp()


class _DualPenalty(_Interpolated):
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
class HardConcrete(_Interpolated):
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
        points, weights = (torch.tensor(each, dtype=a.dtype, device=a.device).reshape(axes) for each in _gauss(20))
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


def dawson(x: Tensor) -> tuple[Tensor, Tensor]:
    """Dawson's integral D(x) = ∫ exp(t² − x²) dt from 0 to x, and the integral of D from 0 to x, for x ≥ 0.

    Up to x = 6.5 by Taylor's series about the nearest of a table of points, from D' = 1 − 2xD; by the asymptotic series
    beyond. Relative errors are below 1e-14 in float64.

    Parameters
    ----------
    x : Tensor, any shape, ≥ 0

    Returns
    -------
    two Tensors of the shape of x
    """
    value, integral = (table.to(x) for table in _dawson_tables())
    near = torch.where(x < _FAR, x, 0.0)
    at = (near.detach() * _PER_UNIT).round()
    centre, offset, at = at / _PER_UNIT, near - at / _PER_UNIT, at.long()
    before, now = value[at], 1 - 2 * centre * value[at]  # the coefficients 0 and 1 of D about the centre
    near_value, near_integral, power = before + now * offset, before * offset + now * offset.square() / 2, offset
    for n in range(1, 14):
        before, now = now, (-2 * centre * now - 2 * before) / (n + 1)
        power = power * offset
        near_value = near_value + now * power
        near_integral = near_integral + now * power * offset / (n + 2)
    inverse = 1 / torch.where(x < _FAR, _FAR, x)
    term, far_value = torch.ones_like(inverse), torch.ones_like(inverse)
    far_integral = -inverse.log() / 2 + (np.euler_gamma + 2 * math.log(2)) / 4
    for k in range(1, 27):
        term = term * (2 * k - 1) / 2 * inverse.square()
        far_value = far_value + term
        far_integral = far_integral - term / (4 * k)
    far = x >= _FAR
    return (
        torch.where(far, far_value * inverse / 2, near_value + 0 * x),
        torch.where(far, far_integral, near_integral + integral[at] + 0 * x),
    )


_FAR, _PER_UNIT = 6.5, 8  # where the asymptotic series begins; points of the table per unit


@cache
def _gauss(count: int) -> tuple[list[float], list[float]]:
    points, weights = np.polynomial.legendre.leggauss(count)
    return points.tolist(), weights.tolist()


@cache
def _dawson_tables() -> tuple[Tensor, Tensor]:
    """D and its integral at 0, 1/8, …, 6.5, by Gauss and Legendre's formula."""
    points, weights = (np.array(each) for each in _gauss(80))
    points, weights = (points + 1) / 2, weights / 2

    def value(x: np.ndarray) -> np.ndarray:
        return x * (np.exp(-(x[..., None] ** 2) * (1 - points**2)) @ weights)

    grid = np.arange(_FAR * _PER_UNIT + 1) / _PER_UNIT
    within = value(grid[:-1, None] + points / _PER_UNIT) @ weights / _PER_UNIT
    return torch.from_numpy(value(grid)), torch.from_numpy(np.concatenate([[0.0], within.cumsum()]))
