"""How bright the image is that measurements are of: what makes strengths and networks independent of units."""

import torch
from torch import Tensor

from unrolled.operators.linear_map import LinearMap


@torch.no_grad()
def image_scale(y: Tensor, operator: LinearMap) -> Tensor:
    """The largest magnitude of that multiple of the operator's estimate which explains the measurements best.

    So the scale follows the units of y and those of A, whatever the operator takes for an estimate.

    Parameters
    ----------
    y : Tensor, measurements of a batch of images
    operator : LinearOperator

    Returns
    -------
    Tensor, (batch,), real; 1 where the measurements show nothing
    """
    size = ones_for_zeros(largest(y))  # squares of small numbers would be 0
    y = y / over(size, y)
    x = operator.estimate(y)
    scale = size * ones_for_zeros(amplitude(x, y, operator) * largest(x))
    return torch.where(scale.isfinite(), scale, 1)


@torch.no_grad()
def amplitude(x: Tensor, y: Tensor, operator: LinearMap) -> Tensor:
    """For every image x of a batch the number c > 0 that makes ‖c·Ax − y‖ least.

    Returns
    -------
    Tensor, (batch,), real; 1 where no multiple of the image explains anything
    """
    unit = ones_for_zeros(largest(x))
    explained, measured = operator(x / over(unit, x)).flatten(1), y.flatten(1)
    agreement = (explained.conj() * measured).real.sum(1)
    found = agreement / explained.abs().square().sum(1) / unit
    return torch.where((agreement > 0) & found.isfinite() & (found > 0), found, 1)


def largest(tensor: Tensor) -> Tensor:
    """The largest magnitude of every entry of a batch, without derivatives."""
    return tensor.detach().abs().flatten(1).amax(1)


def ones_for_zeros(numbers: Tensor) -> Tensor:
    """Numbers to divide by."""
    return torch.where(numbers > 0, numbers, 1)


def over(numbers: Tensor, batch: Tensor) -> Tensor:
    """One number for each entry of a batch, with as many axes."""
    return numbers.view(-1, *[1] * (batch.ndim - 1))
