"""Coils of receivers: simulated ones, and what sensitivities must be."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.operators.sampling import whole_sides
from unrolled.system.scalars import PlainNumbers


@dataclass(frozen=True)
class Coils(PlainNumbers):
    """Simulated coils on a circle around the image, facing inward: sensitivities that fall with the distance.

    Their phase is the angle at which a pixel is seen from the coil. They are scaled so that Σ|S_c|² = 1 everywhere.

    Parameters
    ----------
    coils : int >= 1
    radius : float > 1
        of the circle, in halves of the side of the image; at 1.5 the corners are inside.
    """

    coils: int = 8
    radius: float = 1.5

    def __post_init__(self) -> None:
        if self.coils < 1:
            raise ValueError(f"Coils: coils must be >= 1, got {self.coils!r}")
        if not (math.isfinite(self.radius) and self.radius > 1):
            raise ValueError(f"Coils: radius must be a finite number > 1, got {self.radius!r}")

    def draw(self, height: int, width: int) -> Tensor:
        """The sensitivities, (coil, height, width), complex128."""
        height, width = whole_sides("Coils", height, width)
        angle = 2 * math.pi * torch.arange(self.coils, dtype=torch.float64)[:, None, None] / self.coils
        rows = torch.linspace(-1, 1, height, dtype=torch.float64)[None, :, None] - self.radius * angle.sin()
        columns = torch.linspace(-1, 1, width, dtype=torch.float64)[None, None, :] - self.radius * angle.cos()
        # A pixel at the place of a coil (corners, if the radius is small) is seen as if half a pixel away.
        distance = torch.hypot(rows, columns).clamp(min=1 / max(height, width))
        maps = torch.polar(1 / distance, torch.atan2(rows, columns) - angle)
        return maps / maps.abs().square().sum(0).sqrt()


def check_maps(maps: Tensor) -> None:
    """Raise ValueError unless these are sensitivities, finite and of no image 0 everywhere.

    Parameters
    ----------
    maps : Tensor, (coil, height, width), (batch, coil, height, width) or (batch, set, coil, height, width)
    """
    if maps.ndim not in (3, 4, 5) or 0 in maps.shape:
        raise ValueError(
            "maps: must be (coil, height, width), (batch, coil, height, width) or (batch, set, coil, height, width), "
            f"got shape {tuple(maps.shape)}"
        )
    if not bool(torch.isfinite(torch.view_as_real(maps) if maps.is_complex() else maps).all()):
        raise ValueError("maps: must be finite, but hold NaN or inf")
    for number, own in enumerate(maps if maps.ndim > 3 else [maps]):
        if not bool(own.any()):
            which = f" of image {number}" if maps.ndim > 3 and len(maps) > 1 else ""
            raise ValueError(f"maps: are 0 everywhere{which}, so nothing would be measured")


def largest_gain(maps: Tensor) -> Tensor:
    """By how much maps make an image larger at most: the largest norm of a pixel's matrix of coils and sets.

    Parameters
    ----------
    maps : Tensor
        as in `check_maps`.

    Returns
    -------
    Tensor, (batch,), or (1,) of maps without a batch; real
    """
    if maps.ndim < 5:
        return maps.abs().square().sum(-3).reshape(len(maps) if maps.ndim == 4 else 1, -1).amax(1).sqrt()
    pixels = torch.einsum("bscyx,btcyx->byxst", maps.conj(), maps)
    return torch.linalg.eigvalsh(pixels.cpu())[..., -1].flatten(1).amax(1).sqrt().to(maps.device)
