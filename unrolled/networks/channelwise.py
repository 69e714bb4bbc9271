"""Images and the channels that learned maps see: a choice of each network, as some are to see colours together."""

from collections.abc import Callable

import torch
from torch import Tensor


def per_channel(layer: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Apply a layer of one channel, real or complex (see `apart`), to every channel of an image alike."""
    return together(layer(apart(image)), image)


def apart(image: Tensor, channels: int = 1) -> Tensor:
    """Groups of channels as real images of their own: every channel alone, or so many that are seen together.

    Parameters
    ----------
    image : Tensor, (batch, groups·channels, height, width), real or complex
    channels : int
        of a group.

    Returns
    -------
    Tensor, (batch·groups, channels, height, width), real; of a complex image twice as many channels, the real and the
    imaginary part of each in turn
    """
    if image.is_complex():
        image = torch.view_as_real(image).movedim(-1, 2).flatten(1, 2)
        channels *= 2
    return image.reshape(-1, channels, *image.shape[2:])


def together(channels: Tensor, image: Tensor) -> Tensor:
    """The inverse of `apart`: channels as an image of the shape and kind of another one, in its precision."""
    channels = channels.to(image.real.dtype)
    if not image.is_complex():
        return channels.reshape(image.shape)
    pairs = channels.reshape(image.shape[0], image.shape[1], 2, *image.shape[2:])
    # No view, for which the memory would have to be in order: in a program it may be another than in its example.
    return torch.complex(*pairs.unbind(2)).contiguous()


def mean_square(x: Tensor) -> Tensor:
    """The mean of |x|², real or complex."""
    return (x.real.square() + x.imag.square()).mean() if x.is_complex() else x.square().mean()
