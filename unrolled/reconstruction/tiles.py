"""Reconstruction tile by tile: the same image, in memory that does not grow with the feature maps of the whole."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.networks import Implicit, Measurements, Phase, UnrolledNetwork
from unrolled.networks.phases.phase import State
from unrolled.operators import LinearOperator
from unrolled.system.compilation import Compiled
from unrolled.system.scalars import whole_number

TILE = 396
"""Side of a tile in pixels. Smaller tiles need less memory, larger ones compute less twice."""


def in_tiles(
    y: Tensor,
    network: UnrolledNetwork,
    operator: LinearOperator,
    tile: int = TILE,
    progress: bool = False,
    compiled: bool = False,
    noise: float | Tensor | None = None,
) -> Tensor:
    """Reconstruct tile by tile, phase after phase: what `network(y, operator, noise=noise)` gives, whatever the tile.

    In every phase a tile is computed with as many pixels around it as the phase looks at, so no seam can arise. In
    memory are the image, what phases hand to the next one, and the feature maps of one tile.

    Parameters
    ----------
    y : Tensor, the measurements
    network : UnrolledNetwork
        whose phases say how far they look, and carry images or feature maps.
    operator : LinearOperator
        a local one, such as `BlockCompressedSensing`.
    tile : int
        side of a tile in pixels, rounded up to what operator and phases ask for.
    progress : bool
    compiled : bool
        let torch.compile make code for tiles in the interior, which all have one size.
    noise : float or Tensor, (batch,), optional
        the noise level, for networks that take it.

    Returns
    -------
    Tensor, (batch, channel, height, width)

    Raises
    ------
    ValueError
        if operator or phases allow no tiles (see `why_no_tiles`), what phases carry has other sizes than they say, or
        tile is not >= 1.
    """
    reason = why_no_tiles(network, operator)
    if reason is not None:
        raise ValueError(f"tile: {reason}, so it has no tiles")
    tile = whole_number("tile:", tile)
    y, operator, condition = network.given(y, operator, noise)
    size = operator.image_size(y)
    network = network if network.fused else network.fuse()
    start, learned, phases = network.start.unlearned, network.start.learned, network.sequence
    scales = {scale for phase in phases for scale in _scales(phase)}
    unit = math.lcm(operator.multiple, *scales, *(phase.alignment for phase in [*learned, *phases]))
    tile = math.ceil(tile / unit) * unit
    count = math.ceil(size[0] / tile) * math.ceil(size[1] / tile)
    total = count * (1 + len(learned) + len(phases))
    with torch.no_grad(), tqdm(total=total, disable=not progress, unit="tile", leave=False) as bar:
        if start.local:
            x = y.new_empty(y.shape[0], y.shape[1], *size)
            for top, height in _parts(size[0], tile):
                for left, width in _parts(size[1], tile):
                    x[..., top : top + height, left : left + width] = start(
                        operator.crop(y, top, left, height, width), operator
                    )
                    bar.update()
        else:  # it has no feature maps, so it takes little memory as a whole
            x = start(y, operator)
            bar.update(count)
        graph = Compiled(_call, "A phase") if compiled else _call
        for phase in learned:
            (x,) = _apply(phase, [x.clone()], y, operator, None, tile, unit, graph, bar)
        begun = phases[0].begin(x, y, operator)
        _check_entries(phases[0], begun, *size)
        # Phases are applied in place, so no two entries may share memory.
        state = [entry.clone() for entry in begun]
        del x, begun
        for phase in phases:
            state = _apply(phase, state, y, operator, condition, tile, unit, graph, bar)
    return state[0]


def why_no_tiles(network: UnrolledNetwork, operator: LinearOperator) -> str | None:
    """Why a reconstruction cannot be made of tiles, as a clause; None if it can."""
    if not operator.local:
        return f"{type(operator).__name__} measures the image as a whole"
    if any(phase.reach is None for phase in network.start.learned):
        return f"{type(network.start).__name__} looks at the image as a whole (the reach of its prior is None)"
    if isinstance(network.differentiation, Implicit) and network.differentiation.memory > 1:
        return "Anderson's acceleration (Implicit with a memory) looks at the image as a whole"
    for phase in network.sequence:
        name = type(phase).__name__
        if any(isinstance(entry, Measurements) for entry in phase.carries):
            return f"{name} carries measurements, which are of the image as a whole"
        if phase.reach is None:
            return f"{name} looks at the image as a whole (its reach is None)"
    return None


def _call(phase: Phase, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None) -> State:
    return phase(state, y, operator, condition)


def _apply(
    phase: Phase,
    state: list[Tensor],
    y: Tensor,
    operator: LinearOperator,
    condition: Tensor | None,
    tile: int,
    unit: int,
    interior: Callable[[Phase, State, Tensor, LinearOperator, Tensor | None], State],
    bar: tqdm,
) -> list[Tensor]:
    """One phase, in place: rows of tiles from top to bottom, from a copy of the rows that they look at.

    `interior` calls the phase on a tile that has all of its surroundings.
    """
    # The maps between two data steps each look into whole blocks of the operator.
    assert phase.reach is not None
    halo = unit * (math.ceil(phase.reach / unit) + max(phase.data_steps, 1) - 1)
    height, width = state[0].shape[-2:]
    scales = _scales(phase)
    following = list(state)
    above = [entry[..., :0, :] for entry in state]
    for top, rows in _parts(height, tile):
        # Rows above were overwritten by the tiles before, so their old values are kept; those below are still old.
        old = [
            torch.cat([kept, entry[..., top // s : _maps(top + rows + halo, s), :]], dim=-2)
            for kept, entry, s in zip(above, state, scales, strict=False)
        ]
        first = top - above[0].shape[-2]
        above = [
            entry[..., max(0, top + rows - halo - first) // s : _maps(top + rows - first, s), :]
            for entry, s in zip(old, scales, strict=False)
        ]
        for left, columns in _parts(width, tile):
            begin, end = max(0, left - halo), min(width, left + columns + halo)
            window = tuple(entry[..., begin // s : _maps(end, s)] for entry, s in zip(old, scales, strict=False))
            around = operator.crop(y, first, begin, old[0].shape[-2], end - begin)
            whole = (old[0].shape[-2], end - begin) == (tile + 2 * halo, tile + 2 * halo)
            found = (interior if whole else _call)(phase, window, around, operator, condition)
            _check_entries(phase, found, old[0].shape[-2], end - begin)
            for entry, s in zip(found[len(following) :], scales[len(following) :], strict=True):
                # The first phase of older programs is given the image alone, and hands on more.
                following.append(entry.new_empty(*entry.shape[:-2], _maps(height, s), _maps(width, s)))
            for target, entry, s in zip(following, found, scales, strict=False):
                target[..., top // s : _maps(top + rows, s), left // s : _maps(left + columns, s)] = entry[
                    ...,
                    (top - first) // s : _maps(top - first + rows, s),
                    (left - begin) // s : _maps(left - begin + columns, s),
                ]
            bar.update()
    return following


def _check_entries(phase: Phase, found: tuple[Tensor, ...], height: int, width: int) -> None:
    """Raise ValueError unless the entries of a state are what a phase says that it carries."""
    wanted = [(_maps(height, s), _maps(width, s)) for s in _scales(phase)]
    shapes = [tuple(entry.shape[-2:]) if isinstance(entry, Tensor) else type(entry).__name__ for entry in found]
    if shapes != wanted[: len(shapes)]:
        raise ValueError(
            f"tile: {type(phase).__name__} must carry {phase.carries}, which for {height}×{width} pixels are "
            f"of the sizes {wanted}, got {shapes}"
        )


def _scales(phase: Phase) -> list[int]:
    """Pixels of the image for one number of each entry of a state, in either direction."""
    return [1, *(entry.scale for entry in phase.carries if not isinstance(entry, Measurements))]


def _maps(pixels: int, scale: int) -> int:
    """How many numbers of an entry at a scale lie over so many pixels; the last of them may lie over fewer."""
    return -(-pixels // scale)


def _parts(length: int, part: int) -> Iterator[tuple[int, int]]:
    """Where parts of a length begin, and how long they are."""
    for begin in range(0, length, part):
        yield begin, min(part, length - begin)
