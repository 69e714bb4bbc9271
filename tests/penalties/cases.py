"""The penalties over which every law runs: each class of the package, found by itself, and those made of functions."""

from collections.abc import Callable
from dataclasses import fields
from functools import cache

import torch
from hypothesis import strategies as st

from tests.helpers import concrete_subclasses
from tests.pairs import FULL
from unrolled.penalties import Penalty, SeparablePenalty, Standout
from unrolled.penalties.numeric import NumericPenalty


def log_sum_rule(z):
    return z * (z + 0.8) / (z * (z + 0.8) + 0.3)


def truncated_rule(z):
    return torch.where(z < 1.3, 0.4 + 0 * z, 1.0)


def two_steps_rule(z):  # ridge-like at 0, and two steep rises: the equation of its prox has up to five solutions
    return 0.2 + 0.3 * torch.sigmoid(20 * (z - 1)) + 0.49 * torch.sigmoid(12 * (z - 3))


MADE: dict[str, Callable[[], Penalty]] = {
    "rule of log-sum": cache(lambda: Penalty.from_dropout(log_sum_rule, 0.3)),
    "rule with a jump": cache(lambda: Penalty.from_dropout(truncated_rule)),
    "rule with two steps": cache(lambda: Penalty.from_dropout(two_steps_rule)),
    "Standout": lambda: Standout(2.0, -1.0),
    "value of Cauchy": cache(lambda: Penalty.from_value(lambda z: torch.log1p(z.square()))),
}
"""Separable penalties that are not a class with numbers as parameters, such as those of a dropout rule."""

CLASSES = {
    cls.__name__: cls
    for cls in concrete_subclasses(SeparablePenalty)
    if all("above" in field.metadata for field in fields(cls))
}
NAMES = [*CLASSES, *MADE]

CLOSED = {name: cls for name, cls in CLASSES.items() if not issubclass(cls, NumericPenalty)}
"""Those that do not search: a search decides by its data."""

FAMILIES = list(CLOSED) if FULL else list({cls.__module__: name for name, cls in reversed(CLOSED.items())}.values())
"""One of each file, for what is said of the code that the penalties of a file share and takes seconds to see."""

FEW = {"HardConcrete": [(2 / 3, -0.1, 1.1), (0.4, -0.6, 1.3), (0.85, -0.05, 3.0)]}
"""Parameters of penalties that make costly tables for each, unless everything is asked for."""


@cache  # some find tables once
def default(name: str) -> Penalty:
    """The penalty with its default parameters."""
    return CLASSES[name]() if name in CLASSES else MADE[name]()


@cache
def _with(name: str, *numbers: float) -> Penalty:
    return CLASSES[name](*numbers)


def drawn(name: str, data) -> Penalty:
    """The penalty with drawn parameters, anywhere in what they allow between .2 and 4 (or a little more)."""
    if name in FEW and not FULL:
        return _with(name, *data.draw(st.sampled_from(FEW[name])))
    if name not in CLASSES or not fields(CLASSES[name]):
        return default(name)
    cls = CLASSES[name]
    return cls(**{field.name: data.draw(_numbers(**field.metadata), label=field.name) for field in fields(cls)})


def _numbers(above: float, below: float):
    room = min(0.2, (below - above) / 10)
    return st.floats(above + room, min(above + 4, below - room))
