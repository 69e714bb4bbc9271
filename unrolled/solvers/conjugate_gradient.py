"""Conjugate gradients, for least squares and for the linear systems inside of other solvers."""

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.solvers.solution import Problem, Solution, solve


def conjugate_gradient(
    y: Tensor,
    operator: LinearOperator,
    ridge: float = 0.0,
    start: Tensor | None = None,
    iterations: int = 50,
    tolerance: float = 1e-8,
    *,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """argmin_x ½‖Ax − y‖² + (ridge/2)‖x‖² by conjugate gradients (Hestenes, Stiefel, 1952).

    From the start 0, and without ridge, it approaches the solution of least norm.

    Parameters
    ----------
    ridge : float >= 0
    start : Tensor, (batch, channel, height, width), optional
        by default 0.

    Others as in `proximal_gradient`. The history has no objective.
    """
    if not ridge >= 0:
        raise ValueError(f"conjugate_gradient: ridge must be >= 0, got {ridge!r}")
    right = operator.adjoint(y)
    problem = Problem(y, operator, None, torch.zeros_like(right) if start is None else start)
    found = system(lambda x: operator.gram(x) + ridge * x, right, problem.first)
    return solve("conjugate_gradient", found, problem, iterations, tolerance, truth, record, progress)


def system(matrix: Callable[[Tensor], Tensor], right: Tensor, start: Tensor) -> Iterator[Tensor]:
    """The iterates of conjugate gradients for matrix(x) = right, each image of the batch for itself.

    Parameters
    ----------
    matrix : callable, linear, self-adjoint and positive semidefinite on every image
    right, start : Tensor, (batch, channel, height, width), real or complex
    """
    x, r = start, right - matrix(start)
    p, energy = r, _dot(r, r)
    # Below this the residual is rounding, and steps along it would leave the solution again if the matrix is singular.
    rounding = (10 * torch.finfo(right.dtype).eps) ** 2 * _dot(right, right)
    while True:
        mp = matrix(p)
        size = torch.where(energy > rounding, _ratio(energy, _dot(p, mp)), 0.0)
        x = x + size * p
        r = r - size * mp
        before, energy = energy, _dot(r, r)
        p = r + _ratio(energy, before) * p
        yield x


def solve_system(
    matrix: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, iterations: int, tolerance: float = 1e-13
) -> Tensor:
    """The last of at most so many iterates; see `system`."""
    x = start
    for following in islice(system(matrix, right, start), iterations):
        change, x = (following - x).norm(), following
        if change <= tolerance * x.norm():
            break
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Re⟨a, b⟩ of every image, with axes kept."""
    return (a.conj() * b).real.flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a/b, and 0 where b is."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)
