"""The classical methods by name: what a trained network is to be compared with."""

import math
from collections.abc import Callable

from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.penalties import L1, LogSum
from unrolled.solvers import Solution, conjugate_gradient, primal_dual, reweighted_l1
from unrolled.solvers.priors import SparsePrior, TotalVariation
from unrolled.solvers.transforms import DCT, CycleSpinning, OrthonormalTransform, Wavelet

Method = Callable[[Tensor, LinearOperator, float, int], Solution | Tensor]


def wavelet_l1(y: Tensor, operator: LinearOperator, strength: float, iterations: int) -> Solution:
    """Primal-dual on ½‖Ax − y‖² + strength·‖Wx‖₁, W wavelets at eight shifts."""
    return primal_dual(y, operator, _sparse(L1(), y, operator, strength), iterations=iterations, record=False)


def reweighted(y: Tensor, operator: LinearOperator, strength: float, iterations: int) -> Solution:
    """Reweighted l1 on ½‖Ax − y‖² + strength·Σ ε log(1 + |Wx|/ε), whose slope at 0 is that of wavelet-l1, ε = .05."""
    first = wavelet_l1(y, operator, strength, iterations).image
    prior = _sparse(LogSum(EPSILON), y, operator, EPSILON * strength)
    return reweighted_l1(y, operator, prior, first, 4, inner=max(1, iterations // 4), record=False)


def total_variation(y: Tensor, operator: LinearOperator, strength: float, iterations: int) -> Solution:
    """Primal-dual on ½‖Ax − y‖² + strength·TV(x), isotropic."""
    prior = TotalVariation(strength)
    return primal_dual(y, operator, prior, iterations=2 * iterations, record=False)


def least_squares(y: Tensor, operator: LinearOperator, strength: float, iterations: int) -> Solution:
    """Conjugate gradients on ½‖Ax − y‖² + strength/2·‖x‖²."""
    return conjugate_gradient(y, operator, strength, iterations=iterations, record=False)


def estimate(y: Tensor, operator: LinearOperator, strength: float, iterations: int) -> Tensor:
    """The operator's linear estimate: zero-filling, filtered back-projection …"""
    return operator.estimate(y)


EPSILON = 0.05
METHODS: dict[str, Method] = {
    "estimate": estimate,
    "least-squares": least_squares,
    "wavelet-l1": wavelet_l1,
    "tv": total_variation,
    "reweighted": reweighted,
}
STRENGTHS = {"wavelet-l1": 2e-3, "tv": 5e-3, "reweighted": 1e-3}
"""For images in [0, 1], measured without noise by an operator with ‖A‖ = 1."""


def classical(
    method: str, y: Tensor, operator: LinearOperator, strength: float | None = None, iterations: int = 100
) -> Tensor:
    """Reconstruct by a classical method.

    Parameters
    ----------
    method : str
        one of `METHODS`.
    y : Tensor, measurements of a batch of images in [0, 1]
    operator : LinearOperator
        its norm is taken care of.
    strength : float > 0, optional
        of the prior, for ‖A‖ = 1; by default one that suits measurements without noise.
    iterations : int
        of its iteration; each is of a similar price in all methods.

    Returns
    -------
    Tensor, (batch, channel, height, width), differentiable in y

    Raises
    ------
    ValueError
        for an unknown method or a wrong argument.
    """
    if method not in METHODS:
        raise ValueError(f"method: must be one of {', '.join(METHODS)}, got {method!r}")
    strength = STRENGTHS.get(method, 0.0) if strength is None else strength
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength: must be a finite number >= 0, got {strength!r}")
    norm = float(operator.norm())
    found = METHODS[method](y, operator, strength * norm**2, iterations)
    return found if isinstance(found, Tensor) else found.image


def _sparse(penalty: L1 | LogSum, y: Tensor, operator: LinearOperator, strength: float) -> SparsePrior:
    """A prior in wavelets of as many levels as the sides allow, at most four; in the DCT if they are odd."""
    height, width = operator.adjoint(y).shape[-2:]
    levels = min(4, _twos(height), _twos(width))
    transform: OrthonormalTransform = Wavelet(4, levels) if levels else DCT()
    return SparsePrior(penalty, strength, CycleSpinning(transform), spare_coarsest=True)


def _twos(number: int) -> int:
    """How often 2 divides a number."""
    return (number & -number).bit_length() - 1
