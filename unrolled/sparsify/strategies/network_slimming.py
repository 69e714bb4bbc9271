"""Network slimming: the scales of batch norms become zero."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import Penalty
from unrolled.sparsify.machinery.masks import Masks
from unrolled.sparsify.schedules import Schedule
from unrolled.sparsify.selection import Weight, matches, parameters_of
from unrolled.sparsify.strategies.capturing import Capturing, magnitudes
from unrolled.sparsify.strategies.proximal_step import ProximalStep


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
        scales = {name: weight for name, weight in parameters_of(model).items() if _is_scale(weight)}
        if not scales:
            raise ValueError(
                f"model: {type(model).__name__} has no batch norm with a scale, which NetworkSlimming needs"
            )
        chosen = set(scales) if include is None else matches("include", include, scales, set(scales))
        chosen -= matches("exclude", exclude, scales, set(scales))
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
