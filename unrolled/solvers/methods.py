"""The classical methods by name: what a trained network is to be compared with."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unrolled.operators import Diagonal, LinearOperator
from unrolled.operators.largest_singular_value import power_iteration
from unrolled.operators.units import amplitude, image_scale, over
from unrolled.penalties import L1, LogSum
from unrolled.solvers import Solution, conjugate_gradient, primal_dual, reweighted_l1
from unrolled.solvers.given import as_image, check_finite, real_number
from unrolled.solvers.priors import SparsePrior, TotalVariation
from unrolled.solvers.solution import Problem
from unrolled.solvers.transforms import CycleSpinning, Wavelet
from unrolled.system.devices import in_double
from unrolled.system.scalars import whole_number


class Task(NamedTuple):
    """What a method is to solve: measurements of images whose white is 1.

    y, operator : as in `classical`
    start : Tensor, (batch, channel, height, width)
    strength : float
        of the prior, for this ‖A‖.
    iterations : int
    """

    y: Tensor
    operator: LinearOperator
    start: Tensor
    strength: float
    iterations: int


Method = Callable[[Task], Solution | Tensor]


def wavelet_l1(task: Task) -> Solution:
    """Primal-dual on ½‖Ax − y‖² + strength·‖Wx‖₁, W wavelets at eight shifts."""
    prior = _sparse(L1(), task.start, task.strength)
    return primal_dual(task.y, task.operator, prior, task.start, task.iterations, record=False)


def reweighted(task: Task) -> Solution:
    """Reweighted l1 on ½‖Ax − y‖² + strength·Σ ε log(1 + |Wx|/ε), whose slope at 0 is that of wavelet-l1, ε = .05."""
    first, inner = wavelet_l1(task).image, max(1, task.iterations // 4)
    prior = _sparse(LogSum(EPSILON), task.start, EPSILON * task.strength)
    return reweighted_l1(task.y, task.operator, prior, first, 4, inner=inner, record=False)


def total_variation(task: Task) -> Solution:
    """Primal-dual on ½‖Ax − y‖² + strength·TV(x), isotropic."""
    prior = TotalVariation(task.strength)
    return primal_dual(task.y, task.operator, prior, task.start, 2 * task.iterations, record=False)


def least_squares(task: Task) -> Solution:
    """Conjugate gradients on ½‖Ax − y‖² + strength/2·‖x‖²."""
    return conjugate_gradient(task.y, task.operator, task.strength, iterations=task.iterations, record=False)


def estimate(task: Task) -> Tensor:
    """The operator's linear estimate: zero-filling, filtered back-projection …"""
    return task.start


EPSILON = 0.05
"""Of `reweighted`, in parts of white."""

METHODS: dict[str, Method] = {
    "estimate": estimate,
    "least-squares": least_squares,
    "wavelet-l1": wavelet_l1,
    "tv": total_variation,
    "reweighted": reweighted,
}
STRENGTHS = {"wavelet-l1": 2e-3, "tv": 5e-3, "reweighted": 1e-3}
"""For images whose white is 1, measured without noise by an operator with ‖A‖ = 1."""

FAR = 4
"""Where an estimate's amplitude is off by more than this factor, that multiple of it is taken that explains y best."""


