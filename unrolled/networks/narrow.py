"""Convolutions from or to a single channel, in the forms that are fast on a CPU.

Vendor libraries are made for many channels on both sides: a 5×5 convolution to one channel takes them longer than a 3×3
convolution among 32, for a tenth of the arithmetic. These forms give the same numbers (`benchmarks/convolutions.py`
measures them):

    to one channel       a depthwise convolution, then the sum over channels
    gradient of maps     the adjoint of that: a convolution from one channel, which libraries do well
    gradient of kernels  one matrix product of the image's shifted copies with the maps

On a GPU only the gradient of an image that maps were made from differs: cuDNN's own is eight times slower than the
convolution to one channel that it is.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight


def convolve(x: Tensor, kernel: Tensor, like: Tensor | None = None) -> Tensor:
    """`conv2d(x, kernel, padding=k // 2)`, by whichever way is the fastest.

    Parameters
    ----------
    x : Tensor, (batch, inputs, height, width)
    kernel : Tensor, (outputs, inputs, k, k), k odd
    like : Tensor, optional
        the kernel of the next convolution: maps made from one channel get its memory format (a tensor with one channel
        has none of its own). Default: channels last, which is the fastest on every machine it was measured on.

    Returns
    -------
    Tensor, (batch, outputs, height, width), to one or two channels on a CPU at least float32
    """
    if kernel.shape[0] == 1 and x.device.type == "cpu":
        return conv_to_one(x, kernel)
    if kernel.shape[0] == 2 < kernel.shape[1] and x.device.type == "cpu":  # to a complex image: in half the time
        return torch.cat([conv_to_one(x, each) for each in kernel.split(1)], dim=1)
    if kernel.shape[1] == 1:
        return conv_from_one(x, kernel, like is None or is_channels_last(like))
    return F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)


def is_channels_last(x: Tensor) -> bool:
    """Whether the numbers of a pixel lie side by side in memory."""
    return x.is_contiguous(memory_format=torch.channels_last)


def conv_from_one(image: Tensor, kernel: Tensor, channels_last: bool = True) -> Tensor:
    """The same as `conv2d(image, kernel, padding=k // 2)` for one input channel.

    Parameters
    ----------
    image : Tensor, (batch, 1, height, width)
    kernel : Tensor, (channels, 1, k, k), k odd
    channels_last : bool
        the memory format of the maps.

    Returns
    -------
    Tensor, (batch, channels, height, width)
    """
    kind = working_type(image)
    image, kernel = image.to(kind), kernel.to(kind)
    if torch.is_grad_enabled():
        return _FromOne.apply(image, kernel, channels_last)
    return _from_one(image, kernel, channels_last)


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
    kind = working_type(maps)
    return _ToOne.apply(maps.to(kind), kernel.to(kind))


def working_type(x: Tensor) -> torch.dtype:
    """The type in which autocast wants a convolution of x to run."""
    kind = x.device.type
    autocast = not x.is_meta and torch.is_autocast_enabled(kind)  # there is none on the meta device
    return torch.get_autocast_dtype(kind) if autocast else x.dtype


def _from_one(image: Tensor, kernel: Tensor, channels_last: bool) -> Tensor:
    # With a single channel both formats look alike, and the library picks the wrong one unless the strides say it.
    if channels_last:
        image, kernel = (x.reshape(len(x), *x.shape[2:], 1).movedim(-1, 1) for x in (image, kernel))
    else:
        image, kernel = image.contiguous(), kernel.contiguous()
    return F.conv2d(image, kernel, padding=kernel.shape[-1] // 2)


def _adjoint(kernel: Tensor) -> Tensor:
    return kernel.transpose(0, 1).flip(-2, -1)


def _kernel_gradient(image: Tensor, maps: Tensor, kernel: Tensor) -> Tensor:
    """The gradient of a kernel from one channel, given that of the maps."""
    if image.device.type == "cpu":
        return _correlate(image, maps, kernel.shape[-1])
    return conv2d_weight(image, list(kernel.shape), maps, padding=kernel.shape[-1] // 2)


def _correlate(image: Tensor, maps: Tensor, k: int) -> Tensor:
    """Σ_p maps[c, p]·image[p + tap] as (channels, 1, k, k): the gradient of a kernel from one channel."""
    _, channels, height, width = maps.shape
    padded = F.pad(image[:, 0], (k // 2,) * 4)
    taps = padded.unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)  # (k, k, batch, height, width)
    return (taps.reshape(k * k, -1) @ maps.permute(0, 2, 3, 1).reshape(-1, channels)).T.reshape(channels, 1, k, k)


class _FromOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, kernel: Tensor, channels_last: bool) -> Tensor:
        ctx.save_for_backward(image, kernel)
        return _from_one(image, kernel, channels_last)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        image, kernel = ctx.saved_tensors
        for_image = for_kernel = None
        if ctx.needs_input_grad[0]:
            for_image = convolve(gradient, _adjoint(kernel)).to(image.dtype)
        if ctx.needs_input_grad[1]:
            for_kernel = _kernel_gradient(image, gradient, kernel)
        return for_image, for_kernel, None


class _ToOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(maps, kernel)
        depthwise = F.conv2d(maps, kernel.transpose(0, 1), padding=kernel.shape[-1] // 2, groups=maps.shape[1])
        # The sum is taken in at least float32, as convolutions do inside.
        return depthwise.sum(1, keepdim=True, dtype=torch.promote_types(maps.dtype, torch.float32))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        maps, kernel = ctx.saved_tensors
        gradient = gradient.to(maps.dtype)
        for_maps = for_kernel = None
        if ctx.needs_input_grad[0]:
            for_maps = _FromOne.apply(gradient, _adjoint(kernel), is_channels_last(maps))
        if ctx.needs_input_grad[1]:
            for_kernel = _adjoint(_correlate(gradient, maps, kernel.shape[-1]))
        return for_maps, for_kernel
