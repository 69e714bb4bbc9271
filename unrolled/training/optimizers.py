"""The optimiser that options ask for."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from unrolled.sparsify.selection import NORMS
from unrolled.training.options import TrainingOptions


def make_optimizer(options: TrainingOptions, model: nn.Module, more: Sequence[nn.Parameter]) -> Optimizer:
    """The optimiser of a model's trainable parameters, and of more parameters, which never decay."""
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if options.weight_decay and not options.decay_all:
        weights = _weights(model)
        decayed = [parameter for parameter in own if id(parameter) in weights]
        spared = [parameter for parameter in own if id(parameter) not in weights]
    else:
        decayed, spared = own, []
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, options.weight_decay), (spared, 0.0), ([*more], 0.0))
        if parameters
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, nesterov=options.nesterov)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=options.learning_rate)


def copies(options: TrainingOptions) -> int:
    """How many numbers the optimiser remembers for every parameter."""
    return 2 if options.optimizer != "sgd" else 1 if options.momentum else 0


def _weights(model: nn.Module) -> set[int]:
    """The ids of parameters with two axes or more that are not those of norms."""
    return {
        id(parameter)
        for module in model.modules()
        if not isinstance(module, NORMS)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim >= 2
    }
