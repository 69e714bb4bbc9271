"""Images as users hand them over - tensors, arrays, pictures of Pillow - as tensors of one layout and one scale."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unrolled.data.file_numbers import kind_of
from unrolled.data.images import picture_to_image, read_with_range
from unrolled.system.arraylike import as_tensor, is_floating
from unrolled.system.scales import Range, Scale, brightness, range_of, refuse_dark


def as_image(what: str, value: Any) -> Tensor:
    """An image as a tensor of its own type, (channel, height, width).

    Parameters
    ----------
    what : str
        the name of the argument, for messages.
    value : Tensor or array, (channel, height, width) or (height, width)

    Raises
    ------
    ValueError
        for what is no array of numbers, other axes, empty ones, or channels that seem to be last.
    """
    image = as_tensor(what, value)
    image = image.unsqueeze(0) if image.ndim == 2 else image
    if image.ndim != 3 or not image.numel():
        raise ValueError(
            f"{what}: must be (channel, height, width) or (height, width), none of them 0, got {tuple(image.shape)}"
        )
    if image.shape[2] in (3, 4) and image.shape[0] > 4 and image.shape[1] > 4:
        raise ValueError(
            f"{what}: must be (channel, height, width), but {tuple(image.shape)} seems to have its channels last; move "
            "them to the front"
        )
    return image


def to_unit(what: str, value: Any, scale: Scale | None = None, **limits: Any) -> tuple[Tensor, Range]:
    """An image with black at 0 and white at 1, and its own range.

    Parameters
    ----------
    what : str
    value : Tensor or array, (channel, height, width) or (height, width), or a picture of Pillow
        uint8 or uint16, whose white is that of the type; floating point in [0, 1]; or of other types or values, with
        a scale.
    scale : Scale, optional
    **limits
        of `range_of`.

    Returns
    -------
    image, range : Tensor (channel, height, width), float32, complex64 or double, and Range

    Raises
    ------
    ValueError
        as `as_image` and `range_of`.
    """
    if isinstance(value, Image.Image):
        return picture_to_image(value, scale)
    image = as_image(what, value)
    span = range_of(what, image, scale, **limits)
    return span.to_unit(image), span


def single_to_unit(what: str, value: Any, scale: Scale | None = None, color: bool = False) -> tuple[Tensor, Range]:
    """As `to_unit`, for an image that stands for itself, which may be a file.

    Without a scale, an image that is too dark for [0, 1] is refused; of many images some may be dark, see
    `unrolled.data.stores.check_bright`.

    Parameters
    ----------
    color : bool
        of a file, as in `read_image`.
    """
    if isinstance(value, (str, Path)):
        image, span, kind = read_with_range(value, color, scale)
    else:
        image, span = to_unit(what, value, scale)
        kind = kind_of(value) if isinstance(value, Image.Image) else as_tensor(what, value).dtype
    if not span.given:
        refuse_dark(what, [(brightness(image), kind)])
    return image, span


def batch_to_unit(what: str, batch: Any, scale: Scale | None = None) -> list[tuple[Tensor, Range]]:
    """As `to_unit`, of each image of a batch (batch, channel, height, width); not all of them may be too dark."""
    images = as_tensor(what, batch)
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"{what}: must be (batch, channel, height, width), none of them 0, got {tuple(images.shape)}")
    pairs = [to_unit(what, image, scale) for image in images]
    refuse_dark(what, ((brightness(image), None if span.given else images.dtype) for image, span in pairs))
    return pairs


def as_single(image: Tensor) -> Tensor:
    """In single precision, real or complex; whole numbers too."""
    if not is_floating(image):
        return image.float()
    return image.to(torch.complex64 if image.is_complex() else torch.float32)
