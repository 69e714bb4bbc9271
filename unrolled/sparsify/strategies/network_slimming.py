"""Network slimming: the scales of batch norms become zero."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import Penalty
from unrolled.sparsify.machinery.capture import magnitudes
from unrolled.sparsify.machinery.companions import Companions
from unrolled.sparsify.machinery.computed import Computed, computed_of
from unrolled.sparsify.machinery.masks import Masks
from unrolled.sparsify.machinery.proximal_updates import check_top_k, first_strength, proximal_moves
from unrolled.sparsify.selection import Weight, matches, parameters_of
from unrolled.sparsify.sparsifier import Sparsifier


class NetworkSlimming(Sparsifier):
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

    captures = True

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        **options: Any,
    ):
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        for computed in computed_of(model):
            if isinstance(computed.module, nn.modules.batchnorm._BatchNorm) and _is_meant(computed, include):
                raise ValueError(f"model: {computed}, and not learned itself; undo it by {computed.remedy}")
        scales = {name: weight for name, weight in parameters_of(model).items() if _is_scale(weight)}
        if not scales:
            raise ValueError(
                f"model: {type(model).__name__} has no batch norm with a scale, which NetworkSlimming needs"
            )
        chosen = set(scales) if include is None else matches("include", include, scales, set(scales))
        chosen -= matches("exclude", exclude, scales, set(scales))
        if not chosen:
            raise ValueError(f"exclude: {exclude!r} leaves no batch norm")
        super().__init__(model, penalty, strength, groups=None, include=sorted(chosen), exclude=(), **options)

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        check_top_k("NetworkSlimming", penalty, self.weights, self.course.target)

    def make_companions(self) -> Companions:
        return _Shifts(self.model, self.weights)

    def ranking(self, weight: Weight) -> Tensor:
        return magnitudes(weight)

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        if self.course.target is not None and self.step_count == 0:
            found = first_strength(self.weights, optimizer, options, self.steps)
            self.base_strength = self.base_strength if found is None else found
        moves = proximal_moves(self.weights, optimizer, options, self.strength) if self.strength else ()
        for weights, shrunk in list(moves):
            if self.course.target is None:
                self.survivors.overwrite(weights, shrunk)
                continue
            for weight, new in zip(weights, shrunk, strict=True):  # what shall not yet be 0 stays as it is
                weight.parameter.copy_(torch.where(new == 0, weight.parameter, new))
        super().act(optimizer, options)

    def masking(self) -> Masks:
        parameters, masks = [], []
        for weight in self.weights:
            for parameter in (weight.parameter, *_shifts(weight)):
                parameters.append(parameter)
                masks.append(weight.parameter.detach() != 0)
        return Masks(parameters, masks)


class _Shifts(Companions):
    """The shifts of batch norms, which are 0 where the scales are."""

    def __init__(self, model: nn.Module, scales: Sequence[Weight]):
        super().__init__(model, [])
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._of = {weight.name: (weight, [names[id(shift)] for shift in _shifts(weight)]) for weight in scales}

    def silence(self, values: Mapping[str, Tensor]) -> None:
        for weight, names in self._of.values():
            for name in names:
                self.model.get_parameter(name).mul_(weight.parameter != 0)

    def names(self) -> list[str]:
        return [name for _, names in self._of.values() for name in names]

    def write(self, own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for scale, (_, names) in self._of.items():
            for name in names:
                own[name].mul_(own[scale] != 0)


def _is_scale(weight: Weight) -> bool:
    norms = nn.modules.batchnorm._BatchNorm
    return all(isinstance(module, norms) and attribute == "weight" for module, attribute in weight.owners)


def _is_meant(computed: Computed, include: str | Sequence[str] | None) -> bool:
    """Whether a computed scale or shift is of a batch norm that patterns name, or all are meant."""
    patterns = [include] if isinstance(include, str) else include
    names = [computed.name, f"{computed.prefix}.weight", computed.prefix]
    return patterns is None or any(fnmatch.fnmatchcase(name, str(pattern)) for name in names for pattern in patterns)


def _shifts(weight: Weight) -> list[nn.Parameter]:
    """The shifts that belong to a scale: of every norm that has it, once."""
    shifts = {id(module.bias): module.bias for module, _ in weight.owners if isinstance(module.bias, nn.Parameter)}
    return list(shifts.values())
