"""Integrals of elementwise functions."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]
_EXACT = 1e-13  # error of an integral, relative to all of it up to there


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
    points, weights = gauss_legendre(count)
    return [((1 + point) / 2, weight / 2) for point, weight in zip(points, weights, strict=True)]


@cache
def gauss_legendre(count: int) -> tuple[list[float], list[float]]:
    """Points in [−1, 1] and weights of Gauss and Legendre's formula."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return points.tolist(), weights.tolist()


@cache
def _lobatto(count: int) -> list[tuple[float, float]]:
    """The formula that has both ends among its points: it sees what happens next to them."""
    basis = np.polynomial.Legendre.basis(count - 1)
    points = np.concatenate([[-1.0], np.sort(basis.deriv().roots().real), [1.0]])
    weights = 1 / (count * (count - 1) * basis(points) ** 2)
    return [((1 + point) / 2, weight) for point, weight in zip(points.tolist(), weights.tolist(), strict=True)]


def refined(grid: Tensor, function: Function, rounding: Function) -> Tensor:
    """A grid, and more nodes where Gauss and Legendre's formula is not exact between two: where another one differs.

    Halving goes on at a jump until its place is known to the last digits; each round halves the worst 64 stretches,
    so that a noisy function ends it as well.
    """
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
