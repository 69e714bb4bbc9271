"""Checks that several constructors share."""

from typing import Any


def is_number(value: Any) -> bool:
    """Whether it is a number, and not True or False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number ≥ 1, and not True."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def between(owner: str, name: str, value: float) -> float:
    """The value of an argument that must lie in (0, 1).

    Raises
    ------
    ValueError
        if it does not, with the name of its owner.
    """
    if not is_number(value) or not 0 < value < 1:
        raise ValueError(f"{owner}: {name} must be > 0 and < 1, got {value!r}")
    return value
