"""Reweighting: a concave penalty is followed by a sequence of convex problems, each tangent to it from above."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.operators.krylov import conjugate_gradients
from unrolled.operators.units import largest, ones_for_zeros, over
from unrolled.penalties import L1, SeparablePenalty, Weighted
from unrolled.solvers.given import real_number
from unrolled.solvers.gradient_methods import fista
from unrolled.solvers.priors import SparsePrior
from unrolled.solvers.solution import Problem, Solution, solve
from unrolled.solvers.splitting import left_over, primal_dual
from unrolled.solvers.transforms import OrthonormalTransform
from unrolled.system.scalars import whole_number

ROUNDING = 1e-5
"""Of the objective: a rise that is not larger says nothing."""


def reweighted_l1(
    y: Tensor,
    operator: LinearOperator,
    prior: SparsePrior,
    start: Tensor | None = None,
    iterations: int = 5,
    tolerance: float = 0.0,
    *,
    inner: int = 50,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """½‖Ax − y‖² + strength·Σρ(Wx) for a concave ρ, by weighted l1 problems (Candès, Wakin, Boyd, 2008).

    The weights are the slopes ρ'(|Wx|) of the image before; each problem is solved from that image, by FISTA if W is
    orthonormal and by a primal-dual method if not. The
    objective never rises, for every ρ that is concave in |w|; where it ends depends on the start.

    Parameters
    ----------
    prior : SparsePrior
        whose penalty has a finite slope at 0, such as `LogSum`.
    iterations : int
        reweightings.
    inner : int
        iterations for each.

    Others as in `proximal_gradient`.
    """
    problem = Problem(y, operator, prior, start)
    _need_separable("reweighted_l1", prior)
    inner = whole_number("reweighted_l1: inner", inner)
    rises: list[float] = []

    def iterates() -> Iterator[Tensor]:
        x = problem.first
        while True:
            weights = prior.slopes(x)
            if not bool(torch.isfinite(weights).all()):
                raise ValueError(f"reweighted_l1: the slope of {prior.penalty!r} must be finite at 0; LogSum's is")
            tangent = SparsePrior(Weighted(L1(), weights), 1.0, prior.transform)
            solver = fista if isinstance(prior.transform, OrthonormalTransform) else primal_dual
            following = solver(problem.y, operator, tangent, x, inner, record=False).image
            # Momentum may end above where it began; then nothing is gained, and nothing lost.
            reached, before = _objective(problem, following), _objective(problem, x)
            better = reached <= before
            rises[:] = [float(((reached - before) / before.clamp(min=1e-30)).max())]
            x = torch.where(better.view(-1, 1, 1, 1), following, x)
            yield x

    def unsolved() -> str | None:
        if tolerance == 0 or rises[0] <= ROUNDING:  # without a tolerance nobody asks whether it has converged
            return None
        return (
            f"inner={inner} iterations of the last weighted problem ended {rises[0]:.1e} of the objective above where "
            "they began, so that nothing was gained; give more inner iterations"
        )

    problem.unsolved = unsolved
    return solve("reweighted_l1", iterates(), problem, iterations, tolerance, truth, record, progress)


def image_irls(
    y: Tensor,
    operator: LinearOperator,
    prior: SparsePrior,
    start: Tensor | None = None,
    iterations: int = 30,
    tolerance: float = 0.0,
    *,
    smallest: float | None = None,
    inner: int = 30,
    truth: Tensor | None = None,
    record: bool = True,
    progress: bool = False,
) -> Solution:
    """½‖Ax − y‖² + strength·Σρ(Wx) by iteratively reweighted least squares, the η-trick (Daubechies and others, 2010).

    ρ(w) = ½ min_η w²/η + f(η) makes of every step a least squares problem with η = η̂(Wx) = |w|/ρ'(|w|), solved by
    conjugate gradients.

    Parameters
    ----------
    prior : SparsePrior
        whose penalty is concave in w².
    smallest : float > 0, optional
        η is not made smaller than η̂(smallest), which keeps the problems solvable: coefficients end near 0, not at it.
        In the units of the image; by default 1e-4 of the largest magnitude of the start, image by image.
    inner : int
        conjugate gradient steps.

    Others as in `proximal_gradient`.
    """
    if smallest is not None:
        smallest = real_number("image_irls: smallest", smallest, above=True)
    inner = whole_number("image_irls: inner", inner)
    problem = Problem(y, operator, prior, start)
    _need_separable("image_irls", prior)
    transform, right = prior.transform, operator.adjoint(problem.y)
    last: list[tuple[Callable[[Tensor], Tensor], Tensor]] = []

    def iterates() -> Iterator[Tensor]:
        x = problem.first
        least = _least(x, right) if smallest is None else x.real.new_full((), smallest)
        while True:
            c = transform(x)
            at = torch.maximum(c.abs(), over(least, c))
            weights = prior.slopes_at(at) / at  # strength·ρ'/|w| = strength/η̂

            def matrix(v: Tensor, weights: Tensor = weights) -> Tensor:
                return operator.gram(v) + transform.adjoint(weights * transform(v))

            x = conjugate_gradients(matrix, right, x, inner)
            last[:] = [(matrix, x)]
            yield x

    def unsolved() -> str | None:
        matrix, x = last[0]
        return left_over(right - matrix(x), right, inner)

    problem.unsolved = unsolved

    return solve("image_irls", iterates(), problem, iterations, tolerance, truth, record, progress)


def _least(x: Tensor, right: Tensor) -> Tensor:
    """1e-4 of the largest magnitude of every image; of one that is 0 that of Aᴴy."""
    size = largest(x)
    return 1e-4 * ones_for_zeros(torch.where(size > 0, size, largest(right)))


def _objective(problem: Problem, x: Tensor) -> Tensor:
    """Of every image of the batch."""
    assert problem.prior is not None
    return (problem.operator(x) - problem.y).flatten(1).norm(dim=1).square() / 2 + problem.prior.value(x)


def _need_separable(solver: str, prior: SparsePrior) -> None:
    if not isinstance(prior, SparsePrior) or not isinstance(prior.penalty, SeparablePenalty):
        raise ValueError(f"{solver}: prior must be a SparsePrior with a penalty of single numbers, got {prior!r}")
