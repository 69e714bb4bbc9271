"""A plain convolutional network that learns what to take away from an image."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, of_images
from unrolled.networks.initial_weights import of_one_size
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.sizes import check_sizes


class ResidualCNN(MapPrior):
    """z + C_d(ReLU(C_{d−1}(… ReLU(C₁ z)))), 3×3 convolutions, and no normalisation.

    DnCNN (Zhang and others, IEEE Trans. Image Processing 26(7), 2017) without its batch normalisation; with a
    depth of 20 it is the DnCNN of deepinv. The last convolution starts at 0.

    Parameters
    ----------
    features : int
        maps between the convolutions.
    depth : int >= 2
        convolutions.
    channels, complex_images, ranges
        see `MapPrior`; the condition scales what is added to z.
    bias : bool
        whether the convolutions have one.
    """

    def __init__(
        self,
        features: int = 64,
        depth: int = 5,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
        bias: bool = True,
    ):
        check_sizes("ResidualCNN", features=features, depth=depth)
        if depth < 2:
            raise ValueError(f"ResidualCNN: depth must be >= 2, got {depth}")
        super().__init__(channels, complex_images, ranges)
        sizes = [self.parts, *[features] * (depth - 1), self.parts]
        layers = [nn.Conv2d(before, after, 3, padding=1, bias=bias) for before, after in pairwise(sizes)]
        self.layers = nn.ModuleList([*map(of_one_size, layers[:-1]), layers[-1]])
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)
        self.reach = depth

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        z = maps
        for layer in self.layers[:-1]:
            z = F.relu(layer(z), inplace=True)
        change = self.layers[-1](z).to(maps.dtype)
        return maps + (change if factors is None else of_images(factors[:, 0]) * change)
