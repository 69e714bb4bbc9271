"""Pruning by magnitude, and of channels by the scales of their batch norms."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import L0, Penalty
from unrolled.sparsify.capturing import Capturing, magnitudes
from unrolled.sparsify.groups import Groups
from unrolled.sparsify.masks import Masks
from unrolled.sparsify.proximal import ProximalStep
from unrolled.sparsify.schedules import Schedule
from unrolled.sparsify.selection import Weight, _matches, _parameters


class MagnitudePruning(Capturing):
    """Sets the smallest weights to zero, ever more of them, as gradual pruning does (Zhu, Gupta, 2017).

    How many are zero is said by target and schedule, to the number; what is zero stays so. It is the proximal map of
    counting with the strength that the share of zeros asks for, and has no strength of its own. A group's magnitude is
    the root of the mean of its squares, so that groups of different sizes compare. A weight keeps at least its largest
    number or group.

    Parameters
    ----------
    model : Module
    target : float in [0, 1)
        the share of zeros at the end.
    scope : "global" or "layer"
        whether all weights are compared, or each weight gets the same share of zeros.
    every : int ≥ 1, optional
        steps between two prunings; by default a hundred prunings a run. The last step always prunes if it is due.
    groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`; by default the target rises by the cubic schedule.

    Raises
    ------
    ValueError
        as of `Sparsifier`, or if scope or every is not allowed.
    """

    def __init__(
        self,
        model: nn.Module,
        target: float,
        *,
        scope: Literal["global", "layer"] = "global",
        every: int | None = None,
        groups: Groups | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float = 0.0,
        steps: int | None = None,
    ):
        if scope not in ("global", "layer"):
            raise ValueError(f"MagnitudePruning: scope must be 'global' or 'layer', got {scope!r}")
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"MagnitudePruning: every must be an integer >= 1, got {every!r}")
        self.scope, self.captures_every = scope, every
        super().__init__(
            model,
            L0(),
            target=target,
            groups=groups,
            include=include,
            exclude=exclude,
            schedule=schedule,
            fine_tune=fine_tune,
            steps=steps,
        )

    @property
    def strength(self) -> float:
        """0: it has none."""
        return 0.0

    def ranking(self, weight: Weight) -> Tensor:
        return magnitudes(weight)


class NetworkSlimming(Capturing, ProximalStep):
    """A penalty on the scales of batch norms, so that whole channels can be removed (Liu et al., ICCV 2017).

    With L1 as there, or TransformedL1, MCP, SCAD (Bui et al., "Improving network slimming with nonconvex
    regularization", IEEE Access 9, 2021). The scales are moved by the proximal map after each step instead of a
    subgradient, so they become exactly 0, and a channel's shift becomes 0 with its scale: the channel then emits zeros
    whatever comes in, and what computes or reads it can go. Every norm keeps a channel.

    Scales that begin alike fall alike, many at a time. So with a target the penalty only makes them small, at a
    strength that would halve them in the run, and those that are smallest become 0, so many as the target asks for.

    Parameters
    ----------
    model : Module
    penalty : Penalty
        on each scale.
    strength, target, schedule, fine_tune, steps
        as for every `Sparsifier`; the target is the share of channels.
    include, exclude : str or sequence of str
        patterns of names of batch norms, or of modules that have some.

    Raises
    ------
    ValueError
        as of `Sparsifier`, or if the model has no batch norm with a scale.
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        target: float | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float = 0.0,
        steps: int | None = None,
    ):
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        scales = {name: weight for name, weight in _parameters(model).items() if _is_scale(weight)}
        if not scales:
            raise ValueError(
                f"model: {type(model).__name__} has no batch norm with a scale, which NetworkSlimming needs"
            )
        chosen = set(scales) if include is None else _matches("include", include, scales, set(scales))
        chosen -= _matches("exclude", exclude, scales, set(scales))
        if not chosen:
            raise ValueError(f"exclude: {exclude!r} leaves no batch norm")
        super().__init__(
            model,
            penalty,
            strength,
            target=target,
            include=sorted(chosen),
            schedule=schedule,
            fine_tune=fine_tune,
            steps=steps,
        )

    def ranking(self, weight: Weight) -> Tensor:
        return magnitudes(weight)

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        ProximalStep.act(self, optimizer, options)
        Capturing.act(self, optimizer, options)
        for weight in self.weights:
            for shift in _shifts(weight):
                shift.mul_(weight.parameter != 0)

    def _overwrite(self, weights: Sequence[Weight], values: Sequence[Tensor]) -> None:
        if self.target is None:
            return super()._overwrite(weights, values)
        for weight, new in zip(weights, values, strict=True):  # what shall not yet be 0 stays as it is
            weight.parameter.copy_(torch.where(new == 0, weight.parameter, new))
        return None

    def masking(self) -> Masks:
        parameters, masks = [], []
        for weight in self.weights:
            for parameter in (weight.parameter, *_shifts(weight)):
                parameters.append(parameter)
                masks.append(weight.parameter.detach() != 0)
        return Masks(parameters, masks)

    def _touched(self) -> list[str]:
        shifts = {id(shift) for weight in self.weights for shift in _shifts(weight)}
        return super()._touched() + [name for name, value in self.model.named_parameters() if id(value) in shifts]

    def _write(self, own: Mapping[str, Tensor]) -> None:
        super()._write(own)
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for weight in self.weights:
            for shift in _shifts(weight):
                own[names[id(shift)]].mul_(own[weight.name] != 0)


def _is_scale(weight: Weight) -> bool:
    norms = nn.modules.batchnorm._BatchNorm
    return all(isinstance(module, norms) and attribute == "weight" for module, attribute in weight.owners)


def _shifts(weight: Weight) -> list[nn.Parameter]:
    """The shifts that belong to a scale: of every norm that has it, once."""
    shifts = {id(module.bias): module.bias for module, _ in weight.owners if isinstance(module.bias, nn.Parameter)}
    return list(shifts.values())
