"""Proximal gradient descent, the algorithm that the networks unroll."""

from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.priors import SparsePrior


def proximal_gradient(
    y: Tensor,
    operator: LinearOperator,
    prior: SparsePrior,
    start: Tensor | None = None,
    iterations: int = 200,
    accelerated: bool = True,
) -> Tensor:
    """argmin_x ½‖Ax − y‖² + g(x) by x ← prox(x − ∇f(x)/‖A‖²).

    Parameters
    ----------
    y : Tensor, measurements of a batch of images
    operator : LinearOperator
    prior : SparsePrior
        g.
    start : Tensor, (batch, channel, height, width), optional
        by default Aᴴy.
    iterations : int
    accelerated : bool
        with Nesterov's momentum (FISTA; Beck, Teboulle, 2009).

    Returns
    -------
    Tensor, (batch, channel, height, width)
    """
    if iterations < 1:
        raise ValueError(f"proximal_gradient: iterations must be >= 1, got {iterations!r}")
    step = 1 / float(operator.norm()) ** 2
    x = operator.adjoint(y) if start is None else start
    point, t = x, 1.0
    for _ in range(iterations):
        previous, x = x, prior.prox(point - step * operator.adjoint(operator(point) - y), step)
        t_next = next_momentum(t) if accelerated else 1.0
        point, t = x + (t - 1) / t_next * (x - previous), t_next
    return x


def next_momentum(t: float) -> float:
    """Nesterov's sequence: t = 1 to begin with; the momentum of a step is (t − 1)/next_momentum(t)."""
    return (1 + (1 + 4 * t * t) ** 0.5) / 2
