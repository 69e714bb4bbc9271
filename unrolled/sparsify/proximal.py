"""The proximal map after each step of the optimiser."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unrolled.penalties import L1, Grouped, Penalty, SeparablePenalty, SparseGroup, TopK
from unrolled.penalties.grouping import Grouping
from unrolled.sparsify.capturing import lowest, spread
from unrolled.sparsify.groups import grouping_of
from unrolled.sparsify.metric import step_of
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier

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
                _deadly(weight, step_of(optimizer, weight.parameter, options[id(weight.parameter)]))
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
            _deadly(weight, step_of(optimizer, weight.parameter, options[id(weight.parameter)]))
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


def prox_in_metric(penalty: Penalty, v: Tensor, step: Tensor | float) -> Tensor:
    """argmin_z Σ |z_i − v_i|²/(2 step_i) + ρ(z): the proximal map in the metric of an optimiser.

    It is exact for penalties of single numbers, for TopK, and for the group lasso, also with l1 within the groups. Of
    another penalty on groups the step of a group is s with 1/s = Σ (|v_i|²/step_i) / Σ |v_i|². With it the proximal
    map finds the exact minimiser among all multiples of v_g, which 0 and v_g belong to. From there two steps of
    reweighting, z_i ← v_i/(1 + step_i/η̂_i(z)), which never ascend, turn z towards the minimiser: their fixed points
    are the stationary points of the objective.

    Parameters
    ----------
    penalty : Penalty
    v : Tensor, any shape, real or complex
    step : Tensor or float, > 0
        a tensor has the shape of v or no axes. Where it is 0, nothing is done.
    """
    if not isinstance(step, Tensor) or step.ndim == 0:
        return v.clone() if not isinstance(step, Tensor) and step == 0 else penalty.prox(v, step)
    if isinstance(penalty, TopK):
        return torch.where(penalty.prox(v / step.sqrt(), 1.0) != 0, v, 0)
    grouping = grouping_of(penalty)
    if grouping is None or _has_metric(penalty):
        return penalty.prox(v, step)
    low = v.dtype in (torch.bfloat16, torch.float16)
    exact = v.float() if low else v
    z = penalty.prox(exact, radial_step(grouping, exact, step))
    for _ in range(2):
        eta = penalty.eta(z)
        if eta.shape != v.shape:
            eta = grouping.spread(eta, v.shape, outside=torch.inf)
        z = exact / (1 + step / eta)
    return z.to(v.dtype)


def radial_step(grouping: Grouping, v: Tensor, step: Tensor | float) -> Tensor | float:
    """One step for each group: the mean of the steps, harmonic and weighed by |v|²."""
    if not isinstance(step, Tensor) or step.ndim == 0:
        return step
    squares = v.abs().square()
    total, quotient = grouping.sum(squares), grouping.sum(squares / step)
    empty = (total == 0) | (quotient == 0)
    mean = grouping.sum(step) / torch.as_tensor(grouping.size(v.shape)).to(step)
    return torch.where(empty, mean, total / torch.where(empty, 1.0, quotient))


def first_strength(sparsifier: Sparsifier, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> float:
    """A strength to begin with, whatever the scale of the loss: one that is too weak, but not by many orders.

    It is the median of those that make a number or group zero at once, divided by the number of steps.
    """
    found = []
    for weight in sparsifier.weights:
        at_once = _deadly(weight, step_of(optimizer, weight.parameter, options[id(weight.parameter)]))
        found.append(at_once[at_once.isfinite() & (at_once > 0)].float())
    strengths = torch.cat(found)
    if not len(strengths):
        return sparsifier.base_strength
    return float(strengths.median()) / (sparsifier.steps or 1)


def _deadly(weight: Weight, step: Tensor | float) -> Tensor:
    """About the strengths that make numbers or groups zero at once: |w|²/(2 step·ρ(w)), where 0 is as good as w."""
    assert weight.penalty is not None
    values, grouping = weight.parameter.detach(), grouping_of(weight.penalty)
    squares = values.abs().square()
    if grouping is not None:
        squares, step = grouping.sum(squares), radial_step(grouping, values, step)
    return torch.where(squares == 0, 0.0, squares / (2 * step * weight.penalty.value(values)))


def _has_metric(penalty: Penalty) -> bool:
    """Whether the proximal map of a penalty on groups is exact for steps that differ within a group."""
    if isinstance(penalty, SparseGroup):
        return penalty.exact and isinstance(penalty.grouped.penalty, L1)
    return isinstance(penalty, Grouped) and isinstance(penalty.penalty, L1)


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
