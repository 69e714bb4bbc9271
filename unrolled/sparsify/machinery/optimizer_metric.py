"""The step of an optimiser, number by number."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, RAdam, SparseAdam

_SECOND_MOMENTS = ("exp_avg_sq", "square_avg", "sum", "exp_inf")
_WITHOUT_STEP = {
    "Adafactor": "are cut by a factor that it does not keep",
    "LBFGS": "are not multiples of the gradient",
    "Muon": "are orthogonal matrices, not multiples of the gradient",
    "Rprop": "are not multiples of the gradient",
    "ZeroRedundancyOptimizer": "are known only to the process that takes them",
}
"""Optimisers, by the names of their classes, whose steps cannot be told number by number, and why."""


def unwrapped(optimizer: Optimizer) -> Optimizer:
    """The optimiser inside of those that hand everything on to their attribute `optimizer`.

    Raises
    ------
    ValueError
        if it is no optimiser.
    """
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    if not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "state")):
        raise ValueError(f"optimizer: must be one of torch.optim or made like these, got {optimizer!r:.99}")
    return optimizer


def groups_of(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """The options of every parameter that an optimiser holds, by its id."""
    return {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}


def is_adaptive(optimizer: Optimizer, parameter: nn.Parameter) -> bool:
    """Whether the optimiser divides the gradient by its size, as Adam does; not known before its first step."""
    return any(name in optimizer.state.get(parameter, {}) for name in _SECOND_MOMENTS)


def step_of(optimizer: Optimizer, parameter: nn.Parameter, options: dict[str, Any]) -> Tensor | float:
    """By what the optimiser multiplies a gradient that stays the same: Δw = −step·g.

    Its learning rate; divided by √v̂ + ε if it is of Adam's family, which is gradient descent in the metric
    diag(1/step); and by 1 − μ if it sums up gradients in a momentum μ, as torch's SGD does. The proximal map for this
    step has its fixed points where the sum of loss and penalty is stationary, whatever the optimiser is.

    Of an optimiser that is not known by the names of its state this is the learning rate.

    Parameters
    ----------
    optimizer : Optimizer
        that has stepped at least once.
    parameter : Parameter
    options : dict
        the parameter's group of options.

    Returns
    -------
    Tensor, the shape of the parameter, or float, or Tensor without axes; 0 if the learning rate is

    Raises
    ------
    ValueError
        if its steps cannot be told so: those of Adafactor, LBFGS, Muon, Rprop and ZeroRedundancyOptimizer.
    """
    for name in (kind.__name__ for kind in type(optimizer).__mro__):
        if name in _WITHOUT_STEP:
            raise ValueError(
                f"optimizer: the steps of {name} {_WITHOUT_STEP[name]}, so that no proximal step belongs to them; "
                "SGD, Adam and others of its family have one"
            )
    state = optimizer.state.get(parameter, {})
    rate = options["lr"]
    if isinstance(state.get("momentum_buffer"), Tensor):
        rate = rate * (1 - options.get("dampening", 0.0)) / (1 - options["momentum"])
    if isinstance(state.get("exp_avg_sq"), Tensor):
        return _adam(optimizer, state, options, rate)
    if isinstance(state.get("acc_delta"), Tensor):  # Adadelta
        return rate * ((state["acc_delta"] + options["eps"]) / (state["square_avg"] + options["eps"])).sqrt()
    if isinstance(state.get("square_avg"), Tensor):  # RMSprop
        square = _real(state["square_avg"])
        if options.get("centered"):
            square = square - _squared(state["grad_avg"])
        return _quotient(rate, square.clamp(min=0).sqrt(), options["eps"])
    if isinstance(state.get("sum"), Tensor):  # Adagrad
        rate = rate / (1 + (_number(state["step"]) - 1) * options.get("lr_decay", 0.0))
        return _quotient(rate, _real(state["sum"]).sqrt(), options["eps"])
    if isinstance(state.get("exp_inf"), Tensor):  # Adamax, whose maximum has ε in it
        return _quotient(rate, _real(state["exp_inf"]), 0.0)
    return state["eta"] if isinstance(state.get("eta"), Tensor) else rate  # ASGD's own rate; SGD


def _adam(optimizer: Optimizer, state: dict[str, Any], options: dict[str, Any], rate: Any) -> Tensor | float:
    """lr / (√v̂ + ε), v̂ = v / (1 − β₂ᵗ)."""
    largest = state.get("max_exp_avg_sq") if options.get("amsgrad") else None
    root = _real(state["exp_avg_sq"] if largest is None else largest).sqrt()
    if "betas" not in options or "step" not in state:
        return _quotient(rate, root, options.get("eps", 1e-8))
    beta, count = options["betas"][1], _number(state["step"])
    bias = (1 - beta**count) ** 0.5
    if isinstance(optimizer, RAdam):
        end = 2 / (1 - beta) - 1
        length = end - 2 * float(count) * beta ** float(count) / (1 - beta ** float(count))
        if length <= 5:  # no denominator yet
            return rate
        rectified = (length - 4) * (length - 2) * end / ((end - 4) * (end - 2) * length)
        return _quotient(rate * bias * math.sqrt(rectified), root, options["eps"])
    step = _quotient(rate * bias, root, bias * options["eps"])
    if isinstance(optimizer, SparseAdam):  # rows that it has never seen have not moved, and have no metric
        step = torch.where(root == 0, torch.as_tensor(rate, dtype=step.dtype, device=step.device), step)
    return step


def _number(step: Any) -> Any:
    """How many steps there were: a number if that needs no answer from a device."""
    if isinstance(step, Tensor):
        return step.double() if step.device.type != "cpu" else float(step)
    return step


def _real(moment: Tensor) -> Tensor:
    """A moment that optimisers keep, in at least 32 bits; of complex numbers the mean of both parts."""
    if moment.is_complex():
        return torch.view_as_real(moment).mean(-1)
    return moment.float() if moment.dtype in (torch.bfloat16, torch.float16) else moment


def _squared(mean: Tensor) -> Tensor:
    return torch.view_as_real(mean).square().mean(-1) if mean.is_complex() else _real(mean).square()


def _quotient(rate: Any, root: Tensor, eps: Any) -> Tensor:
    return rate / (root + eps)
