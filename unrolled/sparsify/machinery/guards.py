"""What a strategy makes sure of: nobody else acts on its weights, and model and optimiser are what they were."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from unrolled.sparsify.selection import Weight

_taken = WeakTensorKeyDictionary()
"""Parameter → weak reference to the strategy that acts on it."""


class Guard:
    """Claims weights for a strategy, and watches over the model and the steps of the optimiser.

    Parameters
    ----------
    owner : object
        the strategy; errors name its class.
    model : Module
    weights : sequence of Weight

    Raises
    ------
    ValueError
        if another strategy acts on one of the weights.
    """

    def __init__(self, owner: object, model: nn.Module, weights: Sequence[Weight]):
        self._owner, self._model, self._weights = type(owner).__name__, model, weights
        self._names = [parameter for parameter, _ in model.named_parameters()]
        self.seen_count = 0.0
        self._seen_optimizer: weakref.ref[Optimizer] | None = None
        for weight in weights:
            reference = _taken.get(weight.parameter)
            other = reference and reference()
            if other is not None:
                raise ValueError(f"{self._owner}: {type(other).__name__} already acts on {weight.name}")
        for weight in weights:
            _taken[weight.parameter] = weakref.ref(owner)
        self._seen_versions = self._versions()

    def release(self) -> None:
        """Let others have the weights."""
        for weight in self._weights:
            _taken.pop(weight.parameter, None)

    def check_model(self) -> None:
        """Raise a ValueError if parameters were added, removed, replaced or frozen."""
        own, made = dict(self._model.named_parameters()), f"after {self._owner} was made"
        for weight in self._weights:
            if own.get(weight.name, weight.parameter) is not weight.parameter:
                raise ValueError(f"model: {weight.name} was replaced {made}")
            if not weight.parameter.requires_grad:
                raise ValueError(f"model: {weight.name} was frozen {made}")
        if list(own) != self._names:
            changed = sorted(set(own) ^ set(self._names)) or list(own)
            raise ValueError(f"model: parameters were added or removed {made}: {', '.join(changed)}")

    def check_optimizer(self, options: Mapping[int, Any], learned: Sequence[nn.Parameter]) -> None:
        """Raise a ValueError if an optimiser does not hold all the weights, and all that the strategy learns.

        Parameters
        ----------
        options : mapping
            id of each parameter that the optimiser holds → its options.
        learned : sequence of Parameter
        """
        for weight in self._weights:
            if id(weight.parameter) not in options:
                raise ValueError(f"optimizer: it does not hold {weight.name}, which {self._owner} acts on")
        if any(id(parameter) not in options for parameter in learned):
            raise ValueError(
                "optimizer: it does not hold sparsifier.parameters(); make it of [*model.parameters(), "
                "*sparsifier.parameters()]"
            )

    def has_stepped(self, optimizer: Optimizer) -> bool:
        """Whether the optimiser changed something since `remember`: loss scaling may have skipped its step."""
        # A fused optimiser leaves no trace in the versions of what it changes, but counts the steps that it takes.
        if not _is_fused(optimizer):
            return self._versions() != self._seen_versions
        known = self._seen_optimizer is None or self._seen_optimizer() is optimizer
        return self._count(optimizer) != (self.seen_count if known else 0.0)

    def remember(self, optimizer: Optimizer | None = None) -> None:
        """Take the weights as they are for the outcome of the last step."""
        self._seen_versions = self._versions()
        if optimizer is not None and _is_fused(optimizer):
            self.seen_count, self._seen_optimizer = self._count(optimizer), weakref.ref(optimizer)

    def resume(self, seen_count: float) -> None:
        """Go on from a state, with whatever optimiser."""
        self.seen_count, self._seen_optimizer = seen_count, None
        self.remember()

    @contextmanager
    def overlooking(self) -> Iterator[None]:
        """What is written to the weights while it lasts is no step of an optimiser."""
        untouched = self._versions() == self._seen_versions
        try:
            yield
        finally:
            if untouched:
                self._seen_versions = self._versions()

    def _versions(self) -> tuple[int, ...]:
        return tuple(weight.parameter._version for weight in self._weights)

    def _count(self, optimizer: Optimizer) -> float:
        """How many steps an optimiser has taken with the weights, summed over them."""
        counts = [optimizer.state.get(weight.parameter, {}).get("step") for weight in self._weights]
        tensors = [torch.as_tensor(count, dtype=torch.float64) for count in counts if count is not None]
        return float(torch.stack([count.to(tensors[0].device) for count in tensors]).sum()) if tensors else 0.0


def _is_fused(optimizer: Optimizer) -> bool:
    return any(group.get("fused") for group in optimizer.param_groups)
