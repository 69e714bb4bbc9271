"""Numbers that penalties are given: floating point as it is, all else that holds numbers in floating point."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from unrolled.system.arraylike import as_numbers, is_floating
from unrolled.system.scalars import plain_number


def floating(what: str, numbers: Any) -> Tensor:
    """Numbers as a tensor of floating point: tensors of such as they are, others in the default type.

    Raises
    ------
    ValueError
        for what is no array of numbers.
    """
    return numbers if _is_floating(numbers) else as_numbers(what, numbers)


def step_given(what: str, step: Any) -> Any:
    """A step as a number of Python or a tensor of floating point.

    Raises
    ------
    ValueError
        for what is neither a number nor an array of real ones.
    """
    step = plain_number(what, step, float | Tensor)
    if not isinstance(step, (int, float)):
        step = floating(what, step)
        if step.is_complex():
            raise ValueError(f"{what} must be real, got {step.dtype}")
    return step


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and is_floating(value)


def is_step(value: Any) -> bool:
    """Whether it is a step as penalties calculate with it."""
    return type(value) is float or type(value) is int or (isinstance(value, Tensor) and value.is_floating_point())


Taking = tuple[Callable[[Any], bool], Callable[[str, Any], Any]]

ENTRIES: dict[str, tuple[Taking, ...]] = {
    "value": ((_is_floating, floating),),
    "derivative": ((_is_floating, floating),),
    "eta": ((_is_floating, floating),),
    "dual": ((_is_floating, floating),),
    "prox": ((_is_floating, floating), (is_step, step_given)),
    "threshold": ((is_step, step_given),),
}
"""Methods of penalties; of their first arguments what fits, and how others are taken."""


def with_numbers(method: Callable[..., Any], takings: tuple[Taking, ...]) -> Callable[..., Any]:
    """A method of a penalty whose first arguments may be whatever holds numbers."""
    names = list(inspect.signature(method).parameters)[1 : 1 + len(takings)]

    @functools.wraps(method)
    def call(self: Any, *given: Any, **named: Any) -> Any:
        arguments = list(given)
        for place, (name, (fits, take)) in enumerate(zip(names, takings, strict=True)):
            if place < len(given):
                if not fits(given[place]):
                    arguments[place] = take(f"{type(self).__name__}: {name}", given[place])
            elif name in named and not fits(named[name]):
                named[name] = take(f"{type(self).__name__}: {name}", named[name])
        return method(self, *arguments, **named)

    return call
