"""Zeros that stay zero while the rest is trained on."""

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.sparsify.machinery.steps import leave, listen
from unrolled.system.arraylike import as_tensor


class Masks:
    """Keeps the zeros of parameters zero, whatever optimiser of torch changes them. Nothing is attached to the model.

    After every step of an optimiser that holds one of the parameters they are set to zero again where they were when
    this was made; so neither momentum nor decay moves them. It ends with `remove`, or when the parameters are gone.

    Parameters
    ----------
    parameters : sequence of Parameter
    masks : sequence of Tensor, array or nested lists, bool, optional
        True where numbers may change; by default where they are not 0.

    Raises
    ------
    ValueError
        if a mask is not bool or has not the shape of its parameter, or there are not as many.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], masks: Sequence[Tensor] | None = None):
        if masks is None:
            self.masks = [parameter.detach() != 0 for parameter in parameters]
        else:
            self.masks = [as_tensor("Masks: a mask", mask) for mask in masks]
            if len(self.masks) != len(parameters):
                raise ValueError(f"Masks: masks must be {len(parameters)}, one a parameter, got {len(self.masks)}")
        for parameter, mask in zip(parameters, self.masks, strict=True):
            if mask.shape != parameter.shape or mask.dtype != torch.bool:
                raise ValueError(
                    f"Masks: a mask must be bool and of shape {tuple(parameter.shape)}, as its parameter is, got "
                    f"{mask.dtype} of shape {tuple(mask.shape)}"
                )
        # Weakly: the hook lives as long as the process, and would keep every model that was ever sparsified.
        self._parameters = [weakref.ref(parameter) for parameter in parameters]
        listen(self._after_step)

    @torch.no_grad()
    def apply(self) -> None:
        """Set to zero what must be."""
        for index, reference in enumerate(self._parameters):
            if (parameter := reference()) is not None:
                self.masks[index] = mask = self.masks[index].to(parameter.device)
                parameter.masked_fill_(~mask, 0)

    def remove(self) -> None:
        """From now on everything may change."""
        leave(self._after_step)

    def _after_step(self, optimizer: Optimizer) -> None:
        alive = {id(parameter) for reference in self._parameters if (parameter := reference()) is not None}
        if not alive:
            self.remove()
        elif any(id(parameter) in alive for group in optimizer.param_groups for parameter in group["params"]):
            self.apply()
