"""From an image, or from its measurements, to the reconstruction."""

import math
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unrolled.data.unit_images import single_to_unit
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.operators.units import image_scale
from unrolled.reconstruction.noise_level import StatedNoise, level_of, told, warn_of_others, with_noise
from unrolled.reconstruction.tiles import TILE, in_tiles, why_no_tiles
from unrolled.system.arraylike import as_numbers, as_tensor, is_floating
from unrolled.system.compilation import Compiled
from unrolled.system.scalars import sides_within
from unrolled.system.scales import OUTSIDE, Scale, as_scale, range_of
from unrolled.weights.networks import check_parts, load

SMALLEST = 7
"""Sides of images must be at least this many pixels: below, quality has no meaning (SSIM looks at windows of 7)."""

SEEMS_UNIT = (1 / 16, 4.0)
"""Between these lies the brightest pixel of what measurements of images in [0, 1] give as first estimate."""

WORTH_COMPILING = 150_000_000
"""Pixels to be reconstructed on a CPU in float32 from which on compiled code pays. It is made in a minute, and takes
half to nine tenths of the time for each; in bfloat16 eager code may be faster, on processors with matrix units."""

WHOLE = 2**20
"""Images of more pixels are reconstructed in tiles: as one they would need about 600 bytes a pixel."""


def reconstruct(
    image: Any,
    network: UnrolledNetwork | str | Path = "epgn-cs25",
    operator: LinearOperator | None = None,
    *,
    color: bool = False,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
    progress: bool = False,
    scale: Scale | None = None,
    noise: StatedNoise | None = None,
) -> Tensor:
    """Measure an image of any size and reconstruct it from the measurements.

    Networks work on images with black at 0 and white at 1, so the image is brought to that scale, and the
    reconstruction back to that of the image. Large images are reconstructed tile by tile, with the same result: 100
    megapixels take less than 2 GiB.

    Parameters
    ----------
    image : Tensor or array, (channel, height, width) or (height, width), or an image file, or a picture of Pillow
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
    compile : bool, optional
        let torch.compile make code for the network; by default where it pays, which on a CPU is from 150 megapixels of
        real images in float32 on. What cannot be compiled runs without, with a warning.
    progress : bool
        show a progress bar over the tiles.
    scale : float, (black, white), "max" or a percentile such as "99.5%", optional
        what white is in the image; "max" is its largest magnitude. By default what the type or the file says: 255 of
        bytes, 65535 of unsigned 16-bit numbers, 1 of floating point.
    noise : float >= 0 or Noise, optional
        added to the measurements, the same each time: a law of noise, or the standard deviation of white noise where
        the image's white is 1, of complex measurements √E|noise|². A network that takes the noise level is told it, and
        a warning says so if it lies outside of the levels that the network was trained for.

    Returns
    -------
    Tensor, of the image's shape, floating point, in the units of the image
        of files and pictures without a scale in [0, 1]. Without a scale it is clipped to black and white; of complex
        images it is complex.

    Raises
    ------
    ValueError
        for a broken or too small image; without a scale for types whose white is not known, and values outside of
        [0, 1] or all so small that they are probably in other units; for weights that cannot be read, sides that the
        operator cannot measure, a complex image for an operator on real ones, or a `tile` where the operator or the
        network allows no tiles.

    Examples
    --------
    >>> from unrolled.data import embedded_images
    >>> camera = embedded_images("test")["camera"][:, 100:199, 200:299]
    >>> reconstruct(camera).shape
    torch.Size([1, 99, 99])
    """
    network, operator = resolve(network, operator)
    x, span = single_to_unit("image", image, scale, color)
    y = measure(x, network, operator, noise)
    size = (x.shape[-2], x.shape[-1])
    how: dict[str, Any] = {"tile": tile, "bfloat16": bfloat16, "compile": compile, "progress": progress}
    how["noise"] = told(noise, network)
    found = after_measuring(y, network, operator, size, **how, clip=not span.given, magnitude=not x.is_complex())
    found = span.from_unit(found).to(x.device)
    picture_or_file = isinstance(image, (str, Path, Image.Image))
    return found if picture_or_file or as_tensor("image", image).ndim == 3 else found[0]


def iterates(
    image: Any,
    network: UnrolledNetwork,
    operator: LinearOperator,
    *,
    scale: Scale | None = None,
    noise: StatedNoise | None = None,
) -> list[Tensor]:
    """The start and the image after every phase, clipped to [0, 1], each (channel, height, width).

    Parameters
    ----------
    image, network, operator, scale, noise
        as in `reconstruct`.
    """
    image, _ = single_to_unit("image", image, scale)
    height, width = image.shape[-2:]
    with torch.no_grad():
        y = measure(image, network, operator, noise)
        found = network.iterates(y, operator, noise=told(noise, network))
    return [picture(x, (height, width)) for x in found]


