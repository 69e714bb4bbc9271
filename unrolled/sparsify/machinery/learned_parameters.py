"""What a strategy learns besides the model."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unrolled.sparsify.selection import Weight


def learned(values: Tensor) -> nn.Parameter:
    """A parameter that does not belong to the model.

    DistributedDataParallel does not know of it: so its gradient is averaged here, after each backward, over the
    processes if there are several.

    Parameters
    ----------
    values : Tensor, any shape
    """
    parameter = nn.Parameter(values)
    parameter.register_post_accumulate_grad_hook(_average)
    return parameter


def per_group(weight: Weight, number: float) -> Tensor:
    """The number once for each group of a weight, or for each of its entries; real, and not in half precision."""
    parameter, grouping = weight.parameter, weight.grouping
    shape = parameter.shape if grouping is None else grouping.shape(parameter.shape)
    dtype = torch.promote_types(parameter.real.dtype if parameter.is_complex() else parameter.dtype, torch.float32)
    return torch.full(shape, number, dtype=dtype, device=parameter.device)


def _average(parameter: Tensor) -> None:
    # What was accumulated before is the same everywhere, and an average does not change it.
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()
