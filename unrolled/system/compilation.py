"""Methods that stay outside of compiled graphs."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "_stays_outside_graphs"


def outside_graphs(method: F) -> F:
    """Mark a method of a class: torch.compile is to break its graph there and to call the method as it is.

    The mark takes effect with `keep_outside_graphs`. `torch.compiler.disable` would do both, but it loads the compiler
    when the class is defined, and with that doubles the time that an import takes.
    """
    setattr(method, _MARK, True)
    return method


def keep_outside_graphs(cls: type) -> None:
    """Disable the compiler in the marked methods of a class and its bases; to be called when an object is made."""
    for base in cls.__mro__:
        for name, member in list(vars(base).items()):
            if getattr(member, _MARK, False):
                delattr(member, _MARK)
                setattr(base, name, torch.compiler.disable(member))
