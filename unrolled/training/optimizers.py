"""The optimiser that options ask for."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.sparsify.selection import NORMS
from unrolled.training.options import TrainingOptions
from unrolled.training.parts import rate_factors

FACTOR = "factor"
"""The entry of a group of parameters that its learning rate is multiplied by, where rates differ."""


def make_optimizer(
    options: TrainingOptions, model: nn.Module, more: Sequence[nn.Parameter], fused: bool = False
) -> Optimizer:
    """The optimiser of a model's trainable parameters, and of more parameters, which never decay.

    If fused, each step is one kernel, which can be told on the device to change nothing.
    """
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if options.weight_decay and not options.decay_all:
        weights = _weights(model)
        decayed = [parameter for parameter in own if id(parameter) in weights]
        spared = [parameter for parameter in own if id(parameter) not in weights]
    else:
        decayed, spared = own, []
    factors = rate_factors(model, options.rates)
    groups: list[dict[str, Any]] = []
    for parameters, decay in ((decayed, options.weight_decay), (spared, 0.0), ([*more], 0.0)):
        for factor in dict.fromkeys(factors.get(id(parameter), 1.0) for parameter in parameters):
            chosen = [parameter for parameter in parameters if factors.get(id(parameter), 1.0) == factor]
            groups.append({"params": chosen, "weight_decay": decay, **({FACTOR: factor} if factors else {})})
    common: dict[str, Any] = {"lr": options.learning_rate, "fused": fused or None}
    if options.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=options.momentum, nesterov=options.nesterov, **common)
        if fused and options.momentum:  # torch leaves it as it finds the memory if the first step changes nothing
            for parameter in own:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, **common)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """The learning rate of a step; of parts with a rate of their own times their factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take the state of an optimiser of the same kind, which need not have been fused if this one is."""
    for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        saved["fused"] = group["fused"]
    optimizer.load_state_dict(state)


def check_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Raise ValueError if a state is not one of such an optimiser of such parameters.

    An optimiser takes any, and fails in its first step, or later.
    """
    groups = optimizer.param_groups
    if [len(saved["params"]) for saved in state["param_groups"]] != [len(group["params"]) for group in groups]:
        raise ValueError("resume: the optimiser's state is of other groups of parameters")
    parameters: dict[Any, nn.Parameter] = {}
    for saved, group in zip(state["param_groups"], groups, strict=True):
        # A rate is set in every step, and the kernels are those of the device.
        for name in (saved.keys() & group.keys()) - {"params", "lr", "fused", "foreach"}:
            if saved[name] != group[name]:
                raise ValueError(f"resume: the optimiser's {name} is {saved[name]!r:.99} and should be {group[name]!r}")
        parameters |= dict(zip(saved["params"], group["params"], strict=True))
    kept = {"momentum_buffer"} if isinstance(optimizer, torch.optim.SGD) else {"step", "exp_avg", "exp_avg_sq"}
    for index, entries in state["state"].items():
        shape = parameters[index].shape
        for name, value in entries.items():
            wanted = torch.Size([]) if name == "step" else shape
            if value is None and name == "momentum_buffer":
                continue
            if not isinstance(value, Tensor) or value.shape != wanted:
                found = tuple(value.shape) if isinstance(value, Tensor) else f"{value!r:.99}"
                raise ValueError(f"resume: {name} of the optimiser's state is {found} and should be {tuple(wanted)}")
        if not kept >= entries.keys() or (entries and not entries.keys() >= kept):
            raise ValueError(f"resume: the optimiser's state holds {sorted(entries)} and should hold {sorted(kept)}")


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