def linear_start(y: Tensor, network: UnrolledNetwork, operator: LinearOperator, size: tuple[int, int]) -> Tensor:
    """The image that the network starts from, (channel, height, width), clipped to [0, 1]."""
    with torch.no_grad():
        x = network.first_image(y, operator)
    return picture(x, size)


def measure(
    image: Tensor, network: UnrolledNetwork, operator: LinearOperator, noise: StatedNoise | None = None, seed: int = 0
) -> Tensor:
    """y = A x of an image (channel, height, width) of any size, padded with zeros, on the network's device.

    Parameters
    ----------
    image : Tensor, with black at 0 and white at 1, see `unrolled.data.unit_images`
    network, operator
    noise : float >= 0 or Noise, optional
        added to the measurements: a law of noise, or the standard deviation of white noise.
    seed : int
        of the noise, which is drawn on the CPU.
    """
    check_image(image, operator)
    kind = torch.complex64 if image.is_complex() else torch.float32
    with torch.no_grad():
        y: Tensor = operator(pad(image.unsqueeze(0).to(device_of(network), kind), operator.multiple))
        return with_noise(y, noise, seed)


def from_measurements(
    y: Any,
    network: UnrolledNetwork,
    operator: LinearOperator,
    size: tuple[int, int] | None = None,
    *,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
    progress: bool = False,
    scale: float | str | None = None,
    noise: float | None = None,
) -> Tensor:
    """Reconstruct from measurements that were taken elsewhere.

    Parameters
    ----------
    y : Tensor or array, in the operator's shape, a batch of one
        for block compressive sensing (1, channel, m, rows, columns).
    network, operator
    size : (height, width), optional
        of the image, if it was padded to be measured.
    tile, bfloat16, compile, progress
        as in `reconstruct`.
    scale : float or "max", optional
        what white is in the image that was measured; "max" is the largest magnitude of the operator's estimate, see
        `image_scale`. By default white is 1, and measurements of another scale are refused.
    noise : float >= 0, optional
        standard deviation of the noise in y, in the units of y, for a network that takes it; others refuse it.

    Returns
    -------
    Tensor, (channel, height, width), of complex images the magnitude
        clipped to [0, 1] without a scale; with one in the units of the image.

    Raises
    ------
    ValueError
        if the measurements are not finite, do not have the operator's shape, or without a scale are of an image that
        is far from [0, 1].
    """
    y = as_tensor("measurements", y)
    if y.ndim == 0 or not is_floating(y):
        raise ValueError(f"measurements: must be real or complex numbers of floating point, got {y.dtype}")
    if not bool(torch.isfinite(y).all()):
        raise ValueError(f"measurements: must be finite, but {int((~torch.isfinite(y)).sum())} are NaN or inf")
    if len(y) != 1:
        raise ValueError(f"measurements: must be of one image, got a batch of {len(y)}")
    if y.is_complex() and not operator.complex_measurements:
        raise ValueError(f"measurements: must be real for {type(operator).__name__}, got {y.dtype}")
    white = _white_of(y.to(device_of(network)), operator, scale)
    y = as_numbers("measurements", y / white, torch.float32).to(device_of(network))
    how: dict[str, Any] = {"tile": tile, "bfloat16": bfloat16, "compile": compile, "progress": progress}
    how["noise"] = None if noise is None else level_of(noise) / white
    found = after_measuring(y, network, operator, size, **how, clip=scale is None)
    return found if scale is None else white * found


def after_measuring(
    y: Tensor,
    network: UnrolledNetwork,
    operator: LinearOperator,
    size: tuple[int, int] | None = None,
    *,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
    progress: bool = False,
    clip: bool = True,
    magnitude: bool = True,
    noise: float | None = None,
) -> Tensor:
    """The reconstruction from measurements of one image of about unit scale, (channel, height, width).

    Parameters
    ----------
    clip : bool
        to [0, 1]; of real images.
    magnitude : bool
        of complex images their magnitude.
    noise : float, optional
        the noise level, at the scale of y, for a network that takes it.

    Others as in `from_measurements`.
    """
    pixels = math.prod(operator.image_size(y)) if operator.local else 0
    tiled = tile is not None or (pixels > WHOLE and why_no_tiles(network, operator) is None)
    level = None if noise is None else torch.tensor(level_of(noise))
    if noise is not None:
        warn_of_others(noise / network.norm_of(operator), network, stacklevel=3)
    if compile is None:
        compile = gains_by_compiling(pixels, network, operator, bfloat16)
    with torch.no_grad(), torch.autocast(y.device.type, torch.bfloat16, enabled=bfloat16):
        if tiled:
            x = in_tiles(y, network, operator, TILE if tile is None else tile, progress, compile, level)
        elif compile:
            network = network if network.fused else network.fuse()
            network.first_image(y, operator)  # what it keeps is made outside of the graph
            x = Compiled(_reconstruct, "The network")(network, y, operator, level)
        else:
            x = network(y, operator, noise=level)
    if not bool(torch.isfinite(x).all()):
        raise ValueError(
            f"measurements: no image could be made of them, they reach {float(y.abs().max()):.3g}; they must be of an "
            "image in [0, 1], by an operator like the one in training"
        )
    if not tiled:
        _check_explained(x, y, network, operator)
    whole = (x.shape[-2], x.shape[-1])
    size = whole if size is None else sides_within("size", size, whole)
    return picture(x, size, clip=clip, magnitude=magnitude)


