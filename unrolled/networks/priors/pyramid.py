"""Networks that work on an image at several sizes, each half of the one before: their widths, sides and reach."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from unrolled.networks.sizes import check_sizes


def widths(owner: str, features: int | Sequence[int], scales: int) -> list[int]:
    """How many feature maps there are at every size, the whole image first.

    Parameters
    ----------
    owner : str
        for messages.
    features : int or sequence of int
        at the size of the image, twice as many at half the size, and so on; or those of every size.
    scales : int
        how many times the image is halved.

    Raises
    ------
    ValueError
        if any is no whole number in 1 … 10,000, or a sequence is not of scales + 1 numbers.
    """
    check_sizes(owner, scales=scales)
    if isinstance(features, int):
        check_sizes(owner, features=features)
        check_sizes(owner, **{"features at the smallest size": features << min(scales, 64)})
        return [features << scale for scale in range(scales + 1)]
    given: list[Any] = list(features) if isinstance(features, Sequence) and not isinstance(features, str) else []
    if len(given) != scales + 1:
        raise ValueError(
            f"{owner}: features must be a whole number, or one for each of {scales + 1} sizes, got {features!r}"
        )
    for size in given:
        check_sizes(owner, features=size)
    return given


def next_multiple(side: int, unit: int) -> int:
    """The least multiple of a unit that is no less than a side."""
    return side + -side % unit


def continued(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps of at least these sides: at the bottom and at the right their last pixels are repeated."""
    below, beside = height - maps.shape[-2], width - maps.shape[-1]
    if below <= 0 and beside <= 0:
        return maps
    return F.pad(maps, (0, max(beside, 0), 0, max(below, 0)), "replicate")


def farthest(inward: Sequence[int], outward: Sequence[int]) -> int:
    """How many pixels away a pixel of the outcome depends on the image, at most.

    Between two sizes every 2×2 pixels become one, and one becomes 2×2.

    Parameters
    ----------
    inward : sequence of int >= 0
        how many pixels away the convolutions look at every size on the way in, all in all, the whole image first.
    outward : sequence of int >= 0
        the same on the way out, for all sizes but the smallest.
    """
    reach = 0
    for pixel in range(2 ** len(outward)):  # it depends on its place among those that become one in the end
        first = last = pixel
        for look in outward:
            first, last = (first - look) // 2, (last + look) // 2
        first, last = first - inward[-1], last + inward[-1]
        for look in reversed(inward[:-1]):
            first, last = 2 * first - look, 2 * last + 1 + look
        reach = max(reach, pixel - first, last - pixel)
    return reach
