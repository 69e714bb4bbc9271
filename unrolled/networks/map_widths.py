"""Which feature maps around a shrinkage matter, and how many of them there are."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture
from unrolled.networks.sizes import check_sizes


class Widths(NamedTuple):
    """How many feature maps a learned proximal map has: an image to maps, a shrinkage, and back to an image.

    inner, shrunk, back : before the shrinkage, shrunk, and after it.
    middle : between the two convolutions of the pairs from and to the image.
    """

    inner: int
    shrunk: int
    back: int
    middle: int


def widths_of(owner: str, features: int | list[int]) -> Widths:
    """The widths that a number means, as many of each, or four numbers.

    Raises
    ------
    ValueError
        for anything else.
    """
    if isinstance(features, (list, tuple)) and len(features) == 4:
        for each in features:
            check_sizes(owner, features=each)
        return Widths(*features)
    if isinstance(features, (list, tuple)):
        raise ValueError(f"{owner}: features must be a number, or four, got {features!r}")
    check_sizes(owner, features=features)
    return Widths(*[features] * 4)


def widths_of_phases(owner: str, features: int | list[list[int]], phases: int) -> list[Widths]:
    """The widths of every phase, from a number or from four for each.

    Raises
    ------
    ValueError
        for anything else.
    """
    if isinstance(features, int):
        return [widths_of(owner, features)] * phases
    lists = (list, tuple)
    fours = isinstance(features, lists) and all(isinstance(each, lists) and len(each) == 4 for each in features)
    if not fours or len(features) != phases:
        raise ValueError(f"{owner}: features must be a number, or four for each of {phases} phases, got {features!r}")
    return [widths_of(owner, each) for each in features]


def live_maps(first: Tensor, before: Tensor, after: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The indices of the maps that are computed from something and read by something, at least one of each kind.

    Parameters
    ----------
    first : Tensor, (inner, …)
        kernels from the image.
    before, after : Tensor, (shrunk, inner, k, k) and (back, shrunk, k, k)
        kernels around the shrinkage, which leaves zeros zero.
    last : Tensor, (back, …)
        kernels to the image.

    Returns
    -------
    inner, shrunk, back : Tensor of int, (number,)
    """
    b, b_back = before.flatten(2).any(2), after.flatten(2).any(2)
    made, read = first.flatten(1).any(1), last.flatten(1).any(1)
    inner, back = made, read
    for _ in range(2):  # what is dead on one side is dead on the other after as many steps as there are layers
        shrunk = b[:, inner].any(1) & b_back[back].any(0)
        inner, back = made & b[shrunk].any(0), read & b_back[:, shrunk].any(1)
    return _indices(inner), _indices(shrunk), _indices(back)


def _indices(alive: Tensor) -> Tensor:
    return alive.nonzero()[:, 0] if alive.any() else torch.zeros(1, dtype=torch.long, device=alive.device)


def of_channels(shrinkage: Shrinkage | ShrinkageMixture, channels: Tensor) -> Shrinkage | ShrinkageMixture:
    """A shrinkage of some of the channels."""
    small = copy.deepcopy(shrinkage)
    if small.channels is not None:
        for parameter in small.parameters():
            parameter.data = parameter.data[..., channels]
        for module in small.modules():
            if isinstance(module, (Shrinkage, ShrinkageMixture)):
                module.channels = len(channels)
    return small


def of_each(parts: list[Any]) -> Any:
    """Parts as an argument of a network states them: the one that they all are, or a list."""
    return parts[0] if all(part is parts[0] for part in parts) else parts
