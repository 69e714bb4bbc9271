"""Zeros that stay zero while the rest is trained on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


class Masks:
    """Keeps the zeros of parameters zero, whatever optimiser of torch changes them. Nothing is attached to the model.

    After every step of an optimiser that holds one of the parameters they are set to zero again where they were when
    this was made; so neither momentum nor decay moves them.

    Parameters
    ----------
    parameters : sequence of Parameter
    masks : sequence of Tensor, bool, optional
        True where numbers may change; by default where they are not 0.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], masks: Sequence[Tensor] | None = None):
        self.parameters = list(parameters)
        self.masks = [parameter.detach() != 0 for parameter in self.parameters] if masks is None else list(masks)
        self._ids = {id(parameter) for parameter in self.parameters}
        self._handle = register_optimizer_step_post_hook(self._after_step)

    @torch.no_grad()
    def apply(self) -> None:
        """Set to zero what must be."""
        for parameter, mask in zip(self.parameters, self.masks, strict=True):
            parameter.mul_(mask)

    def remove(self) -> None:
        """From now on everything may change."""
        self._handle.remove()

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if any(id(parameter) in self._ids for group in optimizer.param_groups for parameter in group["params"]):
            self.apply()
