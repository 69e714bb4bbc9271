"""Who is told of every step of every optimiser."""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

Listener = Callable[[Optimizer], None]
"""Called with an optimiser that has just stepped."""

_listeners: list[Listener] = []
_hooks: list[RemovableHandle] = []


def listen(listener: Listener) -> None:
    """Have a function called after each step that an optimiser takes, in whatever way it is implemented or wrapped.

    Fused implementations leave no trace in what they change, but torch tells of the steps of all optimisers. It does so
    by one hook for all listeners, since hooks cannot be removed while torch calls them.
    """
    if not _hooks:
        _hooks.append(register_optimizer_step_post_hook(_after_step))
    _listeners.append(listener)


def leave(listener: Listener) -> None:
    """Have it called no more."""
    if listener in _listeners:
        _listeners.remove(listener)


def is_skipped(optimizer: Optimizer) -> bool:
    """Of an optimiser that has just stepped, whether loss scaling had it leave everything as it was.

    Most optimisers are not called then. Fused ones are, and are told for the time of the call that a gradient was
    infinite.
    """
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _after_step(optimizer: Optimizer, *_: object) -> None:
    for listener in tuple(_listeners):
        listener(optimizer)