@torch.no_grad()
def _check_explained(x: Tensor, y: Tensor, network: UnrolledNetwork, operator: LinearOperator) -> None:
    """Warn of a reconstruction that explains the measurements worse than black does: a network that diverged."""
    left = float((operator(x) - y).norm() / y.norm().clamp(min=torch.finfo(y.real.dtype).tiny))
    if not left <= 1 and bool(y.any()):
        warnings.warn(
            f"the reconstruction explains the measurements worse than a black image does, {left:.3g} times: networks "
            f"are made for an operator like the one in training{_advice(network, operator)}",
            stacklevel=4,
        )


def _advice(network: UnrolledNetwork, operator: LinearOperator) -> str:
    """What helps where weights of an earlier version do not bring operators to the norm 1."""
    return "" if network.normalizes else f", or of the norm 1: {type(operator).__name__}(…).normalized()"


def gains_by_compiling(pixels: int, network: UnrolledNetwork, operator: LinearOperator, bfloat16: bool) -> bool:
    """Whether so many pixels of images of one size are reconstructed sooner if the network is compiled first."""
    compilable = device_of(network).type == "cpu" and not operator.complex_images
    return pixels >= WORTH_COMPILING and compilable and not bfloat16


def _reconstruct(network: UnrolledNetwork, y: Tensor, operator: LinearOperator, noise: Tensor | None) -> Tensor:
    return network(y, operator, noise=noise)


def _white_of(y: Tensor, operator: LinearOperator, scale: float | str | None) -> float:
    """What white is in the image that measurements are of."""
    white = scale if isinstance(scale, str) else as_scale("measurements", scale)
    if white not in (None, "max") and not isinstance(white, float):
        raise ValueError(f"measurements: scale must be a number or 'max', got {scale!r}")
    if isinstance(white, float):
        return white
    brightest = float(image_scale(y, operator))
    if scale == "max":
        return brightest
    if bool(y.any()) and not SEEMS_UNIT[0] <= brightest <= SEEMS_UNIT[1]:
        raise ValueError(
            f"measurements: seem to be of an image whose brightest pixel is about {brightest:.3g}, where white is 1; "
            "give scale: the number that is white, or 'max'"
        )
    return 1.0


def resolve(
    network: UnrolledNetwork | str | Path, operator: LinearOperator | None
) -> tuple[UnrolledNetwork, LinearOperator]:
    """A network with its operator: as given, or loaded from weights."""
    by_name = isinstance(network, (str, Path))
    check_parts(None if by_name else network, operator)
    if not isinstance(network, UnrolledNetwork):
        if operator is not None:
            raise ValueError(
                "operator: weights bring their own; to use another one, load them first: "
                "network, _ = unrolled.load(…), or unrolled.load(…, operator=…)"
            )
        return load(network)
    if operator is None:
        raise ValueError("operator: is needed with a network; only weights bring their own")
    return network, operator


def picture(x: Tensor, size: tuple[int, int], *, clip: bool = True, magnitude: bool = True) -> Tensor:
    """The first image of a batch, cut to its size and clipped to [0, 1]; of complex images the magnitude.

    Without `magnitude` complex images are returned as they are, never clipped.
    """
    x = x[0, :, : size[0], : size[1]]
    if x.is_complex():
        if not magnitude:
            return x
        x = x.abs()
    return x.clamp(0, 1) if clip else x


def pad(x: Tensor, multiple: int) -> Tensor:
    """Zeros at the bottom and at the right until the sides are multiples of a number, as the protocol has it."""
    return F.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple))


def check_image(image: Tensor, operator: LinearOperator) -> None:
    """Raise ValueError unless this is an image (channel, height, width) of about unit scale that is not too small, and
    real if the operator measures real images."""
    if image.ndim != 3 or min(image.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"image: must be (channel, height, width), sides at least {SMALLEST} pixels, got {tuple(image.shape)}"
        )
    range_of("image", image, within=OUTSIDE)
    if image.is_complex() and not operator.complex_images:
        raise ValueError(
            f"image: is complex, and {type(operator).__name__} measures real images; make it with complex_images=True, "
            "or give the magnitude"
        )


def device_of(network: UnrolledNetwork) -> torch.device:
    """The device that a network is on."""
    return next(network.parameters()).device
