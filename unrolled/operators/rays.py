"""Line integrals of images along rays, and their exact adjoint.

A ray is given as a line of the parallel beam: its angle θ and its offset s from the axis. With x to the right and y
upwards from the axis it is the points s·(cos θ, sin θ) + t·(sin θ, −cos θ). Images are interpolated bilinearly (0
outside) at equal distances and summed: at whole t, or where rays cross the rows or columns of pixels, whichever they
cross more of (P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Transactions on
Medical Imaging 1, 1982). Lengths are in pixels.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

AT_ONCE = 2**22
"""Samples on rays that are held at once, over all images: rays are taken angle by angle if there are more."""

BILINEAR = ZEROS = 0
"""How PyTorch counts its kinds of interpolation and of padding."""


class Plane(NamedTuple):
    """The pixels of an image, and how rays are summed over them.

    Parameters
    ----------
    height, width : int
    row, column : float
        of the pixel, or of the place between pixels, through which the axis goes.
    reach : float
        how far pixels that are measured lie from the axis, at most, in pixels.
    joseph : bool
        sums are over crossings with rows or columns, and not at whole t.
    """

    height: int
    width: int
    row: float
    column: float
    reach: float
    joseph: bool = False

    def places(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Where pixels lie from the axis: to the right, (width,), and upwards, (height, 1)."""
        right = torch.arange(self.width, dtype=like.dtype, device=like.device) - self.column
        up = self.row - torch.arange(self.height, dtype=like.dtype, device=like.device)
        return right, up.unsqueeze(1)


def integrate(x: Tensor, angle: Tensor, offset: Tensor, plane: Plane) -> Tensor:
    """The integrals of images along rays.

    Parameters
    ----------
    x : Tensor, (batch, channel, height, width)
    angle : Tensor, (angle, detector) or (angle, 1), in radians
    offset : Tensor, (detector,), in pixels
    plane : Plane

    Returns
    -------
    Tensor, (batch, channel, angle, detector)
    """
    return _differentiable(_Integrate).apply(x, angle, offset, plane)


def spread(y: Tensor, angle: Tensor, offset: Tensor, plane: Plane) -> Tensor:
    """The adjoint of `integrate`: every number spread along its ray over an image."""
    return _differentiable(_Spread).apply(y, angle, offset, plane)


def _differentiable(kind: type[torch.autograd.Function]) -> Any:
    # Compilers take no function with a rule of forward mode, which they would not use.
    return kind if torch.compiler.is_compiling() else FORWARD_MODE[kind]


class _Integrate(torch.autograd.Function):
    """Saves the angles and offsets alone, and none of the samples."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, angle: Tensor, offset: Tensor, plane: Plane) -> Tensor:
        images = x.flatten(0, 1)
        parts = []
        for some in angle.split(angles_at_once(len(images) * offset.numel() * _samples(plane))):
            # Each angle has the images as its own batch, so that CPUs share the angles among their cores.
            grid, step = _grid(some, offset, plane)
            found = F.grid_sample(images.expand(len(some), -1, -1, -1), grid, align_corners=False).sum(-1)
            parts.append(found if step is None else step.unsqueeze(1) * found)
        return rearrange(
            torch.cat(parts), "angle (batch channel) detector -> batch channel angle detector", batch=len(x)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, angle, offset, ctx.plane = inputs
        ctx.save_for_backward(angle, offset)
        ctx.save_for_forward(angle, offset)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        angle, offset = ctx.saved_tensors
        return spread(gradient, angle, offset, ctx.plane), None, None, None


class _Spread(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, angle: Tensor, offset: Tensor, plane: Plane) -> Tensor:
        batch, channel = y.shape[:2]
        rows = rearrange(y, "batch channel angle detector -> angle (batch channel) detector 1")
        images = y.new_zeros(batch * channel, plane.height, plane.width)
        size = angles_at_once(batch * channel * offset.numel() * _samples(plane))
        for some, values in zip(angle.split(size), rows.split(size), strict=True):
            grid, step = _grid(some, offset, plane)
            values = values if step is None else step[:, None, :, None] * values
            values = values.expand(-1, -1, -1, _samples(plane))
            # Of the images that were interpolated only the shape matters for the gradient.
            like = y.new_zeros(()).expand(len(some), *images.shape)
            each, _ = torch.ops.aten.grid_sampler_2d_backward(values, like, grid, BILINEAR, ZEROS, False, [True, False])
            images = images + each.sum(0)
        return images.unflatten(0, (batch, channel))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, angle, offset, ctx.plane = inputs
        ctx.save_for_backward(angle, offset)
        ctx.save_for_forward(angle, offset)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        angle, offset = ctx.saved_tensors
        return integrate(gradient, angle, offset, ctx.plane), None, None, None


class _IntegrateInForwardMode(_Integrate):
    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: None) -> Tensor:
        angle, offset = ctx.saved_tensors
        return integrate(x, angle, offset, ctx.plane)


class _SpreadInForwardMode(_Spread):
    @staticmethod
    def jvp(ctx: Any, y: Tensor, *_: None) -> Tensor:
        angle, offset = ctx.saved_tensors
        return spread(y, angle, offset, ctx.plane)


FORWARD_MODE: dict[type[torch.autograd.Function], type[torch.autograd.Function]] = {
    _Integrate: _IntegrateInForwardMode,
    _Spread: _SpreadInForwardMode,
}


def angles_at_once(samples: int) -> int:
    """How many angles are computed at once, if each takes so many samples."""
    return max(1, AT_ONCE // samples)


def _samples(plane: Plane) -> int:
    return 2 * _half(plane) + 1


def _half(plane: Plane) -> int:
    return math.floor(plane.reach + math.sqrt(2))  # interpolation sees a pixel from so far


def _grid(angle: Tensor, offset: Tensor, plane: Plane) -> tuple[Tensor, Tensor | None]:
    """Samples as `grid_sample` wants them, (angle, detector, sample, 2): −1 and 1 are the image's outer edges.

    And the distance between those of each ray, (angle, detector) or (angle, 1); None if it is 1.
    """
    cos, sin = angle.cos(), angle.sin()
    column, row = offset * cos + plane.column, plane.row - offset * sin
    across, down, distance = sin, cos, None
    if plane.joseph:
        rows = cos.abs() >= sin.abs()  # of these a ray crosses more than of columns
        first = torch.where(rows, (row.round() - row) / cos, (column.round() - column) / sin)
        distance = 1 / torch.maximum(cos.abs(), sin.abs())
        column, row = column + first * sin, row + first * cos
        across, down = distance * sin, distance * cos
    height, width = plane.height, plane.width
    start = torch.stack(((2 * column + 1) / width - 1, (2 * row + 1) / height - 1), 1).unsqueeze(3)
    step = torch.stack((2 / width * across, 2 / height * down), 1).unsqueeze(3)
    along = torch.arange(-_half(plane), _half(plane) + 1, dtype=angle.dtype, device=angle.device)
    # Coordinates apart, each in one piece: several times as fast as pairs.
    return torch.addcmul(start, step, along).permute(0, 2, 3, 1), distance
