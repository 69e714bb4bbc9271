"""Convolutions from or to a single channel, by taps: one matrix product and one sum of shifted images.

Vendor libraries are made for many channels on both sides. On a CPU a 5×5 convolution from or to one channel takes them
longer than a 3×3 convolution among 32, for a tenth of the arithmetic. Written as

    unfold: an image → its k² shifted copies, one a tap         fold: k² images → their shifted sum

with a matrix product between taps and channels, the same numbers come out several times faster, most of all backward.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """`conv2d(x, kernel, padding=k // 2)`, by whichever way is the fastest.

    Parameters
    ----------
    x : Tensor, (batch, inputs, height, width)
    kernel : Tensor, (outputs, inputs, k, k), k odd
    """
    if x.device.type == "cpu":
        if kernel.shape[0] == 1:
            return conv_to_one(x, kernel)
        if kernel.shape[1] == 1 and torch.is_grad_enabled():  # without a gradient the library is faster
            return conv_from_one(x, kernel)
    return F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)


def conv_from_one(image: Tensor, kernel: Tensor) -> Tensor:
    """The same as `conv2d(image, kernel, padding=k // 2)` for one input channel.

    Parameters
    ----------
    image : Tensor, (batch, 1, height, width)
    kernel : Tensor, (channels, 1, k, k), k odd

    Returns
    -------
    Tensor, (batch, channels, height, width), channels last
    """
    batch, _, height, width = image.shape
    taps = _Unfold.apply(image[:, 0].to(_working_type(image)), kernel.shape[-1])
    maps = taps.flatten(1).T @ kernel.flatten(1).T
    return maps.view(batch, height, width, -1).permute(0, 3, 1, 2)


def conv_to_one(maps: Tensor, kernel: Tensor) -> Tensor:
    """The same as `conv2d(maps, kernel, padding=k // 2)` for one output channel.

    Parameters
    ----------
    maps : Tensor, (batch, channels, height, width), best channels last
    kernel : Tensor, (1, channels, k, k), k odd

    Returns
    -------
    Tensor, (batch, 1, height, width), at least float32
    """
    batch, channels, height, width = maps.shape
    pixels = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    taps = kernel[0].flatten(1).flip(1).T @ pixels.T
    return _Fold.apply(taps.view(-1, batch, height, width), kernel.shape[-1]).unsqueeze(1)


def _working_type(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _unfold(image: Tensor, k: int) -> Tensor:
    batch, height, width = image.shape
    padded = F.pad(image, (k // 2,) * 4)
    taps = image.new_empty(k * k, batch, height, width)
    for tap in range(k * k):
        top, left = divmod(tap, k)
        taps[tap].copy_(padded[:, top : top + height, left : left + width])
    return taps


def _fold(taps: Tensor, k: int) -> Tensor:
    _, batch, height, width = taps.shape
    # The sum is taken in at least float32, as convolutions do inside.
    kind = torch.promote_types(taps.dtype, torch.float32)
    total = torch.zeros(batch, height + k - 1, width + k - 1, dtype=kind, device=taps.device)
    for tap in range(k * k):
        top, left = divmod(tap, k)
        total[:, top : top + height, left : left + width] += taps[tap]
    return total[:, k // 2 : k // 2 + height, k // 2 : k // 2 + width]


class _Unfold(torch.autograd.Function):
    """The shifted copies; its adjoint is `_Fold`."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, k: int) -> Tensor:
        ctx.k, ctx.kind = k, image.dtype
        return _unfold(image, k)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Fold.apply(gradient, ctx.k).to(ctx.kind), None


class _Fold(torch.autograd.Function):
    """The shifted sum; its adjoint is `_Unfold`."""

    @staticmethod
    def forward(ctx: Any, taps: Tensor, k: int) -> Tensor:
        ctx.k, ctx.kind = k, taps.dtype
        return _fold(taps, k)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Unfold.apply(gradient.to(ctx.kind), ctx.k), None
