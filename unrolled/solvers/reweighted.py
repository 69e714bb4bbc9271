"""Reweighting: a concave penalty is followed by a sequence of convex problems, each tangent to it from above."""

from collections.abc import Iterator

import torch
from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.operators.krylov import conjugate_gradients
from unrolled.penalties import L1, SeparablePenalty, Weighted
from unrolled.solvers.gradient_methods import fista
from unrolled.solvers.priors import SparsePrior
from unrolled.solvers.solution import Problem, Solution, solve
from unrolled.solvers.splitting import primal_dual
from unrolled.solvers.transforms import OrthonormalTransform


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

    def iterates() -> Iterator[Tensor]:
        x = problem.first
        while True:
            weights = prior.slopes(x)
            if not bool(torch.isfinite(weights).all()):
                raise ValueError(f"reweighted_l1: the slope of {prior.penalty!r} must be finite at 0; LogSum's is")
            tangent = SparsePrior(Weighted(L1(), weights), 1.0, prior.transform)
            solver = fista if isinstance(prior.transform, OrthonormalTransform) else primal_dual
            following = solver(y, operator, tangent, x, inner, record=False).image
            # Momentum may end above where it began; then nothing is gained, and nothing lost.
            better = _objective(problem, following) <= _objective(problem, x)
            x = torch.where(better.view(-1, 1, 1, 1), following, x)
            yield x

    return solve("reweighted_l1", iterates(), problem, iterations, tolerance, truth, record, progress)


def image_irls(
    y: Tensor,
    operator: LinearOperator,
    prior: SparsePrior,
    start: Tensor | None = None,
    iterations: int = 30,
    tolerance: float = 0.0,
    *,
    smallest: float = 1e-4,
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
    smallest : float > 0
        η is not made smaller than η̂(smallest), which keeps the problems solvable: coefficients end near 0, not at it.
    inner : int
        conjugate gradient steps.

    Others as in `proximal_gradient`.
    """
    if not smallest > 0:
        raise ValueError(f"image_irls: smallest must be > 0, got {smallest!r}")
    problem = Problem(y, operator, prior, start)
    _need_separable("image_irls", prior)
    transform, right = prior.transform, operator.adjoint(y)

    def iterates() -> Iterator[Tensor]:
        x = problem.first
        while True:
            c = transform(x)
            at = c.abs().clamp(min=smallest)
            weights = prior.slopes_at(at) / at  # strength·ρ'/|w| = strength/η̂

            def matrix(v: Tensor, weights: Tensor = weights) -> Tensor:
                return operator.gram(v) + transform.adjoint(weights * transform(v))

            x = conjugate_gradients(matrix, right, x, inner)
            yield x

    return solve("image_irls", iterates(), problem, iterations, tolerance, truth, record, progress)


def _objective(problem: Problem, x: Tensor) -> Tensor:
    """Of every image of the batch."""
    assert problem.prior is not None
    return (problem.operator(x) - problem.y).flatten(1).norm(dim=1).square() / 2 + problem.prior.value(x)


def _need_separable(solver: str, prior: SparsePrior) -> None:
    if not isinstance(prior, SparsePrior) or not isinstance(prior.penalty, SeparablePenalty):
        raise ValueError(f"{solver}: prior must be a SparsePrior with a penalty of single numbers, got {prior!r}")
