"""The U-Net, in the form that is usual in magnetic resonance, and in others."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, of_images
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.priors.pyramid import continued, farthest, next_multiple, widths

Norm = Literal["instance", "batch"]
Bias = Literal["last", "all", "none"]
Pooling = Literal["average", "max"]
Upsampling = Literal["transposed", "nearest", "bilinear"]
Boundary = Literal["zero", "circular"]
OddSides = Literal["reflect", "replicate"]

FRAME = 16
"""Of a normalised image sides are brought to multiples of this."""

LEAST_DEVIATION = 1e-12
"""By less than this a normalised image is not divided: a constant one stays constant."""


class UNet(MapPrior):
    """z + U(z): maps are halved and doubled again, and on their way out join those of their size on the way in.

    At every size stand two 3×3 convolutions, each with a norm and a leaky ReLU after it; a 1×1 convolution ends it, and
    starts at 0 where its outcome is added to z (Ronneberger, Fischer, Brox, MICCAI 2015). By default it is the form of
    fastMRI (Zbontar and others, arXiv 1811.08839), but for the residual, which that one lacks: `residual=False`. With
    `normalized` it is the network in the end-to-end variational network (Sriram and others, MICCAI 2020). With

    norm="batch" (or None), bias="all", slope=0, pooling="max", upsampling="nearest", odd="replicate"

    it is that of deepinv, after Jin and others, IEEE Trans. Image Processing 26(9), 2017; its `scales` count the whole
    image too.

    Parameters
    ----------
    features : int or sequence of int
        maps at the size of the image, twice as many at half of it, and so on; or those of all scales + 1 sizes.
    scales : int
        how many times the image is halved.
    normalized : bool
        whether U is given (z − m)/s, framed by zeros up to multiples of 16 pixels, and its outcome is multiplied by s;
        m and s are mean and standard deviation of each image, of its real and its imaginary part each for itself. The
        prior then scales with the image, and a constant changes nothing but itself.
    residual : bool
        whether z is added; else the outcome is U(z), normalised m + s·U((z − m)/s), and untrained no identity.
    norm : "instance", "batch" or None
        after every convolution but the last. "instance": every map has the mean 0 and the deviation 1, in use as in
        training, so the prior looks at the image as a whole. "batch": by statistics which weights of others bring. They
        stay as they are in training too, where those of a batch would mix its images; made anew they are 0 and 1.
        With "batch" or None it has a finite reach.
    dropout : float in [0, 1)
        the probability with which a map is 0 in training.
    bias : "last", "all" or "none"
        which convolutions have one.
    slope : float
        of the leaky ReLU at negative numbers; 0: a ReLU.
    pooling : "average" or "max"
        of 2×2 pixels.
    upsampling : "transposed", "nearest" or "bilinear"
        a transposed 2×2 convolution, or interpolation and a 3×3 convolution; norm and ReLU follow.
    boundary : "zero" or "circular"
        how maps go on beyond the image. Circular, it looks everywhere.
    odd : "reflect" or "replicate"
        where sides are no multiples of 2^scales: maps that lack a row or column on the way out get it by reflection, or
        the image is continued by its last pixels. Images that are too small for all scales are continued in any case.
    channels, complex_images, ranges
        see `MapPrior`; the condition scales the maps that are joined, and the outcome of the last convolution.
    """

    def __init__(
        self,
        features: int | Sequence[int] = 32,
        scales: int = 4,
        normalized: bool = False,
        residual: bool = True,
        norm: Norm | None = "instance",
        dropout: float = 0.0,
        bias: Bias = "last",
        slope: float = 0.2,
        pooling: Pooling = "average",
        upsampling: Upsampling = "transposed",
        boundary: Boundary = "zero",
        odd: OddSides = "reflect",
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        sizes = widths("UNet", features, scales)
        for name, value, kind in (
            ("norm", norm, Norm),
            ("bias", bias, Bias),
            ("pooling", pooling, Pooling),
            ("upsampling", upsampling, Upsampling),
            ("boundary", boundary, Boundary),
            ("odd", odd, OddSides),
        ):
            allowed = get_args(kind)
            if value not in allowed and not (name == "norm" and value is None):
                none = " or None" if name == "norm" else ""
                raise ValueError(f"UNet: {name} must be one of {', '.join(allowed)}{none}, got {value!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"UNet: dropout must be in [0, 1), got {dropout!r}")
        if not 0 <= slope <= 1:
            raise ValueError(f"UNet: slope must be in [0, 1], got {slope!r}")
        super().__init__(channels, complex_images, ranges, blocks=scales + 1)
        self.scales, self.normalized, self.residual = scales, normalized, residual
        self.norm, self.pooling, self.odd = norm, pooling, odd

        def convolution(before: int, after: int) -> nn.Module:
            mode = "zeros" if boundary == "zero" else "circular"
            return nn.Conv2d(before, after, 3, padding=1, bias=bias == "all", padding_mode=mode)

        def block(before: int, after: int) -> nn.Module:
            return nn.Sequential(
                UNetLayer(convolution(before, after), after, norm, slope, dropout),
                UNetLayer(convolution(after, after), after, norm, slope, dropout),
            )

        def doubling(before: int, after: int) -> nn.Module:
            if upsampling == "transposed":
                return UNetLayer(nn.ConvTranspose2d(before, after, 2, stride=2, bias=bias == "all"), after, norm, slope)
            larger = nn.Upsample(scale_factor=2, mode=upsampling)
            return nn.Sequential(larger, UNetLayer(convolution(before, after), after, norm, slope))

        self.inward = nn.ModuleList(
            block(before, after) for before, after in zip([self.parts, *sizes], sizes, strict=False)
        )
        self.doubling = nn.ModuleList(doubling(sizes[k + 1], sizes[k]) for k in range(scales))
        self.outward = nn.ModuleList(block(2 * size, size) for size in sizes[:-1])
        self.last = nn.Conv2d(sizes[0], self.parts, 1, bias=bias != "none")
        if residual:
            for parameter in self.last.parameters():
                nn.init.zeros_(parameter)
        self.alignment = 2**scales
        if norm != "instance" and not normalized and boundary != "circular":
            # Two convolutions at every size; interpolation adds that after it, and its own between two pixels.
            look = 2 + {"transposed": 0, "nearest": 1, "bilinear": 2}[upsampling]
            self.reach = farthest([2] * (scales + 1), [look] * scales)

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        if not self.normalized:
            change = self.outcome(maps, factors)
            return maps + change if self.residual else change
        mean, deviation = self.statistics(maps)
        height, width = maps.shape[-2:]
        above, beside = (-height % FRAME) // 2, (-width % FRAME) // 2
        frame = (beside, -width % FRAME - beside, above, -height % FRAME - above)
        change = self.outcome(F.pad((maps - mean) / deviation, frame), factors)
        change = deviation * change[..., above : above + height, beside : beside + width]
        return (maps if self.residual else mean) + change

    def statistics(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each image over its channels and pixels, of real and imaginary parts apart.

        Returns
        -------
        mean, deviation : Tensor, (batch, parts, 1, 1)
        """
        each = maps.unflatten(1, (self.channels, self.parts // self.channels))
        numbers = each[0, :, 0].numel()
        mean = each.mean((1, 3, 4), keepdim=True)
        deviation = each.std((1, 3, 4), correction=min(1, numbers - 1), keepdim=True).clamp(min=LEAST_DEVIATION)
        return (
            mean.expand(-1, self.channels, -1, -1, -1).flatten(1, 2),
            deviation.expand(-1, self.channels, -1, -1, -1).flatten(1, 2),
        )

    def outcome(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        """U of maps of any sides."""
        height, width = maps.shape[-2:]
        precision = maps.dtype
        maps = continued(maps, *self.sides(height, width))
        kept = []
        for block in self.inward[:-1]:
            maps = block(maps)
            kept.append(maps)
            maps = F.avg_pool2d(maps, 2) if self.pooling == "average" else F.max_pool2d(maps, 2)
        maps = self.inward[-1](maps)
        for scale in reversed(range(self.scales)):
            joined = kept[scale] if factors is None else of_images(factors[:, scale]) * kept[scale]
            maps = completed(self.doubling[scale](maps), joined)
            maps = self.outward[scale](torch.cat([maps, joined.to(maps.dtype)], 1))
        found = self.last(maps)[..., :height, :width].to(precision)
        return found if factors is None else of_images(factors[:, -1]) * found

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """To which sides images are continued before they are halved: the smallest maps must have pixels.

        A norm of each map needs two of them.
        """
        unit: int = self.alignment
        if self.odd == "replicate":
            height, width = next_multiple(height, unit), next_multiple(width, unit)
        height, width = max(height, unit), max(width, unit)
        if self.norm == "instance" and max(height, width) < 2 * unit:
            width = 2 * unit
        return height, width


class UNetLayer(nn.Module):
    """A convolution, a norm, a leaky ReLU and dropout of whole maps.

    Parameters
    ----------
    convolution : Module
    features : int
        maps that it returns.
    norm, slope, dropout
        see `UNet`.
    """

    def __init__(self, convolution: nn.Module, features: int, norm: Norm | None, slope: float, dropout: float = 0.0):
        super().__init__()
        self.convolution, self.slope, self.dropout = convolution, slope, dropout
        made = {"instance": nn.InstanceNorm2d, "batch": FixedNorm}
        self.norm: nn.Module = nn.Identity() if norm is None else made[norm](features)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.norm(self.convolution(maps))
        maps = F.leaky_relu(maps, self.slope) if self.slope else F.relu(maps)
        return F.dropout2d(maps, self.dropout, self.training) if self.dropout else maps


class FixedNorm(nn.Module):
    """w(z − m)/√(v + ε) + b of every map: a batch norm whose statistics m and v are given, and stay as they are.

    Its state has the names of `torch.nn.BatchNorm2d`.
    """

    def __init__(self, features: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, maps: Tensor) -> Tensor:
        return F.batch_norm(maps, self.running_mean, self.running_var, self.weight, self.bias)


def completed(maps: Tensor, other: Tensor) -> Tensor:
    """Maps of the sides of other ones: where they lack the last row or column, they are reflected."""
    below, beside = other.shape[-2] - maps.shape[-2], other.shape[-1] - maps.shape[-1]
    return F.pad(maps, (0, beside, 0, below), "reflect") if below or beside else maps
