"""The proximal map after each step of the optimiser."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from unrolled.sparsify.groups import grouping_of
from unrolled.sparsify.metric import step_of
from unrolled.sparsify.sparsifier import Sparsifier


class ProximalStep(Sparsifier):
    """Proximal gradient: after each step of the optimiser, w ← prox of (step·strength)·ρ at w.

    The step is that of the optimiser, for its family number by number in Adam's metric (Yun, Lozano, Yang, "Adaptive
    proximal gradient methods for structured neural networks", NeurIPS 2021). Weights are exactly 0 all the time.
    """

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        for weight in self.weights:
            assert weight.penalty is not None
            step = step_of(optimizer, weight.parameter, options[id(weight.parameter)])
            grouping = grouping_of(weight.penalty)
            if isinstance(step, torch.Tensor) and grouping is not None:
                step = grouping.sum(step) / grouping.size(step.shape)
            weight.parameter.copy_(weight.penalty.prox(weight.parameter, self.strength * step))
