"""What a strategy makes sure of: nobody else acts on its weights, and model and optimiser are what they were."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from unrolled.sparsify.machinery.steps import is_skipped, leave, listen
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
        for weight in weights:
            reference = _taken.get(weight.parameter)
            other = reference and reference()
            if other is not None:
                raise ValueError(f"{self._owner}: {type(other).__name__} already acts on {weight.name}")
        for weight in weights:
            _taken[weight.parameter] = weakref.ref(owner)
        self._ignore = _follow(self)
        self.remember()

    def release(self) -> None:
        """Let others have the weights."""
        for weight in self._weights:
            _taken.pop(weight.parameter, None)
        self._ignore()

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

    def has_stepped(self) -> bool:
        """Whether the weights were stepped since `remember`: loss scaling may have skipped it.

        An optimiser of torch says so, whatever it leaves; of what else changes weights, their versions tell.
        """
        return self._told or self._versions() != self._seen_versions

    def remember(self) -> None:
        """Take the weights as they are for the outcome of the last step."""
        self._told, self._seen_versions = False, self._versions()

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

    def _after_step(self, optimizer: Optimizer) -> None:
        own = {id(weight.parameter) for weight in self._weights}
        held = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if any(id(parameter) in own for parameter in held) and not is_skipped(optimizer):
            self._told = True


def _follow(guard: Guard) -> Callable[[], object]:
    """Tell a guard of the steps of optimisers for as long as it lives, or until what this returns is called."""
    this = weakref.ref(guard)

    def after_step(optimizer: Optimizer) -> None:
        living = this()
        if living is not None:
            living._after_step(optimizer)

    listen(after_step)
    return weakref.finalize(guard, leave, after_step)
