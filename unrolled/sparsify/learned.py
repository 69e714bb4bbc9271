"""What a strategy learns besides the model."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.sparsify.control import Control
from unrolled.sparsify.sparsifier import Sparsifier

_MEMORY = 0.05  # part of the run over which a course is averaged


class Learning(Sparsifier):
    """Strategies with a learned parameter for each weight, on which it depends whether the weight is 0.

    Such parameters go step by step, and nothing is 0 for a long time, whatever the strength is. So with a target the
    strength is not found by the zeros that there are, but by those that there will be at the end of the run if all
    parameters go on as they do.

    A subclass puts them into `learned`, by the name of the weight, and says whether they are `slow`.
    """

    learned: dict[str, nn.Parameter]

    slow = True
    """Whether what is 0 follows the learned parameters alone, not the weights too."""

    @abstractmethod
    def attach(self) -> None:
        super().attach()
        if self.control is not None and self.slow:
            self.control = Control(proportional=0.1, integral=10)  # for what is foreseen is known late

    def parameters(self) -> list[nn.Parameter]:
        return list(self.learned.values())

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        if self.control is not None:
            for weight in self.weights if self.slow else []:
                parameter = self.learned[weight.name]
                course = weight.extra.setdefault("course", parameter.detach().clone())
                course.lerp_(parameter.detach(), min(1.0, 1 / self._memory()))

    @property
    def wanted(self) -> float | None:
        return self.target if self.slow else super().wanted

    @torch.no_grad()
    def foreseen(self) -> float:
        if not self.slow:
            return super().foreseen()
        assert self.steps is not None
        ahead = (1 - self.fine_tune - self.progress) * self.steps / self._memory()
        before = [parameter.clone() for parameter in self.parameters()]
        for weight in self.weights:
            parameter = self.learned[weight.name]
            parameter.add_(parameter - weight.extra["course"], alpha=max(0.0, ahead))
        share = self.sparsity()
        for parameter, values in zip(self.parameters(), before, strict=True):
            parameter.copy_(values)
        return share

    def _memory(self) -> float:
        assert self.steps is not None
        return max(1.0, _MEMORY * self.steps)


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
