"""Hard concrete gates on weights or groups."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import HardConcrete, Penalty
from unrolled.sparsify.groups import ungrouped
from unrolled.sparsify.machinery.arguments import between
from unrolled.sparsify.machinery.hooks import WeightHooks
from unrolled.sparsify.machinery.learned_parameters import learned, per_group
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier

_HARD_CONCRETE = HardConcrete()
_CRACK = 1e-3  # by which gates are open at least, with a target


class HardConcreteGates(Sparsifier):
    """Random gates on weights or groups, 0 with a learned probability, at the cost of how many weights are expected to
    be other than 0 (Louizos, Welling, Kingma, "Learning sparse neural networks through L0 regularization", ICLR 2018).

    The loss is (task loss with random gates) + strength·Σ P(gate > 0), a group counting as many times as it has
    weights. Gates are hard concrete with the β, γ and ζ of the penalty, whose face they are; their location log a is
    learned, and kept in [log .01, log 100].

    In evaluation mode, and for good by `finalize`, weights are multiplied by min(1, max(0, σ(log a)(ζ − γ) + γ)), which
    is 0 where the gate is closed. With a target those whose gates are least open are taken out on the way, and gates
    that would close before stay open by a thousandth. Copies of the model, among them averaged ones, have no gates. Put
    the learned parameters into the optimiser without weight decay, in runs of few steps with a larger learning rate.

    Parameters
    ----------
    model, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`. A group has one gate.
    penalty : HardConcrete
    initial_keep : float in (0, 1)
        σ(log a) at first. Take .9 or more for a model that was trained before: its weights are multiplied by the gates.

    Examples
    --------
    >>> from unrolled.penalties import Filters
    >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(128, 10))
    >>> sparsifier = HardConcreteGates(model, strength=1e-6, groups=Filters(), include="0")
    >>> [tuple(parameter.shape) for parameter in sparsifier.parameters()]
    [(8, 1, 1, 1)]
    """

    needs_zeros = False
    acts_in_forward = True
    captures = True

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty = _HARD_CONCRETE,
        strength: float | None = None,
        *,
        initial_keep: float = 0.5,
        **options: Any,
    ):
        super().__init__(model, penalty, strength, **options)
        self.initial_keep = between("HardConcreteGates", "initial_keep", initial_keep)

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        gate = ungrouped(penalty)
        if not isinstance(gate, HardConcrete):
            raise ValueError(f"HardConcreteGates: penalty must be HardConcrete(…), got {penalty!r}")
        if not all(isinstance(number, (int, float)) for number in (gate.beta, gate.gamma, gate.zeta)):
            raise ValueError(f"HardConcreteGates: the numbers of the penalty must be no tensors, got {penalty!r}")
        self._beta, self._gamma, self._zeta = float(gate.beta), float(gate.gamma), float(gate.zeta)

    def initial_strength(self) -> float:
        return 1e-6

    def attach(self) -> None:
        start = math.log(self.initial_keep / (1 - self.initial_keep))
        self.learned = {weight.name: learned(per_group(weight, start)) for weight in self.weights}
        self.hooks = WeightHooks(self.model, self.weights, self.replaced)

    def open_probability(self, weight: Weight) -> Tensor:
        """P(gate > 0), of each gate of a weight."""
        return torch.sigmoid(self.learned[weight.name] - self._beta * math.log(-self._gamma / self._zeta))

    def loss_now(self) -> Tensor:
        total = super().loss_now()
        for weight in self.weights:
            grouping = weight.grouping
            size = 1 if grouping is None else grouping.size(weight.parameter.shape)
            open_now = self.open_probability(weight)
            size = size.to(open_now) if isinstance(size, Tensor) else size
            if "kept" in weight.extra:
                size = size * weight.extra["kept"]
            total = total + (size * open_now).sum()
        return self.strength * total

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        super().act(optimizer, options)
        for location in self.parameters():
            location.clamp_(math.log(0.01), math.log(100))

    def ranking(self, weight: Weight) -> Tensor:
        return self.learned[weight.name].detach()

    def sparse(self, weight: Weight) -> Tensor:
        with torch.no_grad():
            return self.replaced(weight, weight.parameter, None)

    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor:
        """The values of a weight behind its gates; without a generator those of evaluation mode."""
        location = self.learned[weight.name]
        if generator is None:
            # What is closed without being captured shall not be counted
            return self._gated(weight, values, torch.sigmoid(location), 0.0 if self.course.target is None else _CRACK)
        uniform = torch.rand(location.shape, generator=generator, dtype=location.dtype, device=location.device)
        return self._gated(weight, values, torch.sigmoid((torch.logit(uniform, eps=1e-6) + location) / self._beta))

    def _gated(self, weight: Weight, values: Tensor, concrete: Tensor, least: float = 0.0) -> Tensor:
        gate = (self._gamma + (self._zeta - self._gamma) * concrete).clamp(least, 1)
        return values * weight.spread(gate, outside=1.0).to(values.real.dtype if values.is_complex() else values)
