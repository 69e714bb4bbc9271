"""Phases in the form that they had before states: forward(x, memory, y, operator) returns (x, memory)."""

import inspect
import warnings
from typing import Any

from torch import Tensor


def adapt(cls: Any, carries: tuple[Any, ...]) -> None:
    """Give a class that is being defined in the older form the form of today, and warn.

    Parameters
    ----------
    cls : subclass of Phase
    carries : tuple
        what the memory of the older form was taken as.
    """
    if "reaches" in vars(cls):  # of each map; a gradient step stood before each
        cls.reach = property(lambda phase: sum(phase.reaches))
        cls.data_steps = property(lambda phase: len(phase.reaches))
    older = vars(cls).get("forward")
    if older is None or not _is_older(older):
        return
    warnings.warn(
        f"{cls.__qualname__}: phases are now forward(state, y, operator, condition=None), which returns the next state",
        DeprecationWarning,
        stacklevel=3,
    )

    def forward(phase: Any, state: Any, y: Any, operator: Any, condition: Any = None) -> Any:
        if isinstance(state, Tensor):  # called as it was written, by a subclass for one
            return older(phase, state, y, operator, condition)
        x, memory = older(phase, state[0], state[1] if len(state) > 1 else None, y, operator)
        return (x,) if memory is None else (x, memory)

    cls.forward, cls.carries, cls.grows = forward, carries, True


def _is_older(forward: Any) -> bool:
    """Whether it takes x, a memory, y and an operator, whatever their names."""
    names = list(inspect.signature(forward).parameters.values())[1:]
    return len(names) == 4 and names[3].name != "condition" and names[3].default is inspect.Parameter.empty
