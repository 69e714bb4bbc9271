"""How a strength, a coupling or a target changes over a run."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from unrolled.sparsify.machinery.arguments import number


@dataclass(frozen=True)
class Schedule(ABC):
    """A factor that depends on the progress of a run: an immutable value of plain numbers."""

    @abstractmethod
    def factor(self, progress: float) -> float:
        """The factor, ≥ 0, at a progress in [0, 1], the part of the run that is over."""

    def _check_part(self, name: str) -> None:
        self._check(name, "in [0, 1], a part of the run", lambda part: 0 <= part <= 1)

    def _check(self, name: str, allowed: str, fits: Callable[[float], bool]) -> None:
        """Keep a number as Python has it, whatever type it is given in."""
        object.__setattr__(self, name, number(type(self).__name__, name, getattr(self, name), allowed, fits))


@dataclass(frozen=True)
class Constant(Schedule):
    """1 from the first step to the last.

    Examples
    --------
    >>> Constant().factor(0.3)
    1.0
    """

    def factor(self, progress: float) -> float:
        return 1.0


@dataclass(frozen=True)
class WarmUp(Schedule):
    """0 up to `begin`, then linear, 1 from `end` on.

    Parameters
    ----------
    end, begin : float
        parts of the run, in [0, 1].

    Examples
    --------
    >>> WarmUp(end=0.5).factor(0.25)
    0.5
    """

    end: float
    begin: float = 0.0

    def __post_init__(self) -> None:
        self._check_part("begin")
        self._check_part("end")
        if not self.begin < self.end:
            raise ValueError(f"WarmUp: end must be > begin, got begin {self.begin!r} and end {self.end!r}")

    def factor(self, progress: float) -> float:
        return min(1.0, max(0.0, (progress - self.begin) / (self.end - self.begin)))


@dataclass(frozen=True)
class Cubic(WarmUp):
    """0 up to `begin`, 1 from `end` on, and 1 − (1 − t)³ between: fast while there is much to spare, then slowly.

    The schedule of gradual pruning (Zhu, Gupta, "To prune, or not to prune", 2017).

    Examples
    --------
    >>> Cubic(end=0.5).factor(0.25)
    0.875
    """

    end: float = 0.7

    def factor(self, progress: float) -> float:
        return 1 - (1 - super().factor(progress)) ** 3


@dataclass(frozen=True)
class Growth(Schedule):
    """A factor by which it grows, again and again: `rate` to the power of how many times `every` is over.

    Parameters
    ----------
    rate : float > 0
    every : float in (0, 1]
        part of the run between two growths.

    Examples
    --------
    >>> Growth(rate=2, every=0.25).factor(0.6)
    4.0
    """

    rate: float = 1.25
    every: float = 0.2

    def __post_init__(self) -> None:
        self._check_part("every")
        if not self.every:
            raise ValueError("Growth: every must be > 0, got 0")
        self._check("rate", "> 0", lambda rate: 0 < rate < math.inf)

    def factor(self, progress: float) -> float:
        return float(self.rate ** int(progress / self.every + 1e-9))
