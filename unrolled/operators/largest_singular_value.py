"""The norm of an operator that is only known by what it does."""

from typing import Any

import torch
from torch import Tensor

from unrolled.operators.intake import numbers_of


def power_iteration(operator: Any, shape: tuple[int, ...], iterations: int = 1000, tolerance: float = 1e-6) -> Tensor:
    """‖A‖ by power iteration on AᴴA from a seeded start, in the type and on the device of the operator's numbers.

    An estimate from below, exact but for the tolerance unless the two largest singular values nearly agree.

    Parameters
    ----------
    operator : LinearOperator
    shape : (channel, height, width)
        of the images; a channel of 0 stands for one.
    iterations : int
        at most so many.
    tolerance : float
        the iteration ends when the estimate of ‖A‖² changes by less, relatively.

    Returns
    -------
    Tensor, a scalar
    """
    kind, device = numbers_of(operator)
    draw = torch.complex128 if operator.complex_images else torch.float64
    size = (operator.batch or 1, max(1, shape[0]), *shape[1:])
    x = torch.randn(size, dtype=draw, generator=torch.Generator().manual_seed(0))
    x = x.to(device, kind.to_complex() if operator.complex_images else kind)
    squared = x.new_zeros((), dtype=kind)
    with torch.no_grad():
        for _ in range(iterations):
            x = operator.gram(x / x.norm())
            previous, squared = squared, x.norm()
            if squared.is_meta:  # there are no values to look at
                break
            if squared == 0 or (squared - previous).abs() <= tolerance * squared:
                break
    return squared.sqrt()
