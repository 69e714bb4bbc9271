"""Steps of conjugate gradients, for linear systems of images."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor


def conjugate_gradient_iterates(
    matrix: Callable[[Tensor], Tensor], right: Tensor, start: Tensor | None = None
) -> Iterator[Tensor]:
    """The iterates of conjugate gradients for matrix(x) = right, each image of the batch for itself.

    Parameters
    ----------
    matrix : callable, linear, self-adjoint and positive semidefinite on every image
    right, start : Tensor, (batch, channel, height, width), real or complex
        by default the start is 0.
    """
    unit = power_of_two(right)
    state = begin(matrix, right / unit, None if start is None else start / unit)
    while True:
        state = advance(matrix, state)
        yield unit * state.x


class State(NamedTuple):
    """Where conjugate gradients are.

    x, residual, direction : Tensor, of the shape of the image
    energy : Tensor, ‖residual‖²
    largest : Tensor, the largest quotient ⟨p, matrix(p)⟩/‖p‖² so far, a lower bound of the norm of the matrix
    """

    x: Tensor
    residual: Tensor
    direction: Tensor
    energy: Tensor
    largest: Tensor


def begin(
    matrix: Callable[[Tensor], Tensor], right: Tensor, start: Tensor | None = None, axes: tuple[int, ...] = (1, 2, 3)
) -> State:
    """The state before the first step, from an image or from 0; over the other axes than these all is done at once."""
    residual = right if start is None else right - matrix(start)
    energy = _inner(residual, residual, axes)
    if start is None:  # ONNX has no complex zeros
        start = right - right if torch.compiler.is_exporting() else torch.zeros_like(right)
    return State(start, residual, residual, energy, torch.zeros_like(energy))


def advance(matrix: Callable[[Tensor], Tensor], state: State, axes: tuple[int, ...] = (1, 2, 3)) -> State:
    """One step; what has arrived stays where it is."""
    x, residual, direction, energy, largest = state
    applied = matrix(direction)
    curvature = _inner(direction, applied, axes)
    size = _inner(direction, direction, axes)
    largest = torch.maximum(largest, curvature / torch.where(size > 0, size, 1))
    goes_on = (energy > rounding(x, largest, axes)) & (curvature > 0)
    step = torch.where(goes_on, energy / torch.where(goes_on, curvature, 1), 0)
    x, residual = x + step * direction, residual - step * applied
    previous, energy = energy, _inner(residual, residual, axes)
    direction = residual + torch.where(goes_on, energy / torch.where(goes_on, previous, 1), 0) * direction
    return State(x, residual, direction, energy, largest)


def power_of_two(tensor: Tensor, axes: tuple[int, ...] = (1, 2, 3)) -> Tensor:
    """One near the largest magnitude over some axes, which are kept; 1 of zeros.

    Divided by it, nothing is rounded, and the energies of small and of large numbers are numbers too.
    """
    size = tensor.abs().detach().amax(axes, keepdim=True)  # in this order, for ONNX detaches no complex numbers
    if torch.compiler.is_exporting():  # other runtimes do not take numbers apart
        return torch.where(size > 0, torch.where(size > 0, size, 1).log2().ceil().exp2(), 1)
    return torch.where(size > 0, size / torch.frexp(size).mantissa, 1)


def rounding(x: Tensor, largest: Tensor, axes: tuple[int, ...] = (1, 2, 3)) -> Tensor:
    """The ‖residual‖² below which it is rounding, (10 ε‖A‖²‖x‖)².

    Such a residual lies also in directions that A does not see: it would be blown up.
    """
    return (10 * torch.finfo(largest.dtype).eps * largest) ** 2 * _inner(x, x, axes)


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor],
    right: Tensor,
    start: Tensor | None = None,
    iterations: int = 100,
    tolerance: float = 1e-13,
) -> Tensor:
    """The solution of matrix(x) = right by conjugate gradients (Hestenes, Stiefel, 1952), each image for itself.

    For (AᴴA + ridge)x = b rather `operator.solve`, which knows closed forms and takes less memory for derivatives.

    Parameters
    ----------
    matrix, right, start
        as in `conjugate_gradient_iterates`.
    iterations : int
        at most so many.
    tolerance : float
        the iteration ends when the batch changes by less, relatively.
    """
    x = torch.zeros_like(right) if start is None else start
    for following in islice(conjugate_gradient_iterates(matrix, right, start), iterations):
        unit = power_of_two(following, tuple(range(x.ndim)))
        change, x = ((following - x) / unit).norm(), following
        if change <= tolerance * (x / unit).norm():
            break
    return x


def _inner(a: Tensor, b: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Re⟨a, b⟩ over some axes, which are kept."""
    return (a.conj() * b).real.sum(axes, keepdim=True)
