"""The penalties over which every law runs: each class of the package, found by itself, and those made of functions."""

from collections.abc import Callable
from dataclasses import fields

from hypothesis import strategies as st

from tests.helpers import concrete_subclasses
from unrolled.penalties import Penalty, SeparablePenalty

MADE: dict[str, Callable[[], Penalty]] = {}
"""Separable penalties that are not a class with numbers as parameters, such as those of a dropout rule."""

CLASSES = {
    cls.__name__: cls
    for cls in concrete_subclasses(SeparablePenalty)
    if all("above" in field.metadata for field in fields(cls))
}
NAMES = [*CLASSES, *MADE]


def default(name: str) -> Penalty:
    """The penalty with its default parameters."""
    return CLASSES[name]() if name in CLASSES else MADE[name]()


def drawn(name: str, data) -> Penalty:
    """The penalty with drawn parameters, anywhere in what they allow between .2 and 4 (or a little more)."""
    if name not in CLASSES:
        return MADE[name]()
    cls = CLASSES[name]
    return cls(**{field.name: data.draw(_numbers(**field.metadata), label=field.name) for field in fields(cls)})


def _numbers(above: float, below: float):
    room = min(0.2, (below - above) / 10)
    return st.floats(above + room, min(above + 4, below - room))
