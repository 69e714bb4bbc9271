"""The average of a model's weights over the steps of training."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class Average(AveragedModel):
    """The exponential moving average of a model's weights.

    Parameters
    ----------
    model : Module
    decay : float in [0, 1)
        after the first steps. Early on the memory is short, so that the average does not drag the random first weights
        along.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, where: Tensor | None = None) -> None:
        """Take in the weights of a step; or only where a tensor is true, decided on its device."""
        averages: list[Tensor] = [*self.module.parameters()]
        weights: list[Tensor] = [*model.parameters()]
        if where is None:
            steps = int(self.n_averaged)
            part = 1 - min(self.decay, (1 + steps) / (10 + steps)) if steps else 1.0
            torch._foreach_lerp_(averages, weights, part)
            self.n_averaged += 1
        else:
            self.n_averaged = counted = self.n_averaged.to(where.device, non_blocking=True)
            count = counted.double()
            memory = ((1 + count) / (10 + count)).clamp(max=self.decay) * (count > 0)
            moves = torch._foreach_sub(weights, averages)
            torch._foreach_mul_(moves, ((1 - memory) * where).float())
            torch._foreach_add_(averages, moves)
            counted += where
        for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
