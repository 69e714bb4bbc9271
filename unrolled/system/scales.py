"""What black and white are: the scale of images in the units that users have, the way to [0, 1], and the way back."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.system.arraylike import is_floating, refuse_meta
from unrolled.system.devices import in_double

Scale = float | tuple[float, float] | str
"""What white is: a number; (black, white); "max", the image's own largest magnitude; "99.5%", a percentile of its
magnitudes; or "hu", Hounsfield units."""

HOW = (
    "give scale: the number that is white, (black, white), 'max', a percentile such as '99.5%', or 'hu' for Hounsfield "
    "units"
)

AIR, WATER = -1000.0, 0.0
"""In Hounsfield units; nothing attenuates as little as air."""

HOUNSFIELD = (AIR, 3071.0)
"""(black, white) of the scale "hu": where attenuation is 0, and the largest number of 12 bits. So images in parts of
white are attenuation, of which line integrals are measured."""

LEAST_HU = -1200.0
"""Air with noise reaches down to about here; what lies lower is padding, or has other units."""

WHITES = {torch.bool: 1.0, torch.uint8: 255.0, torch.uint16: 65535.0}
"""Types of whole numbers that say what white is; black is 0."""

ROUNDING = 1e-5
"""Values may lie so far outside of [0, 1]: the magnitudes of complex images are rounded."""

OUTSIDE = (-1.0, 2.0)
"""Between these lie images whose scale was given, with black at 0 and white at 1: padding of CT is below black, metal
above white."""

NEGATIVE = -0.1
"""So far below 0, in parts of white, are images whose black is taken for 0."""

DARK = {torch.uint16: 1 / 4}
DARK_FLOAT = 1 / 16
"""Images at most so bright, in parts of white, are probably in other units: 10, 12 or 14 bits in 16, those of
scanners."""


@dataclass(frozen=True)
class Range:
    """What black and white are in an image's own units.

    Parameters
    ----------
    black, white : float
    given : bool
        whether somebody said so; otherwise it is what the type or the file states, or [0, 1].
    """

    black: float = 0.0
    white: float = 1.0
    given: bool = False

    def to_unit(self, image: Tensor) -> Tensor:
        """The image with black at 0 and white at 1, float32 or complex64, or double where it is so already."""
        kind = torch.promote_types(image.dtype, torch.float32) if is_floating(image) else torch.float32
        image = image.to(kind)
        if self.black:
            image = image - self.black
        width = self.white - self.black
        return image if width == 1 else image / width

    def from_unit(self, image: Tensor) -> Tensor:
        """The way back, to the image's own units."""
        width = self.white - self.black
        image = image if width == 1 else image * width
        return image + self.black if self.black else image


UNIT = Range()


