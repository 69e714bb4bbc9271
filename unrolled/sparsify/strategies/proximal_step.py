"""The proximal map after each step of the optimiser."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unrolled.penalties import Grouped, Penalty, SeparablePenalty, TopK
from unrolled.sparsify.groups import grouping_of
from unrolled.sparsify.machinery.optimizer_metric import step_of
from unrolled.sparsify.machinery.prox_in_metric import deadly, prox_in_metric
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.sparsify.strategies.capturing import lowest, spread

_TOGETHER = 2**20
"""Up to how many numbers of several weights are put into one tensor, which takes far fewer calls of a device."""


class ProximalStep(Sparsifier):
    """Proximal gradient: after each step of the optimiser, w ← prox of (step·strength)·ρ at w.

    The step is that by which the optimiser multiplies a constant gradient, for Adam's family number by number (Yun,
    Lozano, Yang, "Adaptive proximal gradient methods for structured neural networks", NeurIPS 2021); so it ends where
    loss + strength · Σ ρ(w) is stationary. Weights are exactly 0 all the time, and a layer always keeps its largest
    number or group. With TopK there is no target: k says it.
    """

    _held = 0.0  # the share of numbers that the last step did not yet let go

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        if not isinstance(penalty, TopK):
            return
        if self.target is not None:
            raise ValueError(f"ProximalStep: {penalty!r} says itself how many numbers stay; give a strength, no target")
        for weight in self.weights:
            if weight.parameter.numel() < penalty.k:
                raise ValueError(
                    f"ProximalStep: k of {penalty!r} must be at most the size of each weight, {weight.name} has "
                    f"{weight.parameter.numel()} numbers"
                )

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        if self.target is not None and self.step_count == 0:
            self.base_strength = first_strength(self, optimizer, options)
        strength = self.strength
        if not strength:
            return
        moves: list[tuple[list[Weight], list[Tensor]]] = []
        for weights in _together(self.weights):
            parameters = [weight.parameter.detach() for weight in weights]
            steps = [step_of(optimizer, weight.parameter, options[id(weight.parameter)]) for weight in weights]
            penalty = weights[0].penalty
            assert penalty is not None
            if len(weights) == 1:
                shrunk = [prox_in_metric(penalty, parameters[0], _times(strength, steps[0]))]
            else:
                flat = torch.cat([parameter.flatten() for parameter in parameters])
                new = prox_in_metric(penalty, flat, _times(strength, _flat(steps, parameters)))
                shrunk = [
                    part.view(parameter.shape)
                    for part, parameter in zip(new.split([p.numel() for p in parameters]), parameters, strict=True)
                ]
            moves.append((weights, shrunk))
        if self.wanted is not None and all(isinstance(weight.penalty, Grouped) for weight in self.weights):
            order = [
                deadly(weight, step_of(optimizer, weight.parameter, options[id(weight.parameter)]))
                for weight in self.weights
            ]
            self._hold_back([shrunk[0] for _, shrunk in moves], order, self.wanted)
        for weights, shrunk in moves:
            self._overwrite(weights, shrunk)
        if self.control is not None and self.fine_tune and self._is_last():
            self._complete(optimizer, options)

    def _is_last(self) -> bool:
        """Whether fine tuning begins after this step."""
        assert self.steps is not None
        return (self.step_count + 1) / self.steps >= 1 - self.fine_tune

    def _complete(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        """Make zero what is missing to the target: what the smallest strengths would make zero next.

        From here on the strength has no say; and at a target of .99 half a point more or less is half the weights.
        """
        assert self.wanted is not None
        if self.sparsity() >= self.wanted:
            return
        order = [
            deadly(weight, step_of(optimizer, weight.parameter, options[id(weight.parameter)]))
            for weight in self.weights
        ]
        for weight, ranking, (scores, low) in zip(
            self.weights, order, lowest(self.weights, order, self.wanted), strict=True
        ):
            kept = ~(low & (scores < torch.inf)).reshape(ranking.shape)
            weight.parameter.mul_(spread(weight, kept, outside=True))

    def share_by_rule(self) -> float:
        return self.sparsity() + self._held  # of what was held back the strength should not make even more

    def _hold_back(self, shrunk: Sequence[Tensor], strengths: Sequence[Tensor], wanted: float) -> None:
        """Let no group die before its time: of those that would, the last ones beyond the target stay as they are.

        Groups of one size shrink alike, and with a nonconvex penalty many would die at once and not come back. No
        strength meets a target then; the order in which they die is the penalty's.
        """
        numbers, dead = [], []
        for weight, new in zip(self.weights, shrunk, strict=True):
            grouping, values = grouping_of(weight.penalty), weight.parameter.detach()
            assert grouping is not None
            size = torch.as_tensor(grouping.size(values.shape), dtype=torch.float64, device=values.device)
            numbers.append(size.expand(grouping.shape(values.shape)).flatten().cpu())
            dead.append((grouping.norm(new) == 0).flatten().cpu())
        size, dies = torch.cat(numbers), torch.cat(dead)
        rank = torch.where(dies, torch.cat([part.flatten().double().cpu() for part in strengths]), torch.inf).argsort()
        before = size[rank].cumsum(0) - size[rank] / 2
        early = torch.zeros_like(dies)
        early[rank] = before > wanted * sum(weight.parameter.numel() for weight in self.weights)
        self._held = float(size[early & dies].sum() / size.sum())
        if not self._held:
            return
        for weight, new, held in zip(
            self.weights, shrunk, (early & dies).split([len(part) for part in dead]), strict=True
        ):
            grouping, values = grouping_of(weight.penalty), weight.parameter.detach()
            assert grouping is not None
            mask = held.to(values.device).reshape(grouping.shape(values.shape))
            new.copy_(torch.where(grouping.spread(mask, values.shape, outside=False), values, new))


def first_strength(sparsifier: Sparsifier, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> float:
    """A strength to begin with, whatever the scale of the loss: one that is too weak, but not by many orders.

    It is the median of those that make a number or group zero at once, divided by the number of steps.
    """
    found = []
    for weight in sparsifier.weights:
        at_once = deadly(weight, step_of(optimizer, weight.parameter, options[id(weight.parameter)]))
        found.append(at_once[at_once.isfinite() & (at_once > 0)].float())
    strengths = torch.cat(found)
    if not len(strengths):
        return sparsifier.base_strength
    return float(strengths.median()) / (sparsifier.steps or 1)


def _together(weights: Sequence[Weight]) -> Iterator[list[Weight]]:
    """Weights that one call of the proximal map can do, as they come: of one penalty that does not know of shapes."""

    def kind(weight: Weight) -> tuple[Any, ...]:
        own = () if _is_shapeless(weight.penalty) else (id(weight),)
        return id(weight.penalty), weight.parameter.dtype, weight.parameter.device, *own

    for _, alike in groupby(weights, kind):
        batch: list[Weight] = []
        for weight in alike:
            if batch and sum(other.parameter.numel() for other in [*batch, weight]) > _TOGETHER:
                yield batch
                batch = []
            batch.append(weight)
        yield batch


def _is_shapeless(penalty: Penalty | None) -> bool:
    """Whether a penalty of single numbers has the same parameters for all of them."""
    if not isinstance(penalty, SeparablePenalty) or not dataclasses.is_dataclass(penalty):
        return False
    return all(isinstance(getattr(penalty, field.name), (int, float)) for field in dataclasses.fields(penalty))


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
