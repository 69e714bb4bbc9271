"""Splitting methods: the data and the prior are treated in turn, each by what is easy for it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.solvers.given import real_number
from unrolled.solvers.priors import Prior
from unrolled.solvers.solution import ENOUGH, Problem, Solution, solve
from unrolled.system.scalars import whole_number

INNER_TOLERANCE = 1e-10
"""Of the least squares problem in every step of `admm`, relative to its right side."""


def admm(
    y: Tensor,
    operator: LinearOperator,
    prior: Prior,
    start: Tensor | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
    *,
    weight: float | None = None,
    inner: int = 30,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """argmin_x ½‖Ax − y‖² + g(x) by the alternating direction method of multipliers (Boyd and others, 2011).

    x = argmin ½‖Ax − y‖² + (ρ/2)‖x − z + u‖², by `operator.solve`; z = prox_{g/ρ}(x + u);
    u ← u + x − z. The image is z.

    Parameters
    ----------
    weight : float > 0, optional
        ρ; by default ‖A‖²/10.
    inner : int
        conjugate gradient steps from the x before, at most, if the operator has no closed form.

    Others as in `proximal_gradient`.
    """
    problem = Problem(y, operator, prior, start)
    rho = 0.1 / problem.step() if weight is None else real_number("admm: weight", weight, above=True)
    inner = whole_number("admm: inner", inner)
    right = operator.adjoint(problem.y)
    last: list[Tensor] = []

    def iterates() -> Iterator[Tensor]:
        x = z = problem.first
        u = torch.zeros_like(x)
        while True:
            b = right + rho * (z - u)
            x = operator.solve(b, rho, start=x, tolerance=INNER_TOLERANCE, iterations=inner)
            last[:] = b, x
            z = problem.prox(x + u, 1 / rho)
            u = u + x - z
            yield z

    def unsolved() -> str | None:
        b, x = last
        return left_over(b - operator.gram(x) - rho * x, b, inner)

    problem.unsolved = unsolved
    return solve("admm", iterates(), problem, iterations, tolerance, truth, record, progress)


def primal_dual(
    y: Tensor,
    operator: LinearOperator,
    prior: Prior,
    start: Tensor | None = None,
    iterations: int = 300,
    tolerance: float = 0.0,
    *,
    sigma: float | None = None,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """argmin_x ½‖Ax − y‖² + h(Wx) by a primal-dual method (Condat, 2013; Vũ, 2013).

    x⁺ = x − τ(∇f(x) + Wᴴu); u ← prox_{σh*}(u + σW(2x⁺ − x)), with 1/τ = ‖A‖²/2 + σ‖W‖². No proximal map of g is needed,
    only that of h, so total variation costs no inner iterations. For convex penalties.

    Parameters
    ----------
    sigma : float > 0, optional
        by default ‖A‖²/‖W‖².

    Others as in `proximal_gradient`.
    """
    problem = Problem(y, operator, prior, start)
    lipschitz, transform = 1 / problem.step(), prior.transform
    size = lipschitz / transform.norm**2 if sigma is None else real_number("primal_dual: sigma", sigma, above=True)
    tau = 1 / (lipschitz / 2 + size * transform.norm**2)

    def iterates() -> Iterator[Tensor]:
        x = problem.first
        u = torch.zeros_like(transform(x))
        while True:
            before, x = x, x - tau * (problem.gradient(x) + transform.adjoint(u))
            v = u + size * transform(2 * x - before)
            u = v - size * prior.prox_coefficients(v / size, 1 / size)  # Moreau's identity
            yield x

    return solve("primal_dual", iterates(), problem, iterations, tolerance, truth, record, progress)


def left_over(residual: Tensor, right: Tensor, inner: int) -> str | None:
    """Why a system of equations counts as not solved, and what helps; None if it is."""
    size = right.flatten(1).norm(dim=1)
    part = float((residual.flatten(1).norm(dim=1) / torch.where(size > 0, size, 1)).max())
    if part <= ENOUGH:
        return None
    return (
        f"after inner={inner} steps of conjugate gradients the last system of equations still has a residual of "
        f"{part:.1e} of its right side, more than {ENOUGH:.0e}; give more steps, or more iterations"
    )
