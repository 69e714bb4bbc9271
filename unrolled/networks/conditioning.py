"""How phases follow what a network is told of the measurements: their steps and thresholds are scaled by it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.system.arraylike import as_numbers
from unrolled.system.devices import full_precision
from unrolled.system.scalars import as_number

Interval = tuple[float, float]

RESOLUTION = 100.0
"""Numbers are told apart by their ratio down to this part of the largest, and by their difference below it."""


class Factors(nn.Module):
    """Positive factors, a small learned function of the condition: exp(V tanh(U c + u)), and 1 before training.

    c holds the numbers of the condition, each brought from its range to [−1, 1], logarithmically as a noise level is
    felt; beyond its range a factor soon stops to change, for tanh does.

    Parameters
    ----------
    ranges : sequence of (low, high), 0 <= low < high
        of every number of the condition.
    count : int
        of factors.
    hidden : int
        features between.
    """

    def __init__(self, ranges: Sequence[Interval], count: int, hidden: int = 8):
        super().__init__()
        self.ranges = list(ranges)
        self.first, self.last = nn.Linear(len(self.ranges), hidden), nn.Linear(hidden, count, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, condition: Tensor) -> Tensor:
        """The factors of every image, (batch, count), of a condition (batch, numbers)."""
        with full_precision(condition):
            numbers = zip(condition.unbind(1), self.ranges, strict=True)
            places = torch.stack([_place(number, low, high) for number, (low, high) in numbers], 1)
            return self.last(self.first(places).tanh()).exp()

    def extra_repr(self) -> str:
        return f"ranges={self.ranges}"


class ConditionedNumber(nn.Module):
    """A learned number > 0 of every image, which follows what is known of that image.

    Parameters
    ----------
    owner, name : str
        whose number it is, and which, for errors.
    value : float > 0
        where it starts.
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale it; none: it is what it is.
    """

    def __init__(self, owner: str, name: str, value: float, ranges: Sequence[Interval] = ()):
        super().__init__()
        check_positive(owner, **{name: value})
        self.owner, self.raw = owner, positive(value)
        self.factors = Factors(ranges, 1) if ranges else None

    def forward(self, condition: Tensor | None, batch: int) -> Tensor:
        """The number of so many images, (batch, 1)."""
        number = F.softplus(self.raw)
        if self.factors is None:
            return number.expand(batch, 1)
        check_told(self.owner, condition, len(self.factors.ranges), batch)
        return number * self.factors(condition)


def _place(number: Tensor, low: float, high: float) -> Tensor:
    """−1 at the low end of a range, 1 at the high one."""
    bottom, top = math.log1p(RESOLUTION * low / high), math.log1p(RESOLUTION)
    return 2 * ((RESOLUTION / high * number).log1p() - bottom) / (top - bottom) - 1


def of_images(factor: Tensor, copies: int = 1) -> Tensor:
    """One number for each image of a batch, (batch,), in a shape that multiplies images, or so many maps of each."""
    return factor.repeat_interleave(copies).view(-1, 1, 1, 1)


def levels_of(owner: str, y: Tensor, noise: Any) -> Tensor:
    """The noise level of every image, (batch,), of one number or one for each image that y was measured of."""
    if not isinstance(noise, (int, float, Tensor)):
        noise = as_numbers(f"{owner}: noise", noise, y.real.dtype)
    level = noise if isinstance(noise, Tensor) else torch.full((), noise, dtype=y.real.dtype, device=y.device)
    if level.ndim > 1 or level.numel() not in (1, len(y)) or level.is_complex():
        raise ValueError(
            f"{owner}: noise must be a real number or one for each of {len(y)} images, got {level.dtype} of the shape "
            f"{tuple(level.shape)}"
        )
    return level.to(y.device, y.real.dtype).expand(len(y))


def check_told(owner: str, condition: Tensor | None, numbers: int, batch: int | None = None) -> None:
    """Raise ValueError unless a condition tells so many numbers of every image."""
    if condition is None:
        raise ValueError(
            f"{owner}: condition must be given, (batch, {numbers}), as its ranges say; a network that is made with "
            "noise_range tells its noise level, one with ratio_range the sampling ratio"
        )
    if condition.ndim != 2 or condition.shape[1] != numbers or batch not in (None, len(condition)):
        wanted = "batch" if batch is None else batch
        raise ValueError(
            f"{owner}: condition must be ({wanted}, {numbers}), as its ranges say, got {tuple(condition.shape)}"
        )


def interval(owner: str, name: str, given: Sequence[float] | None) -> Interval | None:
    """A range of a number that a network is told, checked.

    Raises
    ------
    ValueError
        unless it is two finite numbers, 0 <= low < high; or None.
    """
    if given is None:
        return None
    numbers = [as_number(number) for number in given] if isinstance(given, (list, tuple)) else []
    if len(numbers) == 2 and None not in numbers:
        low, high = (float(number) for number in numbers if number is not None)
        if 0 <= low < high < math.inf:
            return low, high
    raise ValueError(f"{owner}: {name} must be two numbers, 0 <= low < high, or None, got {given!r}")


def told(owner: str, noise_range: Sequence[float] | None, ratio_range: Sequence[float] | None = None) -> list[Interval]:
    """The ranges of the condition of a network: of the noise level and of the sampling ratio, if it is told them.

    Raises
    ------
    ValueError
        as `interval`.
    """
    found = interval(owner, "noise_range", noise_range), interval(owner, "ratio_range", ratio_range)
    return [each for each in found if each is not None]
