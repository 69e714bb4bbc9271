"""Which frequencies are sampled: masks of the Fourier plane, the same on every machine.

Every mask has the zero frequency (DC) at [0, 0], as `torch.fft.fft2` puts it; `torch.fft.fftshift` moves it to the
middle.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.operators.matrix import LARGEST_DRAWN
from unrolled.system.claims import announce
from unrolled.system.scalars import PlainNumbers, whole_number

LINES_AT_ONCE = 2**18
"""Points on lines that are computed at once."""


@dataclass(frozen=True)
class SamplingMask(PlainNumbers, ABC):
    """A rule that draws a mask for an image of any size."""

    @abstractmethod
    def centered(self, height: int, width: int) -> np.ndarray:
        """The mask with DC at [height // 2, width // 2], (height, width), bool."""

    def draw(self, height: int, width: int) -> Tensor:
        """The mask with DC at [0, 0].

        Returns
        -------
        Tensor, (height, width), float64 of 0 and 1

        Raises
        ------
        ValueError
            if a side is no whole number >= 1, or the image is too large.
        """
        height, width = whole_sides(type(self).__name__, height, width)
        if height * width > LARGEST_DRAWN:
            raise ValueError(
                f"{type(self).__name__}: at most {LARGEST_DRAWN:,} frequencies can be drawn, got {height} × {width}"
            )
        announce(40 * height * width, self.work(height, width))
        return torch.from_numpy(np.fft.ifftshift(self.centered(height, width)).astype(np.float64))

    def work(self, height: int, width: int) -> float:
        """Numbers that are computed for a mask."""
        return 25.0 * height * width

    def _check(self, name: str, value: float, low: float, high: float, closed: bool = True) -> None:
        """Raise ValueError unless low < value <= high (closed), or low <= value < high."""
        inside = low < value <= high if closed else low <= value < high
        if not (math.isfinite(value) and inside):
            bounds = f"({low}, {high}]" if closed else f"[{low}, {high})"
            raise ValueError(f"{type(self).__name__}: {name} must be in {bounds}, got {value!r}")

    def _check_seed(self, seed: int) -> None:
        if not 0 <= seed < 2**32:
            raise ValueError(f"{type(self).__name__}: seed must be in [0, 2^32), got {seed!r}")


@dataclass(frozen=True)
class RadialMask(SamplingMask):
    """Straight lines through the zero frequency, at equal angles, on the grid ("pseudo-radial").

    Parameters
    ----------
    ratio : float in (0, 1]
        of the frequencies: so many lines are taken, by bisection, that at least as many are sampled.
    """

    ratio: float = 0.2

    def __post_init__(self) -> None:
        self._check("ratio", self.ratio, 0, 1)

    def centered(self, height: int, width: int) -> np.ndarray:
        wanted = math.ceil(self.ratio * height * width)
        low, high = 1, 4 * (height + width)  # by then the plane is full
        while low < high:  # more lines sample more, but for the last few: good enough to bisect
            middle = (low + high) // 2
            low, high = (low, middle) if _lines(middle, height, width).sum() >= wanted else (middle + 1, high)
        return _lines(low, height, width)

    def work(self, height: int, width: int) -> float:
        return 50 * (height + width) * math.hypot(height, width)


def _lines(count: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    reach = math.hypot(height, width) / 2
    radius = np.arange(-2 * math.ceil(reach), 2 * math.ceil(reach) + 1) / 2  # half pixels, so that lines have no gaps
    angles = np.pi * np.arange(count)[:, None] / count
    for angle in np.array_split(angles, math.ceil(angles.size * radius.size / LINES_AT_ONCE)):
        rows = _nearest(radius * np.sin(angle)) + height // 2
        columns = _nearest(radius * np.cos(angle)) + width // 2
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        mask[rows[inside], columns[inside]] = True
    return mask


def _nearest(x: np.ndarray) -> np.ndarray:
    """The nearest whole numbers; what lies half way goes away from 0, whatever the last bits of sine and cosine are."""
    return np.copysign(np.floor(np.round(np.abs(x), 9) + 0.5), x).astype(int)


@dataclass(frozen=True)
class CartesianMask(SamplingMask):
    """Whole columns of the Fourier plane: a fully sampled middle, and columns around it, drawn or at equal distances.

    The masks of fastMRI are of this kind; `FastMRIMask` draws theirs column by column.

    Parameters
    ----------
    acceleration : float >= 1
        columns in all over columns sampled, middle included.
    center : float in [0, 1)
        the part of the columns that is the fully sampled middle.
    equispaced : bool
        equal distances instead of a draw.
    rows : bool
        rows instead of columns.
    seed : int
    """

    acceleration: float = 4.0
    center: float = 0.08
    equispaced: bool = False
    rows: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.acceleration) and self.acceleration >= 1):
            raise ValueError(f"CartesianMask: acceleration must be a finite number >= 1, got {self.acceleration!r}")
        self._check("center", self.center, 0, 1, closed=False)
        self._check_seed(self.seed)

    def centered(self, height: int, width: int) -> np.ndarray:
        count = height if self.rows else width
        middle = max(1, round(self.center * count))
        first = count // 2 - middle // 2
        sampled = np.zeros(count, dtype=bool)
        sampled[first : first + middle] = True
        rest = np.flatnonzero(~sampled)
        more = min(len(rest), max(0, round(count / self.acceleration) - middle))
        random = np.random.RandomState(self.seed)
        if self.equispaced and more:
            distance = len(rest) / more
            chosen = np.floor(random.uniform(0, distance) + distance * np.arange(more)).astype(int)
        else:
            chosen = random.permutation(len(rest))[:more]
        sampled[rest[chosen]] = True
        return np.broadcast_to(sampled[:, None] if self.rows else sampled, (height, width)).copy()


