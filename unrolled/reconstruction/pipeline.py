"""From an image, or from its measurements, to the reconstruction."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.data.images import read_image
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.reconstruction.tiles import TILE, in_tiles, why_no_tiles
from unrolled.weights.networks import load

SMALLEST = 7
"""Sides of images must be at least this many pixels: below, quality has no meaning (SSIM looks at windows of 7)."""

ROUNDING = 1e-5
"""Values may lie so far outside of [0, 1]: the magnitudes of complex images are rounded."""

WHOLE = 2**20
"""Images of more pixels are reconstructed in tiles: as one they would need about 600 bytes a pixel."""


def reconstruct(
    image: Tensor | str | Path,
    network: UnrolledNetwork | str | Path = "epgn-cs25",
    operator: LinearOperator | None = None,
    *,
    color: bool = False,
    tile: int | None = None,
    bfloat16: bool = False,
    progress: bool = False,
) -> Tensor:
    """Measure an image of any size and reconstruct it from the measurements.

    Large images are reconstructed tile by tile, with the same result: 100 megapixels take less than 2 GiB.

    Parameters
    ----------
    image : Tensor, (channel, height, width) in [0, 1], or an image file
    network : UnrolledNetwork, or the name or file of weights
    operator : LinearOperator
        needed with a network; weights bring their own.
    color : bool
        of a file: reconstruct red, green and blue, each for itself, instead of the luma.
    tile : int, optional
        side of the tiles in pixels, see `unrolled.reconstruction.tiles`; by default tiles are used where they save
        memory and operator and network allow them.
    bfloat16 : bool
        run the learned part in bfloat16: faster on processors that have it, and within .02 dB.
    progress : bool
        show a progress bar over the tiles.

    Returns
    -------
    Tensor, (channel, height, width), in [0, 1]

    Raises
    ------
    ValueError
        for a broken or too small image, values outside of [0, 1], weights that cannot be read, sides that the operator
        cannot measure, or a `tile` where the operator or the network allows no tiles.

    Examples
    --------
    >>> from unrolled.data import embedded_images
    >>> camera = embedded_images("test")["camera"]
    >>> reconstruct(camera).shape
    torch.Size([1, 512, 512])
    """
    network, operator = resolve(network, operator)
    x = image if isinstance(image, Tensor) else read_image(image, color)
    y = measure(x, network, operator)
    found = from_measurements(
        y, network, operator, (x.shape[-2], x.shape[-1]), tile=tile, bfloat16=bfloat16, progress=progress
    )
    return found.to(x.device)


def iterates(image: Tensor, network: UnrolledNetwork, operator: LinearOperator) -> list[Tensor]:
    """The start and the image after every phase, clipped to [0, 1], each (channel, height, width).

    Parameters
    ----------
    image : Tensor, (channel, height, width) in [0, 1], any size
    network, operator
    """
    height, width = image.shape[-2:]
    with torch.no_grad():
        found = network.iterates(measure(image, network, operator), operator)
    return [picture(x, (height, width)) for x in found]


def linear_start(y: Tensor, network: UnrolledNetwork, operator: LinearOperator, size: tuple[int, int]) -> Tensor:
    """The image that the network starts from, (channel, height, width), clipped to [0, 1]."""
    with torch.no_grad():
        x = network.start(y, operator)
    return picture(x, size)


def measure(image: Tensor, network: UnrolledNetwork, operator: LinearOperator) -> Tensor:
    """y = A x of an image (channel, height, width) of any size, padded with zeros, on the network's device."""
    check_image(image)
    with torch.no_grad():
        return operator(pad(image.unsqueeze(0).to(device_of(network)), operator.multiple))


def from_measurements(
    y: Tensor,
    network: UnrolledNetwork,
    operator: LinearOperator,
    size: tuple[int, int] | None = None,
    *,
    tile: int | None = None,
    bfloat16: bool = False,
    progress: bool = False,
) -> Tensor:
    """Reconstruct from measurements that were taken elsewhere.

    Parameters
    ----------
    y : Tensor, in the operator's shape, a batch of one
        for block compressive sensing (1, channel, m, rows, columns).
    network, operator
    size : (height, width), optional
        of the image, if it was padded to be measured.
    tile, bfloat16, progress
        as in `reconstruct`.

    Returns
    -------
    Tensor, (channel, height, width), in [0, 1]

    Raises
    ------
    ValueError
        if the measurements are not finite or do not have the operator's shape.
    """
    if y.ndim == 0 or not (y.is_floating_point() or y.is_complex()):
        raise ValueError(f"measurements: must be real or complex numbers of floating point, got {y.dtype}")
    if not bool(torch.isfinite(y).all()):
        raise ValueError(f"measurements: must be finite, but {int((~torch.isfinite(y)).sum())} are NaN or inf")
    if len(y) != 1:
        raise ValueError(f"measurements: must be of one image, got a batch of {len(y)}")
    y = y.to(device_of(network), torch.complex64 if y.is_complex() else torch.float32)
    large = math.prod(operator.image_size(y)) > WHOLE if operator.local else False
    tiled = tile is not None or (large and why_no_tiles(network, operator) is None)
    with torch.no_grad(), torch.autocast(y.device.type, torch.bfloat16, enabled=bfloat16):
        x = in_tiles(y, network, operator, TILE if tile is None else tile, progress) if tiled else network(y, operator)
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"measurements: are too large to be of an image in [0, 1], up to {float(y.abs().max()):.3g}")
    height, width = x.shape[-2:] if size is None else size
    if not (1 <= height <= x.shape[-2] and 1 <= width <= x.shape[-1]):
        raise ValueError(f"size: must be within the reconstruction of {tuple(x.shape[-2:])}, got {size}")
    return picture(x, (height, width))


def resolve(
    network: UnrolledNetwork | str | Path, operator: LinearOperator | None
) -> tuple[UnrolledNetwork, LinearOperator]:
    """A network with its operator: as given, or loaded from weights."""
    if not isinstance(network, UnrolledNetwork):
        return load(network)
    if operator is None:
        raise ValueError("operator: is needed with a network; only weights bring their own")
    return network, operator


def picture(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The first image of a batch, cut to its size and clipped to [0, 1]; of complex images the magnitude."""
    x = x[0, :, : size[0], : size[1]]
    return (x.abs() if x.is_complex() else x).clamp(0, 1)


def pad(x: Tensor, multiple: int) -> Tensor:
    """Zeros at the bottom and at the right until the sides are multiples of a number, as the protocol has it."""
    return F.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple))


def check_image(image: Tensor) -> None:
    """Raise ValueError unless this is an image (channel, height, width) in [0, 1] that is not too small."""
    if image.ndim != 3 or min(image.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"image: must be (channel, height, width), sides at least {SMALLEST} pixels, got {tuple(image.shape)}"
        )
    if not bool(torch.isfinite(image).all()):
        raise ValueError("image: must be finite, but holds NaN or inf")
    size = image.abs() if image.is_complex() else image
    low, high = float(size.min()), float(size.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(f"image: values must be in [0, 1], got {low:.6g} to {high:.6g}; bring the image to that scale")


def device_of(network: UnrolledNetwork) -> torch.device:
    """The device that a network is on."""
    return next(network.parameters()).device
