"""Numbers that constructors are given: those of Python, of NumPy, and of tensors without axes, all taken alike."""

from collections.abc import Callable
from typing import Any

from unrolled.system.scalars import as_number


def number(owner: str, name: str, value: Any, allowed: str, fits: Callable[[float], bool]) -> float:
    """The value of an argument that must be one real number.

    Parameters
    ----------
    owner, name : str
        whose argument it is, and what it is called.
    value : Any
    allowed : str
        what it must be, in words.
    fits : function
        whether a number is allowed; of NaN it is asked too.

    Raises
    ------
    ValueError
        if it is no number or not allowed.
    """
    found = as_number(value)
    if found is None or not fits(found):
        raise ValueError(f"{owner}: {name} must be {allowed}, got {value!r}")
    return found


def between(owner: str, name: str, value: Any) -> float:
    """The value of an argument that must lie in (0, 1).

    Raises
    ------
    ValueError
        if it does not.
    """
    return number(owner, name, value, "> 0 and < 1", lambda n: 0 < n < 1)
