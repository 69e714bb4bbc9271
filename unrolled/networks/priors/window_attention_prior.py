"""A small transformer whose pixels look at those of their window."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, of_images
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.sizes import check_sizes
from unrolled.networks.windows import Windows, reach_through


class WindowAttentionPrior(MapPrior):
    """z + C_out(b_n(… b₁(C_in z))), blocks of attention in windows between two 3×3 convolutions.

    A block is v ← v + attention(norm(v)), then v ← v + MLP(norm(v)), as in the Swin transformer (Liu and others, ICCV
    2021) and SwinIR (Liang and others, ICCV workshops 2021): several heads, a learned bias for every difference of two
    places in a window, and windows of every second block shifted by half of their side. Windows that stand out over the
    image see what of them lies on it. C_out starts at 0.

    Windows begin at multiples of their side, so parts of an image that begin there are treated as in the whole.

    Parameters
    ----------
    features : int
        maps between the convolutions, a multiple of heads.
    blocks : int
    heads : int
        of the attention.
    window : int
        side of a window in pixels.
    expansion : int
        how many times as many features are inside of an MLP.
    channels, complex_images, ranges
        see `MapPrior`; the condition scales what is added to z, and what each block adds.
    """

    def __init__(
        self,
        features: int = 64,
        blocks: int = 4,
        heads: int = 4,
        window: int = 8,
        expansion: int = 2,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        sizes = {"features": features, "blocks": blocks, "heads": heads, "window": window, "expansion": expansion}
        check_sizes("WindowAttentionPrior", **sizes)
        if features % heads:
            raise ValueError(f"WindowAttentionPrior: features must be a multiple of {heads} heads, got {features}")
        super().__init__(channels, complex_images, ranges, 1 + blocks)
        shifts = [window // 2 * (index % 2) for index in range(blocks)]
        self.first = nn.Conv2d(self.parts, features, 3, padding=1)
        self.blocks = nn.ModuleList(AttentionBlock(features, heads, window, shift, expansion) for shift in shifts)
        self.last = nn.Conv2d(features, self.parts, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        self.reach = reach_through([1, *((window, shift) for shift in shifts), 1])
        self.alignment = window

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        own = [None] * (1 + len(self.blocks)) if factors is None else [of_images(each) for each in factors.unbind(1)]
        z = self.first(maps).movedim(1, -1)
        for block, factor in zip(self.blocks, own[1:], strict=True):
            z = block(z, factor)
        change = self.last(z.movedim(-1, 1)).to(maps.dtype)
        return maps + (change if own[0] is None else own[0] * change)


class AttentionBlock(nn.Module):
    """Attention within windows, then an MLP at every pixel, each added to what it is given.

    Parameters
    ----------
    features, heads, window, expansion : int
        see `WindowAttentionPrior`.
    shift : int
        see `Windows`.
    """

    places: Tensor

    def __init__(self, features: int, heads: int, window: int, shift: int, expansion: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm, self.second_norm = nn.LayerNorm(features), nn.LayerNorm(features)
        self.query_key_value, self.combine = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.expand, self.reduce = nn.Linear(features, expansion * features), nn.Linear(expansion * features, features)
        self.bias = nn.Parameter(torch.empty(heads, (2 * window - 1) ** 2))
        nn.init.trunc_normal_(self.bias, std=0.02)
        # Of two pixels of a window: where in the table the bias for their difference stands.
        difference = torch.arange(window).unsqueeze(1) - torch.arange(window) + window - 1
        places = difference.view(window, 1, window, 1) * (2 * window - 1) + difference.view(1, window, 1, window)
        self.register_buffer("places", places.reshape(window**2, window**2), persistent=False)

    def forward(self, v: Tensor, factor: Tensor | None = None) -> Tensor:
        """v, (batch, height, width, features), and a factor of what is added, (batch, 1, 1, 1) or None."""
        attended = self.attention(self.norm(v))
        v = v + (attended if factor is None else factor * attended)
        found = self.reduce(F.gelu(self.expand(self.second_norm(v))))
        return v + (found if factor is None else factor * found)

    def attention(self, v: Tensor) -> Tensor:
        """What every pixel takes from those of its window, (batch, height, width, features)."""
        windows = Windows(v.shape[1], v.shape[2], self.window, self.shift)
        pixels = windows.cut(v.movedim(-1, 1))
        # of (3, windows, heads, pixels, features of a head)
        split = self.query_key_value(pixels).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        scores, inside = self.bias[:, self.places].to(query.dtype), windows.inside(v)
        if inside is not None:  # what lies beyond the border is not looked at
            outside = torch.zeros_like(inside, dtype=scores.dtype).masked_fill(~inside, -torch.inf)
            scores = (scores + outside[:, None, None]).repeat(len(v), 1, 1, 1)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        return windows.joined(self.combine(found.transpose(1, 2).flatten(2))).movedim(1, -1)
