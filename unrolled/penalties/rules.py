"""Penalties made of a function: of a rule of adaptive dropout, or of their value."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unrolled.penalties.numeric import HIGHEST, LOWEST, NumericPenalty, derivative_of, nodes, subdivided
from unrolled.penalties.penalty import Formulas

Function = Callable[[Tensor], Tensor]
_SAMPLES = 8  # per stretch between two nodes, where a function is checked
_EXACT = 1e-13  # error of an integral, relative to all of it up to there
_ROUNDING = 1e-9  # relative size of a fall that passes for a rounding error


@dataclass(frozen=True)
class DropoutPenalty(NumericPenalty):
    """The penalty of a rule of adaptive dropout; made by `Penalty.from_dropout`."""

    formulas: ClassVar = Formulas(
        value="(1/λ)∫ t(1 − α(t))/α(t) dt from 0 to z",
        threshold="numeric",
        eta="λα/(1 − α)",
        dual="numeric",
        source="LeJeune, Javadi, Baraniuk, Advances in Neural Information Processing Systems 34, 2021",
    )

    rule: Function
    strength: float = 1.0
    grid: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        strength = self.strength
        if isinstance(strength, bool) or not (isinstance(strength, (int, float)) and 0 < strength < math.inf):
            raise ValueError(f"from_dropout: strength must be a finite number > 0, got {strength!r}")
        z = _samples()
        alpha = _called("from_dropout: rule", self.rule, z)
        bad = ~((alpha >= 0) & (alpha <= 1))
        if bad.any():
            raise ValueError(f"from_dropout: rule must return probabilities in [0, 1], got {_at(z, alpha, bad, 'α')}")
        falls = alpha.diff() < -_ROUNDING * alpha[1:]
        if falls.any():
            raise ValueError(
                "from_dropout: rule must not fall as |w| grows: a penalty never keeps larger weights less often; "
                f"it falls {_fall(z, alpha, falls, 'α')}"
            )
        if alpha[0] == 0:
            raise ValueError(
                "from_dropout: rule must be > 0 for all w ≠ 0, for where α = 0 the penalty is infinite; it is 0 up to "
                f"|w| = {float(z[alpha == 0].max()):.6g}. Hard thresholds are L0 and TopK"
            )
        if alpha[0] == 1:
            raise ValueError("from_dropout: rule is 1 everywhere: it drops nothing, and has no penalty")
        object.__setattr__(self, "grid", tuple(_refined(self._integrand, self._rounding).tolist()))
        _, _, power = self._parts(z[:1])
        if power <= -1:
            raise ValueError(
                "from_dropout: rule must fall more slowly than |w|² towards 0, else its penalty is infinite; near 0 "
                f"it falls like |w|^{1 - float(power):.3g}"
            )
        object.__setattr__(self, "exact_zeros", bool(power <= 0))

    @property
    def _changeable(self) -> bool:
        return is_learned(self.rule)

    def _nodes(self, device: torch.device) -> Tensor:
        return torch.tensor(self.grid, dtype=torch.float64, device=device)

    def _locate(self, z: Tensor) -> Tensor:
        return z

    def _curve(self, u: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.rule(u).to(u)
        return u, self.strength * alpha / (1 - alpha)

    def _integrand(self, z: Tensor) -> Tensor:
        alpha = self.rule(z).to(z)
        return z * (1 - alpha) / (alpha * self.strength)

    def _rounding(self, z: Tensor) -> Tensor:
        """How far rounding errors of α, near 1, go in the integrand."""
        return 4 * torch.finfo(z.dtype).eps * z / (self.rule(z) * self.strength)

    def _value_at(self, u: Tensor) -> Tensor:
        grid = self._nodes(u.device)
        slope = self._integrand(grid[:2])
        power = (slope[1] / slope[0]).log() / (grid[1] / grid[0]).log()
        first = grid[:1] * slope[:1] / (1 + power)  # below the first node ρ' is a power of z
        sums = torch.cat([first, gauss(self._integrand, grid[:-1], grid[1:])]).cumsum(0)
        at = (torch.searchsorted(grid, u.detach().contiguous(), right=True) - 1).clamp(0, len(grid) - 1)
        return sums[at] + gauss(self._integrand, grid[at], u)


@dataclass(frozen=True)
class ValuePenalty(NumericPenalty):
    """The penalty that has a given value; made by `Penalty.from_value`."""

    formulas: ClassVar = Formulas(
        value="as given", threshold="numeric", eta="numeric", dual="numeric", source="as given"
    )

    function: Function

    def __post_init__(self) -> None:
        z = _samples()
        with_zero = torch.cat([torch.zeros_like(z[:1]), z])
        value = _called("from_value: fn", self.function, with_zero)
        if not abs(float(value[0])) <= 1e-12:
            raise ValueError(f"from_value: fn must be 0 at 0, got {float(value[0]):.6g}; subtract that")
        bad = ~((value > -1e-12) & value.isfinite())
        if bad.any():
            raise ValueError(f"from_value: fn must be finite and ≥ 0, got {_at(with_zero, value, bad, 'ρ')}")
        falls = value.diff() < -_ROUNDING * value[1:]
        if falls.any():
            raise ValueError(
                f"from_value: fn must not fall as |w| grows; it falls {_fall(with_zero, value, falls, 'ρ')}"
            )
        slope = self._slope_of(z)
        eta = z / slope.clamp(min=0)
        falls = eta.diff() < -_ROUNDING * eta[1:]
        if falls.any():
            raise ValueError(
                "from_value: fn must be concave in w², else it has no adaptive dropout: η̂ = |w|/ρ'(|w|) must not fall, "
                f"but falls {_fall(z, eta, falls, 'η̂')}"
            )
        risen = gauss(self._slope_of, z[:-1], z[1:])
        wrong = (value[2:] - value[1:-1] - risen).abs() > 1e-2 * risen + 1e-5 * value[2:] + 1e-12
        wrong[0] |= bool(value[1] > 1e-3 * value[-1] + 1e3 * LOWEST * slope[0])
        if eta[0] == torch.inf or wrong.any():
            at = int(wrong.nonzero()[0]) if wrong.any() else 0
            raise ValueError(
                "from_value: fn must rise as its gradient by torch.autograd says, without jumps; it does not near "
                f"|w| = {float(z[at]):.6g}. A penalty that jumps at 0 is L0"
            )
        object.__setattr__(self, "exact_zeros", bool(self._parts(z[:1])[2] <= 0))

    @property
    def _changeable(self) -> bool:
        return is_learned(self.function)

    def _slope_of(self, z: Tensor) -> Tensor:
        return derivative_of(self.function, z)

    def _locate(self, z: Tensor) -> Tensor:
        return z

    def _curve(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u, u / self._slope_of(u).clamp(min=0)

    def _value_at(self, u: Tensor) -> Tensor:
        return self.function(u)


def is_learned(function: Function) -> bool:
    """Whether a function uses tensors that require gradients."""
    with torch.enable_grad():
        return function(torch.ones(1, dtype=torch.float64)).requires_grad


def gauss(function: Function, low: Tensor, high: Tensor) -> Tensor:
    """∫ function from low to high, elementwise, by Gauss and Legendre's formula with 6 points."""
    return _weighted(_legendre(6), function, low, high)


