"""One crop of an image: a random place, size and orientation."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.data.augmentation import Augmentation
from unrolled.data.crops import crop_sides, crop_text
from unrolled.data.stores import StoredImage, to_float


@dataclass(frozen=True)
class Cropping:
    """How crops are cut from images.

    Parameters
    ----------
    crop : int or (height, width)
        in pixels; kept as (height, width).
    smallest : float in (0, 1]
        images are shrunk at random by factors of `smallest` to 1, so that what is in them comes in several sizes.
    frame : bool
        images that are smaller than the crop, or become so, are put into black frames, at random places.
    augmentation : Augmentation
        how crops are varied.

    Raises
    ------
    ValueError
        if the crop is not a size, or smallest is out of range.
    """

    crop: tuple[int, int]
    smallest: float = 1.0
    frame: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        object.__setattr__(self, "crop", crop_sides(self.crop))
        if not 0 < self.smallest <= 1:
            raise ValueError(f"crop: smallest must be in (0, 1], got {self.smallest!r}")

    def check(self, image: StoredImage) -> None:
        """Raise ValueError if an image is smaller than the crop, or may become so, and is not to be framed."""
        short = any(side * self.smallest < wanted for side, wanted in zip(image.shape[-2:], self.crop, strict=True))
        if short and not self.frame:
            smaller = "" if self.smallest == 1 else f", shrunk by {self.smallest},"
            raise ValueError(f"an image of {image.shape}{smaller} is smaller than the crop of {crop_text(self.crop)}")

    def of(self, image: StoredImage, random: np.random.Generator) -> Tensor:
        """A crop, (channel, height, width), as the image is stored unless its numbers are varied."""
        scale = 1.0 if self.smallest == 1 else random.uniform(self.smallest, 1)
        reach = [min(side, math.ceil(wanted / scale)) for side, wanted in zip(image.shape[-2:], self.crop, strict=True)]
        top, left = (int(random.integers(side - part + 1)) for side, part in zip(image.shape[-2:], reach, strict=True))
        patch = image.read(slice(top, top + reach[0]), slice(left, left + reach[1]))
        if scale < 1:
            size = [max(1, min(side, round(scale * part))) for side, part in zip(self.crop, reach, strict=True)]
            patch = shrunk(to_float(patch), size)
        if self.frame:
            patch = self._framed(patch, random)
        return self.augmentation.vary(patch, random)

    def _framed(self, patch: Tensor, random: np.random.Generator) -> Tensor:
        """The patch in a black frame of the crop's size, at a random place."""
        down, across = (side - part for side, part in zip(self.crop, patch.shape[-2:], strict=True))
        top, left = int(random.integers(down + 1)), int(random.integers(across + 1))
        return F.pad(patch, (left, across - left, top, down - top))


def shrunk(image: Tensor, size: list[int]) -> Tensor:
    """An image (channel, height, width), real or complex, by bicubic interpolation; real ones do not overshoot."""
    if image.is_complex():
        parts = torch.cat([image.real, image.imag])
        real, imaginary = F.interpolate(parts[None], size, mode="bicubic", antialias=True)[0].chunk(2)
        return torch.complex(real, imaginary)
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    return F.interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(low, high)
