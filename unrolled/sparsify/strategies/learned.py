"""What a strategy learns besides the model."""

import torch.distributed as dist
from torch import Tensor, nn

from unrolled.sparsify.strategies.capturing import Capturing


class Learning(Capturing):
    """Strategies with a learned parameter for each weight or group, which says whether it is 0.

    A subclass puts them into `learned`, by the name of the weight.
    """

    learned: dict[str, nn.Parameter]

    def parameters(self) -> list[nn.Parameter]:
        return list(self.learned.values())


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


def _average(parameter: Tensor) -> None:
    # What was accumulated before is the same everywhere, and an average does not change it.
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()
