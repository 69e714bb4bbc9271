"""Reconstruction tile by tile: the same image, in memory that does not grow with the feature maps of the whole."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.networks import Phase, UnrolledNetwork
from unrolled.operators import LinearOperator

TILE = 396
"""Side of a tile in pixels. Smaller tiles need less memory, larger ones compute less twice."""


def in_tiles(
    y: Tensor,
    network: UnrolledNetwork,
    operator: LinearOperator,
    tile: int = TILE,
    progress: bool = False,
) -> Tensor:
    """Reconstruct tile by tile, phase after phase: what `network(y, operator)` gives, whatever the tile.

    In every phase a tile is computed with as many pixels around it as the phase looks at, so no seam can arise. In
    memory are the image, what phases hand to the next one, and the feature maps of one tile.

    Parameters
    ----------
    y : Tensor, the measurements
    network : UnrolledNetwork
        whose phases hand on None or one image.
    operator : LinearOperator
        a local one, such as `BlockCompressedSensing`.
    tile : int
        side of a tile in pixels, rounded up to what operator and phases ask for.
    progress : bool

    Returns
    -------
    Tensor, (batch, channel, height, width)

    Raises
    ------
    ValueError
        if the operator is not local, or tile is not >= 1.
    """
    if not operator.local:
        raise ValueError(f"tile: {type(operator).__name__} measures the image as a whole, so it has no tiles")
    if tile < 1:
        raise ValueError(f"tile: must be >= 1, got {tile!r}")
    network.check(operator)
    size = operator.image_size(y)
    network = network if network.fused else network.fuse()
    phases = network.sequence
    unit = math.lcm(operator.multiple, *(phase.alignment for phase in phases))
    tile = math.ceil(tile / unit) * unit
    count = math.ceil(size[0] / tile) * math.ceil(size[1] / tile)
    with torch.no_grad(), tqdm(total=count * (len(phases) + 1), disable=not progress, unit="tile", leave=False) as bar:
        if network.start.local:
            x = y.new_empty(y.shape[0], y.shape[1], *size)
            for top, height in _parts(size[0], tile):
                for left, width in _parts(size[1], tile):
                    x[..., top : top + height, left : left + width] = network.start(
                        operator.crop(y, top, left, height, width), operator
                    )
                    bar.update()
        else:  # it has no feature maps, so it takes little memory as a whole
            x = network.start(y, operator).clone()
            bar.update(count)
        memory = None
        for phase in phases:
            memory = _apply(phase, x, memory, y, operator, tile, unit, bar)
    return x


def _apply(
    phase: Phase, x: Tensor, memory: Tensor | None, y: Tensor, operator: LinearOperator, tile: int, unit: int, bar: tqdm
) -> Tensor | None:
    """One phase, in place: rows of tiles from top to bottom, from a copy of the rows that they look at."""
    halo = sum(math.ceil(reach / unit) * unit for reach in phase.reaches)
    height, width = x.shape[-2:]
    state = [x] if memory is None else [x, memory]
    above = [image[..., :0, :] for image in state]
    following = memory
    for top, rows in _parts(height, tile):
        # Rows above were overwritten by the tiles before, so their old values are kept; those below are still old.
        old = [
            torch.cat([kept, image[..., top : top + rows + halo, :]], dim=-2)
            for kept, image in zip(above, state, strict=True)
        ]
        first = top - above[0].shape[-2]
        above = [image[..., max(0, top + rows - halo - first) : top + rows - first, :] for image in old]
        for left, columns in _parts(width, tile):
            begin, end = max(0, left - halo), min(width, left + columns + halo)
            window = [image[..., begin:end] for image in old]
            found, handed_on = phase(
                window[0],
                window[1] if len(window) > 1 else None,
                operator.crop(y, first, begin, old[0].shape[-2], end - begin),
                operator,
            )
            inside = (..., slice(top - first, top - first + rows), slice(left - begin, left - begin + columns))
            target = (..., slice(top, top + rows), slice(left, left + columns))
            x[target] = found[inside]
            if handed_on is not None:
                following = torch.empty_like(x) if following is None else following
                following[target] = handed_on[inside]
            bar.update()
    return following


def _parts(length: int, part: int) -> Iterator[tuple[int, int]]:
    """Where parts of a length begin, and how long they are."""
    for begin in range(0, length, part):
        yield begin, min(part, length - begin)
