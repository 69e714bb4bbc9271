"""How bright the image is that measurements are of: what makes strengths and networks independent of units."""

import torch
from torch import Tensor

from unrolled.operators.linear_map import LinearMap


@torch.no_grad()
def image_scale(y: Tensor, operator: LinearMap) -> Tensor:
    """The largest magnitude of the operator's estimate, of each image of a batch.

    The estimate x is first multiplied by the number c that explains the measurements best, argmin ‖cAx − y‖, so that
    the scale follows the units of y and those of A, whatever the operator takes for an estimate.

    Parameters
    ----------
    y : Tensor, measurements of a batch of images
    operator : LinearOperator

    Returns
    -------
    Tensor, (batch,), real; 1 where the measurements show nothing
    """
    size = y.abs().flatten(1).amax(1)
    size = torch.where(size > 0, size, 1)
    y = y / size.reshape(-1, *(1,) * (y.ndim - 1))  # squares of small numbers would be 0
    x = operator.estimate(y)
    ax, flat = operator(x).flatten(1), y.flatten(1)
    factor = (ax.conj() * flat).real.sum(1) / ax.abs().square().sum(1)
    scale = factor.abs() * x.abs().flatten(1).amax(1) * size
    return torch.where(scale.isfinite() & (scale > 0), scale, 1)
