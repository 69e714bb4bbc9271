"""Grids of square windows over maps, for attention within them."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


class Windows:
    """Windows of one side that cover maps of one size. Those at the border stand out over it.

    Parameters
    ----------
    height, width : int
        of the maps.
    side : int
        of a window.
    shift : int in 0 … side − 1
        by how much the first windows stand out at the top and on the left.
    """

    def __init__(self, height: int, width: int, side: int, shift: int = 0):
        self.size, self.side, self.shift = (height, width), side, shift
        bottom, right = -(height + shift) % side, -(width + shift) % side
        self.padding = shift, right, shift, bottom
        self.rows, self.columns = (height + shift + bottom) // side, (width + shift + right) // side

    def cut(self, maps: Tensor) -> Tensor:
        """The pixels of every window, with zeros beyond the border.

        Parameters
        ----------
        maps : Tensor, (batch, channel, height, width)

        Returns
        -------
        Tensor, (batch·windows, side², channel)
        """
        padded = F.pad(maps, self.padding) if any(self.padding) else maps
        return rearrange(
            padded, "b c (rows p) (cols q) -> (b rows cols) (p q) c", p=self.side, q=self.side
        ).contiguous()

    def joined(self, pixels: Tensor) -> Tensor:
        """The inverse of `cut`: maps, without what lies beyond the border."""
        maps = rearrange(
            pixels,
            "(b rows cols) (p q) c -> b c (rows p) (cols q)",
            rows=self.rows,
            cols=self.columns,
            p=self.side,
            q=self.side,
        )
        (height, width), shift = self.size, self.shift
        return maps[..., shift : shift + height, shift : shift + width]

    def inside(self, like: Tensor) -> Tensor | None:
        """Which pixels of the windows of one image lie on the maps: (windows, side²), bool; None: all do."""
        if not any(self.padding):
            return None
        return self.cut(like.new_ones(1, 1, *self.size))[..., 0] > 0


def reach_through(layers: Sequence[int | tuple[int, int]]) -> int:
    """How many pixels away a chain of layers looks, at the most.

    Parameters
    ----------
    layers : sequence
        from the first to the last: the radius of a convolution, or the side and the shift of windows, each pixel of
        which sees all of its window.
    """
    farthest, period = 0, math.lcm(*(layer[0] for layer in layers if not isinstance(layer, int)))
    for place in range(period):
        first = last = place
        for layer in reversed(layers):
            if isinstance(layer, int):
                first, last = first - layer, last + layer
            else:
                side, shift = layer
                first = (first + shift) // side * side - shift
                last = (last + shift) // side * side - shift + side - 1
        farthest = max(farthest, place - first, last - place)
    return farthest
