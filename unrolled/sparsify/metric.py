"""The step of an optimiser, number by number."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_SECOND_MOMENT = {"exp_avg_sq": True, "square_avg": False, "sum": False}
"""What optimisers call their mean of squared gradients, and whether it still has the bias of Adam's start."""


def groups_of(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """The options of every parameter that an optimiser holds, by its id."""
    return {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}


def is_adaptive(optimizer: Optimizer, parameter: nn.Parameter) -> bool:
    """Whether the optimiser divides the gradient by its size, as Adam does; not known before its first step."""
    return any(name in optimizer.state.get(parameter, {}) for name in _SECOND_MOMENT)


def step_of(optimizer: Optimizer, parameter: nn.Parameter, options: dict[str, Any]) -> Tensor | float:
    """By what the optimiser multiplies the gradient: its learning rate, divided by √v̂ + ε if it is of Adam's family.

    A step of such an optimiser is one of gradient descent in the metric diag(1/step), and so is the proximal map that
    belongs to it.

    Parameters
    ----------
    optimizer : Optimizer
        that has stepped at least once.
    parameter : Parameter
    options : dict
        the parameter's group of options.

    Returns
    -------
    Tensor, the shape of the parameter, or float
    """
    rate = float(options["lr"])
    state = optimizer.state.get(parameter, {})
    for name, biased in _SECOND_MOMENT.items():
        if isinstance(state.get(name), Tensor):
            square = state["max_exp_avg_sq"] if options.get("amsgrad") and "max_exp_avg_sq" in state else state[name]
            correction = 1 - options["betas"][1] ** float(state["step"]) if biased else 1.0
            root = torch.sqrt(square / correction) if correction != 1 else square.sqrt()
            return rate / (root + options.get("eps", 1e-8))
    return rate