@dataclass(frozen=True)
class UniformMask(SamplingMask):
    """Single frequencies, drawn with equal probabilities, and DC.

    Parameters
    ----------
    ratio : float in (0, 1]
        of the frequencies.
    seed : int
    """

    ratio: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        self._check("ratio", self.ratio, 0, 1)
        self._check_seed(self.seed)

    def centered(self, height: int, width: int) -> np.ndarray:
        return _drawn(np.zeros((height, width)), self.ratio, self.seed)


@dataclass(frozen=True)
class GaussianMask(SamplingMask):
    """Single frequencies, drawn with a density that falls from DC like a Gaussian, and DC.

    Parameters
    ----------
    ratio : float in (0, 1]
        of the frequencies.
    spread : float > 0
        standard deviation of the density, in parts of the side.
    seed : int
    """

    ratio: float = 0.2
    spread: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        self._check("ratio", self.ratio, 0, 1)
        self._check("spread", self.spread, 0, math.inf)
        self._check_seed(self.seed)

    def centered(self, height: int, width: int) -> np.ndarray:
        rows = (np.arange(height) - height // 2) / (self.spread * height)
        columns = (np.arange(width) - width // 2) / (self.spread * width)
        return _drawn(-(rows[:, None] ** 2 + columns**2) / 2, self.ratio, self.seed)


def whole_sides(owner: str, height: Any, width: Any) -> tuple[int, int]:
    """The sides of an image as Python's own numbers.

    Raises
    ------
    ValueError
        unless both are whole numbers >= 1.
    """
    return whole_number(f"{owner}: height", height), whole_number(f"{owner}: width", width)


def _drawn(log_density: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Exactly so many frequencies, DC among them, drawn without replacement in proportion to a density."""
    # The largest of log p + Gumbel noise are such a draw (Efraimidis, Spirakis, 2006, in other words).
    score = log_density + np.random.RandomState(seed).gumbel(size=log_density.shape)
    height, width = log_density.shape
    score[height // 2, width // 2] = np.inf
    count = max(1, round(ratio * score.size))
    mask = np.zeros(score.size, dtype=bool)
    mask[np.argsort(-score, axis=None, kind="stable")[:count]] = True
    return mask.reshape(score.shape)
