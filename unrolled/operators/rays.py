"""Line integrals of images along rays, and their exact adjoint.

A ray is given as a line of the parallel beam: its angle θ and its offset s from the axis. With x to the right and y
upwards from the axis it is the points s·(cos θ, sin θ) + t·(sin θ, −cos θ). The axis goes through the pixel
(height // 2, width // 2). Images are interpolated bilinearly (0 outside) at whole t, and summed: lengths are in pixels.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

AT_ONCE = 2**22
"""Samples on rays that are held at once, over all images: rays are taken angle by angle if there are more."""

BILINEAR = ZEROS = 0
"""How PyTorch counts its kinds of interpolation and of padding."""


def integrate(x: Tensor, angle: Tensor, offset: Tensor, reach: float) -> Tensor:
    """The integrals of images along rays.

    Parameters
    ----------
    x : Tensor, (batch, channel, height, width)
    angle : Tensor, (angle, detector) or (angle, 1), in radians
    offset : Tensor, (detector,), in pixels
    reach : float
        pixels further from the axis may be left out.

    Returns
    -------
    Tensor, (batch, channel, angle, detector)
    """
    return _differentiable(_Integrate).apply(x, angle, offset, reach)


def spread(y: Tensor, angle: Tensor, offset: Tensor, reach: float, height: int, width: int) -> Tensor:
    """The adjoint of `integrate`: every number spread along its ray over an image."""
    return _differentiable(_Spread).apply(y, angle, offset, reach, height, width)


def _differentiable(kind: type[torch.autograd.Function]) -> Any:
    # Compilers take no function with a rule of forward mode, which they would not use.
    return kind if torch.compiler.is_compiling() else FORWARD_MODE[kind]


class _Integrate(torch.autograd.Function):
    """Saves the angles and offsets alone, and none of the samples."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, angle: Tensor, offset: Tensor, reach: float) -> Tensor:
        batch, _, height, width = x.shape
        images = x.flatten(0, 1)
        parts = []
        for some in angle.split(angles_at_once(len(images) * offset.numel() * _samples(reach))):
            # Each angle has the images as its own batch, so that CPUs share the angles among their cores.
            grid = _grid(some, offset, reach, height, width)
            found = F.grid_sample(images.expand(len(some), -1, -1, -1), grid, align_corners=False)
            parts.append(found.sum(-1))
        return rearrange(
            torch.cat(parts), "angle (batch channel) detector -> batch channel angle detector", batch=batch
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, angle, offset, reach = inputs
        ctx.options = reach, *x.shape[2:]
        ctx.save_for_backward(angle, offset)
        ctx.save_for_forward(angle, offset)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return spread(gradient, *ctx.saved_tensors, *ctx.options), None, None, None


class _Spread(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, angle: Tensor, offset: Tensor, reach: float, height: int, width: int) -> Tensor:
        batch, channel = y.shape[:2]
        rows = rearrange(y, "batch channel angle detector -> angle (batch channel) detector 1")
        rows = rows.expand(-1, -1, -1, _samples(reach))
        images = y.new_zeros(batch * channel, height, width)
        size = angles_at_once(batch * channel * offset.numel() * _samples(reach))
        for some, values in zip(angle.split(size), rows.split(size), strict=True):
            grid = _grid(some, offset, reach, height, width)
            # Of the images that were interpolated only the shape matters for the gradient.
            like = y.new_zeros(()).expand(len(some), batch * channel, height, width)
            each, _ = torch.ops.aten.grid_sampler_2d_backward(values, like, grid, BILINEAR, ZEROS, False, [True, False])
            images = images + each.sum(0)
        return images.unflatten(0, (batch, channel))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, angle, offset, *ctx.options = inputs
        ctx.save_for_backward(angle, offset)
        ctx.save_for_forward(angle, offset)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        angle, offset = ctx.saved_tensors
        return integrate(gradient, angle, offset, ctx.options[0]), None, None, None, None, None


class _IntegrateInForwardMode(_Integrate):
    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: None) -> Tensor:
        angle, offset = ctx.saved_tensors
        return integrate(x, angle, offset, ctx.options[0])


class _SpreadInForwardMode(_Spread):
    @staticmethod
    def jvp(ctx: Any, y: Tensor, *_: None) -> Tensor:
        angle, offset = ctx.saved_tensors
        return spread(y, angle, offset, *ctx.options)


FORWARD_MODE: dict[type[torch.autograd.Function], type[torch.autograd.Function]] = {
    _Integrate: _IntegrateInForwardMode,
    _Spread: _SpreadInForwardMode,
}


def angles_at_once(samples: int) -> int:
    """How many angles are computed at once, if each takes so many samples."""
    return max(1, AT_ONCE // samples)


def pixels(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Where pixels lie from the axis: to the right, (width,), and upwards, (height, 1)."""
    right = torch.arange(width, dtype=like.dtype, device=like.device) - width // 2
    up = height // 2 - torch.arange(height, dtype=like.dtype, device=like.device)
    return right, up.unsqueeze(1)


def _samples(reach: float) -> int:
    return 2 * _half(reach) + 1


def _half(reach: float) -> int:
    return math.floor(reach + math.sqrt(2))  # interpolation sees a pixel from so far


def _grid(angle: Tensor, offset: Tensor, reach: float, height: int, width: int) -> Tensor:
    """Samples as `grid_sample` wants them, (angle, detector, sample, 2): −1 and 1 are the image's outer edges."""
    cos, sin = angle.cos(), angle.sin()
    column = (2 * (offset * cos + width // 2) + 1) / width - 1
    row = (2 * (height // 2 - offset * sin) + 1) / height - 1
    start = torch.stack((column, row), 1).unsqueeze(3)
    step = torch.stack((2 / width * sin, 2 / height * cos), 1).unsqueeze(3)
    along = torch.arange(-_half(reach), _half(reach) + 1, dtype=angle.dtype, device=angle.device)
    # Coordinates apart, each in one piece: several times as fast as pairs.
    return torch.addcmul(start, step, along).permute(0, 2, 3, 1)