def _weighted(formula: list[tuple[float, float]], function: Function, low: Tensor, high: Tensor) -> Tensor:
    total = torch.zeros_like(high)
    for point, weight in formula:
        total = total + weight * function(low + (high - low) * point)
    return total * (high - low)


@cache
def _legendre(count: int) -> list[tuple[float, float]]:
    points, weights = np.polynomial.legendre.leggauss(count)
    return [((1 + point) / 2, weight / 2) for point, weight in zip(points.tolist(), weights.tolist(), strict=True)]


@cache
def _lobatto(count: int) -> list[tuple[float, float]]:
    """The formula that has both ends among its points: it sees what happens next to them."""
    basis = np.polynomial.Legendre.basis(count - 1)
    points = np.concatenate([[-1.0], np.sort(basis.deriv().roots().real), [1.0]])
    weights = 1 / (count * (count - 1) * basis(points) ** 2)
    return [((1 + point) / 2, weight) for point, weight in zip(points.tolist(), weights.tolist(), strict=True)]


def _refined(function: Function, rounding: Function) -> Tensor:
    """Nodes between which Gauss and Legendre's formula is exact: geometric ones, and more where another one differs.

    Halving goes on at a jump until its place is known to the last digits; each round halves the worst 64 stretches,
    so that a noisy function ends it as well.
    """
    grid = nodes(LOWEST, HIGHEST)
    with torch.no_grad():
        for _ in range(60):
            low, high = grid[:-1], grid[1:]
            middle = (low + high) / 2
            sums = gauss(function, low, high)
            differences = (sums - _weighted(_lobatto(9), function, low, high)).abs() - (high - low) * rounding(middle)
            error = torch.where((high - low) <= 4 * torch.finfo(grid.dtype).eps * high, 0, differences / sums.cumsum(0))
            worst = error.topk(64)
            if worst.values[0] <= _EXACT:
                break
            grid = torch.cat([grid, middle[worst.indices[worst.values > _EXACT]]]).sort().values
    return grid


def _samples() -> Tensor:
    grid = nodes(LOWEST, HIGHEST)
    return torch.cat([subdivided(grid[:-1], grid[1:], _SAMPLES)[:-1].T.reshape(-1), grid[-1:]])


def _called(name: str, function: Function, z: Tensor) -> Tensor:
    with torch.no_grad():
        result = function(z)
    if not (isinstance(result, Tensor) and result.shape == z.shape and result.is_floating_point()):
        got = f"{result.dtype} {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"{name} must map a tensor of |w| to a real tensor of its shape {tuple(z.shape)}, got {got}")
    return result.to(z)


def _at(z: Tensor, values: Tensor, bad: Tensor, name: str) -> str:
    first = int(bad.nonzero()[0])
    return f"{name} = {float(values[first]):.6g} at |w| = {float(z[first]):.6g}"


def _fall(z: Tensor, values: Tensor, falls: Tensor, name: str) -> str:
    """From where to where a function falls: the whole of its first descent."""
    first = int(falls.nonzero()[0])
    rises = (values.diff() >= 0)[first:].nonzero()
    last = first + int(rises[0]) if len(rises) else len(z) - 1
    places = (f"|w| = {float(z[at]):.6g} ({name} = {float(values[at]):.6g})" for at in (first, last))
    return "from " + " to ".join(places)
