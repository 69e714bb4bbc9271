"""Random motions of images, of each image of a batch another one: shifts, flips, quarter turns and rotations."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def shifted(x: Tensor) -> Tensor:
    """Shifted by whole pixels, all equally likely; what leaves on one side comes back on the other."""
    rows, columns = (
        (torch.arange(side, device=x.device) + torch.randint(side, (len(x), 1), device=x.device)) % side
        for side in x.shape[-2:]
    )
    return _picked(x, rows, columns)


def flipped(x: Tensor) -> Tensor:
    """Mirrored upside down, left to right, both or not at all."""
    rows, columns = (
        (torch.arange(side, device=x.device) - (side - 1) * torch.randint(2, (len(x), 1), device=x.device)).abs()
        for side in x.shape[-2:]
    )
    return _picked(x, rows, columns)


def turned(x: Tensor) -> Tensor:
    """Turned by 0, 90, 180 or 270 degrees.

    Raises
    ------
    ValueError
        unless images are square.
    """
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"turns: need square images, got {tuple(x.shape)}; flips, shifts and rotations take any")
    once, twice = torch.randint(2, (2, len(x), 1, 1, 1), device=x.device).bool()
    x = torch.where(once, x.rot90(1, (-2, -1)), x)
    return torch.where(twice, x.rot90(2, (-2, -1)), x)


def rotated(x: Tensor) -> Tensor:
    """Rotated about the middle by any angle, bilinear between pixels, and 0 where nothing was."""
    angle = 2 * math.pi * torch.rand(len(x), device=x.device, dtype=x.real.dtype)
    height, width = x.shape[-2:]
    cosine, sine, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # In coordinates from -1 to 1 over either side, a rotation stretches by the ratio of the sides.
    map_back = torch.stack(
        [torch.stack([cosine, -sine * height / width, none], 1), torch.stack([sine * width / height, cosine, none], 1)],
        1,
    )
    parts = torch.cat([x.real, x.imag], 1) if x.is_complex() else x
    grid = functional.affine_grid(map_back, list(parts.shape), align_corners=False)
    parts = functional.grid_sample(parts, grid, align_corners=False)
    return torch.complex(*parts.chunk(2, 1)) if x.is_complex() else parts


def _picked(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of every image its own rows, (batch, height), and columns, (batch, width)."""
    batch, channel = (torch.arange(size, device=x.device) for size in x.shape[:2])
    return x[batch[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


MOTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "shifts": shifted,
    "flips": flipped,
    "turns": turned,
    "rotations": rotated,
}
"""By the names that `EquivariantImaging` takes."""
