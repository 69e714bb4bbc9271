"""Residual blocks at half of the resolution of an image, where many feature maps are cheap."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, of_images
from unrolled.networks.initial_weights import of_one_size
from unrolled.networks.maps import scaled
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.shrinkage import shrinkage_of
from unrolled.networks.sizes import check_sizes
from unrolled.penalties import Penalty


class HalfResolutionPrior(MapPrior):
    """z + U⁻¹ C_out(r_n(… r₁(C_in U z))), r(v) = v + C' s(C v): residual blocks on four pixels at a time.

    U takes every 2×2 pixels of a map apart into four maps of half the resolution, exactly; the convolutions C are 3×3
    with a bias, and C_out starts at 0. Between the convolutions of a block stands s, a ReLU or the proximal map of a
    penalty. Blocks without norms are those of EDSR (Lim and others, CVPR workshops 2017), U is the pixel shuffle of Shi
    and others (CVPR 2016). Images of odd sides are continued by a copy of their last row or column.

    Parameters
    ----------
    features : int
        maps at half of the resolution.
    blocks : int
        residual blocks.
    penalty : Penalty, list of Penalty, or None
        whose proximal map is s, with a learned threshold for every feature map; of a list, a learned mixture of their
        maps. None: s is a ReLU.
    learn_penalty : bool
        learn the parameters of the penalties too.
    threshold : float > 0
        where the thresholds start.
    channels, complex_images, ranges
        see `MapPrior`; the condition scales what is added to z, what each block adds, and the thresholds.
    """

    alignment = 2

    def __init__(
        self,
        features: int = 64,
        blocks: int = 2,
        penalty: Penalty | list[Penalty] | None = None,
        learn_penalty: bool = False,
        threshold: float = 0.01,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        check_sizes("HalfResolutionPrior", features=features, blocks=blocks)
        super().__init__(channels, complex_images, ranges, 1 + blocks + (penalty is not None))
        self.first = of_one_size(_convolution(4 * self.parts, features), rectified=False)
        self.blocks = nn.ModuleList(ResidualBlock(features, penalty, learn_penalty, threshold) for _ in range(blocks))
        self.last = _convolution(features, 4 * self.parts)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        # Each step at half of the resolution is two pixels, and of the two that one of them holds one lies farther.
        self.reach = 2 * (1 + 2 * blocks + 1) + 1

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        height, width = maps.shape[-2:]
        even = F.pad(maps, (0, width % 2, 0, height % 2), mode="replicate")
        own = [None] * (2 + len(self.blocks)) if factors is None else [of_images(each) for each in factors.unbind(1)]
        z = self.first(F.pixel_unshuffle(even, 2))
        for block, factor in zip(self.blocks, own[1:], strict=False):
            z = block(z, factor, own[-1])  # the last is that of thresholds, if there are any
        change = F.pixel_shuffle(self.last(z), 2)[..., :height, :width].to(maps.dtype)
        return maps + (change if own[0] is None else own[0] * change)


class ResidualBlock(nn.Module):
    """v + c·C' s(C v), with 3×3 convolutions and s a ReLU, or a shrinkage whose thresholds are scaled.

    Parameters
    ----------
    features : int
    penalty, learn_penalty, threshold
        see `HalfResolutionPrior`.
    """

    def __init__(
        self,
        features: int,
        penalty: Penalty | list[Penalty] | None,
        learn_penalty: bool = False,
        threshold: float = 0.01,
    ):
        super().__init__()
        self.first = of_one_size(_convolution(features, features))
        self.second = _convolution(features, features)  # small at first, as sums of blocks grow
        self.shrinkage = None if penalty is None else shrinkage_of(penalty, features, threshold, learn_penalty)

    def forward(self, v: Tensor, factor: Tensor | None = None, of_thresholds: Tensor | None = None) -> Tensor:
        inner = self.first(v)
        inner = F.relu(inner, inplace=True) if self.shrinkage is None else scaled(self.shrinkage, of_thresholds)(inner)
        change = self.second(inner)
        return v + (change if factor is None else factor * change)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
