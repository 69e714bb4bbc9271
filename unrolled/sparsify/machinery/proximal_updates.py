"""Proximal maps of many weights, with the steps of the optimiser that moved them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unrolled.penalties import L1MinusL2, Penalty, TopK
from unrolled.sparsify.groups import is_uniform
from unrolled.sparsify.machinery.metric_prox import deadly, prox_in_metric
from unrolled.sparsify.machinery.optimizer_metric import step_of
from unrolled.sparsify.selection import Weight

TOGETHER = 2**20
"""Up to how many numbers of several weights are put into one tensor, which takes far fewer calls of a device."""

Options = Mapping[int, dict[str, Any]]
"""id of a parameter → its group of options in the optimiser."""


def proximal_moves(
    weights: Sequence[Weight], optimizer: Optimizer, options: Options, strength: float
) -> Iterator[tuple[list[Weight], list[Tensor]]]:
    """The prox of (step·strength)·ρ at every weight: weights in order, some at a time, and what they become.

    Parameters
    ----------
    weights : sequence of Weight
    optimizer : Optimizer
        whose step it is, number by number.
    options : mapping
        id of a parameter → its group of options in the optimiser.
    strength : float > 0
    """
    for alike in _together(weights):
        parameters = [weight.parameter.detach() for weight in alike]
        steps = [step_of(optimizer, weight.parameter, options[id(weight.parameter)]) for weight in alike]
        penalty = alike[0].penalty
        if len(alike) == 1:
            yield alike, [prox_in_metric(penalty, parameters[0], _times(strength, steps[0]))]
            continue
        flat = torch.cat([parameter.flatten() for parameter in parameters])
        new = prox_in_metric(penalty, flat, _times(strength, _flat(steps, parameters)))
        parts = new.split([parameter.numel() for parameter in parameters])
        yield alike, [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]


def deadly_strengths(weights: Sequence[Weight], optimizer: Optimizer, options: Options) -> list[Tensor]:
    """Of every weight, about the strengths that make its numbers or groups zero at once; see `deadly`."""
    return [deadly(w, step_of(optimizer, w.parameter, options[id(w.parameter)])) for w in weights]


def order_of_death(weights: Sequence[Weight], optimizer: Optimizer, options: Options) -> list[Tensor]:
    """Of every weight, what its numbers or groups become zero by, the lowest first.

    These are the deadly strengths. But l1 − l2, a penalty of a whole weight, makes its numbers zero one by one: of it
    they are the strengths at which its threshold passes the numbers.
    """
    order = deadly_strengths(weights, optimizer, options)
    for i, weight in enumerate(weights):
        if isinstance(weight.penalty, L1MinusL2):
            step = step_of(optimizer, weight.parameter, options[id(weight.parameter)])
            sizes = weight.parameter.detach().abs()
            order[i] = torch.where(sizes == 0, 0.0, sizes / step)
    return order


def first_strength(
    weights: Sequence[Weight], optimizer: Optimizer, options: Options, steps: int | None
) -> float | None:
    """A strength to begin with, whatever the scale of the loss: one that is too weak, but not by many orders.

    It is the median of those that make a number or group zero at once, divided by the number of steps; None if there is
    none. This asks the device for a number, once in a run.
    """
    found = [
        at_once[at_once.isfinite() & (at_once > 0)].float() for at_once in deadly_strengths(weights, optimizer, options)
    ]
    strengths = torch.cat(found)
    return float(strengths.median()) / (steps or 1) if len(strengths) else None


def check_top_k(owner: str, penalty: Penalty, weights: Sequence[Weight], target: float | None) -> None:
    """Refuse TopK with a target, for it says itself how many numbers stay, and where a weight has not so many.

    Raises
    ------
    ValueError
        that names the owner.
    """
    if not isinstance(penalty, TopK):
        return
    if target is not None:
        raise ValueError(f"{owner}: {penalty!r} says itself how many numbers stay; give a strength, no target")
    for weight in weights:
        if weight.parameter.numel() < penalty.k:
            raise ValueError(
                f"{owner}: k of {penalty!r} must be at most the size of each weight, {weight.name} has "
                f"{weight.parameter.numel()} numbers"
            )


def _together(weights: Sequence[Weight]) -> Iterator[list[Weight]]:
    """Weights that one call of the proximal map can do, as they come: of one penalty that treats all numbers alike."""

    def kind(weight: Weight) -> tuple[Any, ...]:
        own = () if is_uniform(weight.penalty) else (id(weight),)
        return id(weight.penalty), weight.parameter.dtype, weight.parameter.device, *own

    for _, alike in groupby(weights, kind):
        batch: list[Weight] = []
        for weight in alike:
            if batch and sum(other.parameter.numel() for other in [*batch, weight]) > TOGETHER:
                yield batch
                batch = []
            batch.append(weight)
        yield batch


def _flat(steps: Sequence[Tensor | float], parameters: Sequence[Tensor]) -> Tensor | float:
    """The steps of several weights, one after the other; a number if it is the same for all."""
    if all(not isinstance(step, Tensor) and step == steps[0] for step in steps):
        return steps[0]
    real = parameters[0].real.dtype if parameters[0].is_complex() else parameters[0].dtype
    parts = [
        torch.as_tensor(step, device=parameter.device).to(real).expand(parameter.shape).flatten()
        for step, parameter in zip(steps, parameters, strict=True)
    ]
    return torch.cat(parts)


def _times(strength: float, step: Tensor | float) -> Tensor | float:
    # Smaller steps do nothing, but 0 has no proximal map.
    return (strength * step).clamp(min=1e-30) if isinstance(step, Tensor) else strength * step
