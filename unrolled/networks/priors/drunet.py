"""The U-Net of residual blocks that is told the level of the noise."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, check_told
from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.priors.pyramid import continued, farthest, next_multiple, widths
from unrolled.networks.sizes import check_sizes


class DRUNet(MapPrior):
    """z + R(z, σ), R a U-Net of residual blocks without any bias, σ a map of its own beside those of z.

    Zhang and others, IEEE Trans. Pattern Analysis and Machine Intelligence 44(10), 2022 ("Plug-and-play image
    restoration with deep denoiser prior"). 3×3 convolutions; blocks x + C₂ReLU(C₁x); maps are halved by 2×2
    convolutions and doubled by transposed ones, and what entered at a size is added on the way out. The public network
    is R alone, `residual=False`; the convolution that ends it starts at 0 where z is added. R(cz, cσ) = cR(z, σ) for
    c > 0, as there is no bias.

    Images whose sides are no multiples of 2^scales are continued by their last pixels, and cropped.

    Parameters
    ----------
    features : int or sequence of int
        maps at the size of the image, twice as many at half of it, and so on; or those of all scales + 1 sizes.
    scales : int
        how many times the image is halved.
    blocks : int
        residual blocks at every size, on the way in and on the way out.
    sigma : float > 0
        where the learned noise level σ starts, in the units of z, if no condition tells it.
    residual : bool
        whether z is added; else untrained it is no identity.
    channels, complex_images, ranges
        see `MapPrior`. The first number of the condition is σ itself, in the units of z, and scales nothing; every
        further number is one more map.

    Examples
    --------
    >>> import torch
    >>> with torch.device("meta"):
    ...     prior = DRUNet(channels=3, residual=False)
    >>> sum(parameter.numel() for name, parameter in prior.named_parameters() if name != "raw_sigma")
    32640960
    """

    def __init__(
        self,
        features: int | Sequence[int] = 64,
        scales: int = 3,
        blocks: int = 4,
        sigma: float = 0.05,
        residual: bool = True,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        sizes = widths("DRUNet", features, scales)
        check_sizes("DRUNet", blocks=blocks)
        check_positive("DRUNet", sigma=sigma)
        super().__init__(channels, complex_images)
        self.scales, self.residual, self.numbers = scales, residual, len(ranges)
        self.raw_sigma = None if ranges else positive(sigma)

        def several(size: int) -> list[nn.Module]:
            return [BiasFreeBlock(size) for _ in range(blocks)]

        self.head = nn.Conv2d(self.parts + max(1, len(ranges)), sizes[0], 3, padding=1, bias=False)
        self.inward = nn.ModuleList(
            nn.Sequential(*several(size), nn.Conv2d(size, smaller, 2, stride=2, bias=False))
            for size, smaller in pairwise(sizes)
        )
        self.body = nn.Sequential(*several(sizes[-1]))
        self.outward = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(smaller, size, 2, stride=2, bias=False), *several(size))
            for size, smaller in pairwise(sizes)
        )
        self.tail = nn.Conv2d(sizes[0], self.parts, 3, padding=1, bias=False)
        if residual:
            nn.init.zeros_(self.tail.weight)
        look = 2 * blocks
        self.reach = farthest([look + 1, *[look] * scales], [look + 1, *[look] * (scales - 1)])
        self.alignment = 2**scales

    def told(self, condition: Tensor | None, batch: int) -> Tensor:
        """The numbers of the condition, (batch, numbers), as they are, or the noise level that was learned."""
        if self.raw_sigma is not None:
            return F.softplus(self.raw_sigma).expand(batch, 1)
        check_told("DRUNet", condition, self.numbers, batch)
        assert condition is not None
        return condition

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        """What the layers make of images as maps, with the numbers of `told` for factors."""
        assert factors is not None
        height, width = maps.shape[-2:]
        levels = factors.to(maps.dtype)[..., None, None].expand(-1, -1, height, width)
        whole = (next_multiple(side, self.alignment) for side in (height, width))
        z = self.head(continued(torch.cat([maps, levels], 1), *whole))
        entered = [z]
        for part in self.inward:
            z = part(z)
            entered.append(z)
        z = self.body(z)
        for part in reversed(self.outward):
            z = part(z + entered.pop())
        found = self.tail(z + entered.pop())[..., :height, :width].to(maps.dtype)
        return maps + found if self.residual else found


class BiasFreeBlock(nn.Module):
    """x + C₂ReLU(C₁x), 3×3 convolutions without a bias."""

    def __init__(self, features: int):
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.second = nn.Conv2d(features, features, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))