def range_of(
    what: str, image: Tensor, scale: Scale | None = None, within: tuple[float, float] = (-ROUNDING, 1 + ROUNDING)
) -> Range:
    """What black and white are in an image.

    Without a scale: the white of bytes is 255, that of unsigned 16-bit numbers 65535, and floating point lies in
    [0, 1], complex numbers by their magnitude.

    Parameters
    ----------
    what : str
        the name of the argument, for messages.
    image : Tensor of any shape, not empty
    scale : Scale, optional
    within : (float, float)
        where floating point must lie without a scale.

    Raises
    ------
    ValueError
        for an image that is not finite; without a scale for types whose white is not known and for values outside of
        [0, 1]; with one for values far outside of it, and for a scale that is none.
    """
    if not image.numel():
        raise ValueError(f"{what}: must not be empty, got shape {tuple(image.shape)}")
    refuse_meta(what, image)
    magnitude = magnitudes(image.detach())
    low, high = float(magnitude.min()), float(magnitude.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{what}: must be finite, but holds NaN or inf")
    if scale is None:
        if not is_floating(image):
            if image.dtype not in WHITES:
                raise ValueError(f"{what}: is of {_name(image.dtype)}, whose white is not known; {HOW}")
            return Range(0.0, WHITES[image.dtype])
        if low < within[0] or high > within[1]:
            raise ValueError(f"{what}: values must be in [0, 1], got {low:.6g} to {high:.6g}; {HOW}")
        return UNIT
    black, white = _stated(what, scale, magnitude)
    if black and image.is_complex():
        raise ValueError(f"{what}: black must be 0 for complex images, got scale={scale!r}")
    if (black, white) == HOUNSFIELD:
        _check_hounsfield(what, image, low, high)
    lowest, highest = ((value - black) / (white - black) for value in (low, high))
    if not black and lowest < NEGATIVE:
        raise ValueError(
            f"{what}: reaches down to {low:.6g}, so it must be told what black is; give scale: (black, white)"
        )
    if lowest < OUTSIDE[0] or highest > OUTSIDE[1]:
        raise ValueError(
            f"{what}: reaches from {low:.6g} to {high:.6g}, far outside of the scale from {black:.6g} to {white:.6g}; "
            "give another scale"
        )
    return Range(black, white, True)


def brightness(image: Tensor) -> float:
    """The largest magnitude."""
    return float(magnitudes(image.detach()).max())


def states_white(kind: torch.dtype) -> bool:
    """Whether numbers of a type leave no doubt about what white is."""
    return kind in WHITES and kind not in DARK


def is_dark(bright: float, kind: torch.dtype) -> bool:
    """Whether an image of a type, as bright as this in parts of white, is probably in other units than it seems."""
    return not states_white(kind) and 0 < bright <= DARK.get(kind, DARK_FLOAT) * (1 + ROUNDING)


def refuse_dark(what: str, images: Iterable[tuple[float, torch.dtype | None]]) -> None:
    """Raise ValueError if all images are dark or black, and some are dark; they are looked at until one is bright.

    Parameters
    ----------
    what : str
        the name of the argument, for messages.
    images : pairs of float and dtype or None
        of each image its brightness, in parts of white, and the type of its numbers, None if its white was given.
    """
    brightest = 0.0
    for bright, kind in images:
        if kind is None or states_white(kind) or (bright and not is_dark(bright, kind)):
            return
        brightest = max(brightest, bright)
    if brightest:
        raise ValueError(
            f"{what}: nothing in it is brighter than {brightest:.3g} of white, so it is probably in other units; {HOW}"
            "; if it is meant so, give scale=1 (of 16-bit numbers 65535)"
        )


def as_scale(what: str, scale: Any) -> Scale | None:
    """A scale in numbers of Python, from a scale in any.

    Raises
    ------
    ValueError
        for what is no scale.
    """
    if scale is None or (isinstance(scale, str) and scale != "hu"):
        if scale is not None:
            _relative(what, scale, None)
        return scale
    black, white = _stated(what, scale, None)
    return (black, white) if isinstance(scale, str) or np.ndim(scale) else white


def magnitudes(image: Tensor) -> Tensor:
    """Real numbers to compare: magnitudes of complex ones, and what PyTorch cannot compare as floating point."""
    if image.is_complex():
        return image.abs()
    exact = image.dtype in (torch.bool, torch.uint16, torch.uint32, torch.uint64)
    return in_double(image) if exact else image


def _check_hounsfield(what: str, image: Tensor, low: float, high: float) -> None:
    """Raise ValueError for numbers that cannot be Hounsfield units."""
    if image.dtype in WHITES:
        raise ValueError(
            f"{what}: is of {_name(image.dtype)}, which cannot hold the {AIR:g} of air in Hounsfield units; "
            "apply the slope and the intercept that the scanner's file states, or give scale: (black, white)"
        )
    if is_floating(image) and 0 <= low < high <= 1:
        raise ValueError(
            f"{what}: reaches from {low:.6g} to {high:.6g}, as images in [0, 1] do, and not Hounsfield units, in which "
            f"air is {AIR:g} and water {WATER:g}; leave out scale"
        )
    if low < LEAST_HU:
        raise ValueError(
            f"{what}: reaches down to {low:.6g} Hounsfield units, and air has {AIR:g}; let padding around the field of "
            f"view be {AIR:g}, or give scale: (black, white)"
        )


def _stated(what: str, scale: Any, magnitude: Tensor | None) -> tuple[float, float]:
    if isinstance(scale, str):
        if scale == "hu":
            return HOUNSFIELD
        return 0.0, _relative(what, scale, magnitude)
    if isinstance(scale, (Tensor, np.ndarray)):
        scale = scale.tolist()
    ends = scale if isinstance(scale, (list, tuple)) else (0.0, scale)
    numbers = all(isinstance(end, (Real, np.number)) and not isinstance(end, bool) for end in ends)
    if len(ends) != 2 or not numbers or not all(math.isfinite(end) for end in ends) or not ends[0] < ends[1]:
        raise ValueError(f"{what}: scale must be > 0, or (black, white) with black < white, got {scale!r}; {HOW}")
    return float(ends[0]), float(ends[1])


def _relative(what: str, scale: str, magnitude: Tensor | None) -> float:
    """What white is by "max" or a percentile; 1 of an image of zeros."""
    share = 100.0
    if scale != "max":
        try:
            share = float(scale.removesuffix("%")) if scale.endswith("%") else math.nan
        except ValueError:
            share = math.nan
        if not 0 < share <= 100:
            raise ValueError(f"{what}: scale must be in (0 %, 100 %] if it is a percentile, got {scale!r}; {HOW}")
    if magnitude is None:
        return 1.0
    values = in_double(magnitude.detach().abs()).flatten()
    white = float(values.max())
    if share < 100:
        white = float(np.percentile(values.cpu().numpy(), share)) or white  # few bright pixels on black
    return white or 1.0


def _name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
