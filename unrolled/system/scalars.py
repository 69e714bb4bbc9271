"""Single numbers as users have them, of NumPy and of tensors: made Python's own, or refused by name."""

import dataclasses
import functools
import types
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from unrolled.system.arraylike import as_numbers, as_tensor

PACKAGE = __name__.partition(".")[0]

NUMBERS = {int, float, bool}


def as_number(value: Any) -> float | None:
    """One real number as Python has it, whole ones as int; None for anything else: True, text, complex, several."""
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if not isinstance(value, (np.generic, np.ndarray, Tensor)):
        return None
    try:
        tensor = as_tensor("", value)
    except ValueError:
        return None
    if tensor.ndim or tensor.is_complex() or tensor.dtype == torch.bool or tensor.is_meta:
        return None
    found: float = tensor.item()
    return found


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """A whole number of Python, NumPy or PyTorch, at least so large; 3.0 is none.

    Parameters
    ----------
    name : str
        of the argument, for messages.
    value : number
    least : int

    Raises
    ------
    ValueError
        for any other.
    """
    found = as_number(value)
    if not isinstance(found, int) or found < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
    return found


def whole_numbers(value: Any, count: int) -> tuple[int, ...] | None:
    """So many whole numbers >= 1 as Python has them; None for anything else."""
    try:
        found: list[Any] = [as_number(part) for part in value]
    except TypeError:  # of what has no parts
        return None
    fits = len(found) == count and all(isinstance(number, int) and number >= 1 for number in found)
    return tuple(found) if fits else None


def sides_within(what: str, value: Any, whole: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a part of an image.

    Raises
    ------
    ValueError
        unless they are two whole numbers >= 1, and not more than the image has.
    """
    sides = whole_numbers(value, 2)
    if sides is None or sides[0] > whole[0] or sides[1] > whole[1]:
        raise ValueError(f"{what}: must be within the image of {tuple(whole)} (height, width), got {value!r}")
    return sides[0], sides[1]


def plain_number(what: str, value: Any, stated: Any, refuse: bool = True) -> Any:
    """A value that may be a number, as Python has it, if its annotation states numbers.

    Parameters
    ----------
    what : str
        the name of the argument, for messages.
    value
        a number of Python or NumPy, an array or tensor of no axes, or anything else that the annotation states.
    stated : type
        the annotation. Where it states both numbers and tensors, tensors stay, and arrays and lists become tensors;
        where it states tuples, arrays of one axis become those.
    refuse : bool
        whether what does not fit is refused, or returned.

    Raises
    ------
    ValueError
        for text, fractions, truth values, complex numbers and lists where the annotation does not state them.
    """
    kinds = _kinds(stated)
    if tuple in kinds and Tensor not in kinds and isinstance(value, (np.ndarray, Tensor)) and value.ndim == 1:
        return tuple(value.tolist())
    if not kinds & NUMBERS:
        return str(value) if isinstance(value, np.str_) else value
    learned = Tensor in kinds and float in kinds
    if learned and isinstance(value, Tensor):
        return value
    if isinstance(value, Tensor) and value.is_meta:
        raise ValueError(f"{what} must be {_wanted(kinds)}, got a tensor on the device meta, which has no value")
    if isinstance(value, (np.generic, np.ndarray, Tensor)) and value.ndim == 0:
        value = value.item()
        value = float(value) if isinstance(value, np.floating) else value  # of more than 64 bits
    if learned and isinstance(value, np.ndarray if Sequence in kinds else (np.ndarray, list, tuple)):
        return as_numbers(what, value)
    if isinstance(value, str) and str in kinds:
        return value
    if isinstance(value, bool):
        fits = bool in kinds
    elif isinstance(value, int):
        fits = bool(kinds & {int, float})
    elif isinstance(value, float):
        fits = float in kinds  # whether NaN is one, the range of the argument says
    elif isinstance(value, (complex, str, bytes)):
        fits = False
    elif value is None:
        fits = type(None) in kinds
    else:  # of another kind, perhaps one that the annotation states
        fits = not kinds <= NUMBERS | {type(None)}
    if refuse and not fits:
        raise ValueError(f"{what} must be {_wanted(kinds)}, got {_short(value)}")
    return value


def plain_arguments(
    owner: str, function: Callable[..., Any], given: dict[str, Any], refuse: bool = True
) -> dict[str, Any]:
    """Arguments of a function, those that may be numbers as Python has them; see `plain_number`."""
    stated = _hints(function)
    return {
        name: plain_number(f"{owner}: {name}", value, stated[name], refuse) if name in stated else value
        for name, value in given.items()
    }


class PlainNumbers:
    """A base of dataclasses whose numbers are Python's own before `__post_init__` sees them, whatever users give."""

    checks_numbers: ClassVar[bool] = False
    """Whether `__post_init__` refuses by itself what is no number where it wants one, and says what is allowed."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = cls.__dict__.get("__post_init__")
        if own is None:
            return

        @functools.wraps(own)
        def check(self: Any) -> None:
            _make_plain(self)
            own(self)

        cls.__post_init__ = check  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        _make_plain(self)


def _make_plain(thing: Any) -> None:
    cls: Any = type(thing)
    if torch.compiler.is_compiling():  # of copies with other tensors, whose numbers were looked at before
        return
    if cls.__module__.partition(".")[0] != PACKAGE:  # what the annotations of others mean is theirs to say
        return
    for name, stated in _hints(cls).items():
        before = thing.__dict__.get(name)
        after = plain_number(f"{cls.__name__}: {name}", before, stated, refuse=not cls.checks_numbers)
        if after is not before:
            object.__setattr__(thing, name, after)


@functools.cache
def _hints(thing: Hashable) -> dict[str, Any]:
    try:
        hints = get_type_hints(thing)
    except NameError:  # of a type that is only imported for type checkers
        return {}
    if dataclasses.is_dataclass(thing):
        return {field.name: hints[field.name] for field in dataclasses.fields(thing)}
    return hints


@functools.cache
def _kinds(stated: Any) -> set[Any]:
    if get_origin(stated) in (Union, types.UnionType):
        return set().union(*map(_kinds, get_args(stated)))
    if get_origin(stated) is Literal:
        return {type(choice) for choice in get_args(stated)}
    return {get_origin(stated) or stated}


def _wanted(kinds: set[Any]) -> str:
    if float in kinds:
        return "a number"
    return "a whole number" if int in kinds else "True or False"


def _short(value: Any) -> str:
    return (
        repr(value)[:60] if isinstance(value, (str, bytes, bool, int, float, complex)) else f"a {type(value).__name__}"
    )