def classical(
    method: str,
    y: Any,
    operator: LinearOperator,
    strength: float | None = None,
    iterations: int = 100,
    scale: Any = None,
    weights: Any = None,
) -> Tensor:
    """Reconstruct by a classical method.

    Strengths are for images whose white is 1 and for ‖A‖ = 1: the measurements are divided by `scale`, and the image is
    multiplied by it. So the result has the units of the measurements over those of the operator, whatever they are:
    it is c times as large for c·y, and 1/c times for c·A.

    Parameters
    ----------
    method : str
        one of `METHODS`.
    y : Tensor or array of any type, measurements of a batch of images
        calculated with in the operator's precision.
    operator : LinearOperator
        its norm is taken care of: where `norm()` is only a bound, and more than a tenth too large for these images, the
        strength goes by a power iteration.
    strength : float >= 0, optional
        of the prior, for ‖A‖ = 1; by default one that suits measurements without noise.
    iterations : int
        of its iteration; each is of a similar price in all methods.
    scale : float > 0, or Tensor or array of one for each image, optional
        what white is, the largest value of the image. By default, for each image of the batch, the largest magnitude of
        that multiple of the operator's estimate that explains the measurements best, or 1 where this is 0.
        Derivatives take it as given.
    weights : Tensor or array >= 0 of the shape of y, or one that can be broadcast to it, optional
        w of weighted least squares, ½Σ w|Ax − y|² instead of ½‖Ax − y‖²: what each measurement is worth, such as
        1/variance of its noise, up to a factor; their mean is made 1.

    Returns
    -------
    Tensor, (batch, channel, height, width), differentiable in y

    Raises
    ------
    ValueError
        for an unknown method or a wrong argument, or an operator that amplifies images by more than its norm.
    """
    if method not in METHODS:
        raise ValueError(f"method: must be one of {', '.join(METHODS)}, got {method!r}")
    strength = STRENGTHS.get(method, 0.0) if strength is None else real_number("strength:", strength)
    if strength == 0 and method in STRENGTHS:
        raise ValueError(f"strength: must be > 0 for {method}, got {strength!r}; least-squares needs no prior")
    iterations = whole_number("iterations:", iterations)
    y = Problem(y, operator, None, None, from_zero=True).y
    measured, plain = y, operator  # whose estimate is the better one to start from: of projections, filtered
    if weights is not None:
        root = _roots(weights, y)
        y, operator = root * y, Diagonal(root) @ operator
    # By a power of two, so that nothing is rounded: squares of squares of the norm are to be numbers.
    norm = float(operator.norm())
    if not (math.isfinite(norm) and norm > 0):
        raise ValueError(f"operator: must have a finite norm > 0, got {norm!r}")
    exponent = math.frexp(norm)[1] - 1
    if exponent not in (0, -1):
        norm, operator, y = norm * 2.0**-exponent, 2.0**-exponent * operator, y * 2.0**-exponent
        plain, measured = 2.0**-exponent * plain, measured * 2.0**-exponent
    white = image_scale(measured, plain) if scale is None else _white_of(scale, y)
    if not bool((white.isfinite() & (white > 0)).all()):
        raise ValueError(f"y: its images would reach {float(white.max()):.3g}, which {white.dtype} cannot hold")
    y = y / over(white, y)
    check_finite("scale: y divided by it", y)
    start = plain.estimate(measured / over(white, measured))
    factor = amplitude(start, y, operator)
    far = (factor > FAR) | (factor < 1 / FAR)
    start = start * over(torch.where(far, factor, 1), start)
    norm = _norm(operator, norm, start)
    found = METHODS[method](Task(y, operator, start, strength * norm**2, iterations))
    image = found if isinstance(found, Tensor) else found.image
    return image * over(white, image)


def _norm(operator: LinearOperator, stated: float, images: Tensor) -> float:
    """‖A‖ on images of this shape, for strengths: as the operator states it, unless that is only a bound."""
    reached = float(power_iteration(operator, tuple(images.shape[1:]), iterations=100, tolerance=1e-3))
    if reached > 1.01 * stated:
        raise ValueError(
            f"operator: {type(operator).__name__} amplifies an image by {reached / stated:.4g} times the norm that it "
            "states; methods by name need a norm that is not too small"
        )
    return stated if stated <= 1.1 * reached else reached


def _roots(weights: Any, y: Tensor) -> Tensor:
    """Roots of weights with the mean 1, of the shape of y."""
    numbers = as_image("weights", weights)
    wrong = numbers.is_complex() or numbers.ndim == 0
    if wrong or not bool((numbers.isfinite() & (numbers >= 0)).all()) or not bool(numbers.any()):
        raise ValueError("weights: must be an array of finite real numbers >= 0, and not all 0")
    numbers = in_double(numbers.detach())  # whatever their units are
    numbers = (numbers / numbers.max()).to(y.device, y.real.dtype)
    try:
        numbers = numbers.expand(y.shape)
    except RuntimeError:
        raise ValueError(f"weights: must fit to y, {tuple(y.shape)}, got {tuple(numbers.shape)}") from None
    return (numbers / numbers.mean()).sqrt()


def _white_of(scale: Any, y: Tensor) -> Tensor:
    """The user's scale, one number an image."""
    numbers = as_image("scale", scale)
    if (
        numbers.is_complex()
        or numbers.numel() not in (1, len(y))
        or not bool((numbers.isfinite() & (numbers > 0)).all())
    ):
        raise ValueError(f"scale: must be a finite number > 0, or one for each of the {len(y)} images, got {scale!r}")
    return numbers.detach().to(y.device, y.real.dtype).reshape(-1).expand(len(y))


def _sparse(penalty: L1 | LogSum, image: Tensor, strength: float) -> SparsePrior:
    """A prior in wavelets of four levels, fewer of images that would come to one pixel before."""
    levels = max(1, min(4, max(image.shape[-2:]).bit_length() - 1))
    return SparsePrior(penalty, strength, CycleSpinning(Wavelet(4, levels)), spare_coarsest=True)
