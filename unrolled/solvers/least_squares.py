"""Least squares by conjugate gradients."""

from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.operators.krylov import conjugate_gradient_iterates
from unrolled.solvers.given import real_number
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
    ridge = real_number("conjugate_gradient: ridge", ridge)
    problem = Problem(y, operator, None, start, from_zero=True)
    right = operator.adjoint(problem.y)
    found = conjugate_gradient_iterates(lambda x: operator.gram(x) + ridge * x, right, problem.first)
    return solve("conjugate_gradient", found, problem, iterations, tolerance, truth, record, progress)
