"""Arguments that are drawn: a number of a range, or one of a few values."""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from unrolled.system.scalars import as_number

Spread = Literal["uniform", "logarithmic"]

ANEW = "anew"
"""What stands for the range of all seeds."""

SEEDS = (0, 2**32 - 1)


@dataclass(frozen=True)
class Between:
    """A number between two others, both included.

    Parameters
    ----------
    low, high : float, low < high
    spread : "uniform" or "logarithmic"
        whether the number or its logarithm is drawn evenly.
    whole : bool
        only whole numbers.
    """

    low: float
    high: float
    spread: Spread = "uniform"
    whole: bool = False

    def at(self, part: float) -> float:
        """The number that a part, in [0, 1), of all that are drawn is below."""
        low, high = (self.low, self.high + 1) if self.whole else (self.low, self.high)
        found = low + part * (high - low) if self.spread == "uniform" else low * (high / low) ** part
        return min(math.floor(found), int(self.high)) if self.whole else found

    @property
    def tried(self) -> list[float]:
        """The ends of the range."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Among:
    """One of a few values, each equally likely.

    Parameters
    ----------
    values : tuple
    """

    values: tuple[Any, ...]

    def at(self, part: float) -> Any:
        """The value at a part, in [0, 1), of all."""
        return self.values[self.number(part)]

    def number(self, part: float) -> int:
        """The place of this value among them."""
        return int(part * len(self.values))

    @property
    def tried(self) -> list[Any]:
        """All of them."""
        return list(self.values)


def as_drawn(owner: str, given: Any, whole: bool) -> Between | Among:
    """What a range says.

    Parameters
    ----------
    owner : str
        what it is of, for messages.
    given :
        [low, high], or {"low": …, "high": …, "spread": "logarithmic"}, of numbers; {"choices": […]} of any values; or
        "anew", of seeds.
    whole : bool
        whether only whole numbers are allowed.

    Raises
    ------
    ValueError
        for anything else.
    """
    if given == ANEW:
        return Between(*SEEDS, whole=True)
    if isinstance(given, dict) and set(given) == {"choices"}:
        choices = given["choices"]
        if isinstance(choices, (list, tuple)) and choices:
            return Among(tuple(choices))
        raise ValueError(f"{owner}: choices must be a list of at least one value, got {reprlib.repr(choices)}")
    spread: Any = "uniform"
    ends: Any = given
    if isinstance(given, dict) and {"low", "high"} <= set(given) <= {"low", "high", "spread"}:
        ends, spread = (given["low"], given["high"]), given.get("spread", spread)
    if spread not in get_args(Spread):
        raise ValueError(f"{owner}: spread must be 'uniform' or 'logarithmic', got {reprlib.repr(spread)}")
    numbers = [as_number(end) for end in ends] if isinstance(ends, Sequence) and not isinstance(ends, str) else []
    if len(numbers) != 2 or None in numbers or not all(math.isfinite(number or 0) for number in numbers):
        raise ValueError(
            f"{owner}: must be [low, high], {{low: …, high: …, spread: logarithmic}}, {{choices: […]}} or, of a seed, "
            f"anew; got {reprlib.repr(given)}"
        )
    low, high = (number for number in numbers if number is not None)
    if not low < high:
        raise ValueError(f"{owner}: low must be less than high, got {low!r} and {high!r}")
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise ValueError(f"{owner}: must be a range of whole numbers, got {low!r} and {high!r}")
    if spread == "logarithmic" and low <= 0:
        raise ValueError(f"{owner}: low must be > 0 for a logarithmic spread, got {low!r}")
    return Between(low, high, spread, whole)
