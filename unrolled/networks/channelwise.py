"""Images and the channels that learned maps see: a choice of each network, as some are to see colours together."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor


def per_channel(layer: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Apply a layer of one channel, real or complex (see `apart`), to every channel of an image alike."""
    return together(layer(apart(image)), image)


def apart(image: Tensor) -> Tensor:
    """Every channel as an image of its own, complex ones as two channels, the real and the imaginary part.

    Parameters
    ----------
    image : Tensor, (batch, channel, height, width), real or complex

    Returns
    -------
    Tensor, (batch·channel, 1 or 2, height, width), real
    """
    if image.is_complex():
        return rearrange(torch.view_as_real(image), "b c h w parts -> (b c) parts h w")
    return image.flatten(0, 1).unsqueeze(1)


def together(channels: Tensor, image: Tensor) -> Tensor:
    """The inverse of `apart`: channels as an image of the shape and kind of another one, in its precision."""
    channels = channels.to(image.real.dtype)
    if image.is_complex():
        return torch.view_as_complex(channels.movedim(1, -1).contiguous()).view(image.shape)
    return channels.view(image.shape)


def mean_square(x: Tensor) -> Tensor:
    """The mean of |x|², real or complex."""
    return (x.real.square() + x.imag.square()).mean() if x.is_complex() else x.square().mean()
