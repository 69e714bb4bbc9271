"""From an image, or from its measurements, to the reconstruction."""

import math
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unrolled.data.unit_images import batch_to_unit, single_to_unit
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.operators.intake import numbers_of
from unrolled.operators.unit_measurements import measurements_to_unit
from unrolled.operators.units import ones_for_zeros, over
from unrolled.reconstruction.noise_level import StatedNoise, level_in, level_of, told, warn_of_others, with_noise
from unrolled.reconstruction.tiles import TILE, in_tiles, why_no_tiles
from unrolled.solvers.methods import classical
from unrolled.system.arraylike import as_tensor
from unrolled.system.compilation import Compiled
from unrolled.system.scalars import sides_within
from unrolled.system.scales import OUTSIDE, Scale, range_of
from unrolled.weights.chosen import choose

SMALLEST = 7
"""Sides of images must be at least this many pixels: below, quality has no meaning (SSIM looks at windows of 7)."""

WORTH_COMPILING = 150_000_000
"""Pixels to be reconstructed on a CPU in float32 from which on compiled code pays. It is made in a minute, and takes
half to nine tenths of the time for each; in bfloat16 eager code may be faster, on processors with matrix units."""

WHOLE = 2**20
"""Images of more pixels are reconstructed in tiles: as one they would need about 600 bytes a pixel."""


CLASSICAL = "tv"
"""The method of `classical` that reconstructs where an operator is given alone."""


def reconstruct(
    image: Any = None,
    network: UnrolledNetwork | str | Path | None = None,
    operator: LinearOperator | None = None,
    *,
    y: Any = None,
    size: tuple[int, int] | None = None,
    color: bool = False,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
    progress: bool = False,
    scale: Scale | None = None,
    magnitude: bool | None = None,
    noise: StatedNoise | None = None,
) -> Tensor:
    """Reconstruct images from measurements: `y`, taken elsewhere, or those that are taken here of `image`.

    Networks work on images with black at 0 and white at 1, so everything is brought to that scale, and the
    reconstruction back to the units that were given. Large images are reconstructed tile by tile, with the same result:
    100 megapixels take less than 2 GiB.

    Parameters
    ----------
    image : Tensor or array, (channel, height, width), (height, width) or (batch, channel, height, width), or a file
        an image file, or a picture of Pillow; of any size.
    network : UnrolledNetwork, or the name or file of weights, optional
        by default the weights "epgn-cs25"; total variation if an operator is given alone.
    operator : LinearOperator, optional
        needed with a network. Weights bring the one that they were trained for; another one may be given, and a warning
        says so unless they were trained for operators that are drawn.
    y : Tensor or array, measurements of a batch of images in the operator's shape
        instead of an image; for block compressive sensing (batch, channel, m, rows, columns).
    size : (height, width), optional
        of the images that y is of, if they were padded to be measured.
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
        bytes, 65535 of unsigned 16-bit numbers, 1 of floating point. Of the images that y is of: a number, or "max",
        the largest magnitude of the operator's estimate of each (see `image_scale`); by default 1.
    magnitude : bool, optional
        of complex reconstructions their magnitude; by default that, unless the image that was given is complex.
    noise : float >= 0 or Noise, optional
        of an image: added to the measurements, the same each time; a law of noise, or the standard deviation of white
        noise where white is 1, of complex measurements √E|noise|². Of y: the standard deviation of the noise in it, in
        its units; of y it is estimated where it is not given, and a warning says the estimate. A network that takes the
        noise level is told it, and a warning says so if it lies outside of the levels that it was trained for.

    Returns
    -------
    Tensor, of the image's shape, of y (batch, channel, height, width), floating point, in the units of the image
        of files and pictures without a scale in [0, 1]. Without a scale it is clipped to black and white, unless it is
        complex.

    Raises
    ------
    ValueError
        for a broken or too small image; without a scale for types whose white is not known, and values outside of
        [0, 1] or all so small that they are probably in other units; for measurements that are not finite, do not have
        the operator's shape, or without a scale are of an image that is far from [0, 1]; for weights that cannot be
        read, sides that the operator cannot measure, a complex image for an operator on real ones, or a `tile` where
        the operator or the network allows no tiles.

    Examples
    --------
    >>> from unrolled.data import embedded_images
    >>> camera = embedded_images("test")["camera"][:, 100:199, 200:299]
    >>> reconstruct(camera).shape
    torch.Size([1, 99, 99])

    Of measurements, an operator is enough:

    >>> from unrolled.operators import Inpainting
    >>> operator = Inpainting(keep=0.5, height=99, width=99)
    >>> reconstruct(y=operator(camera[None]), operator=operator).shape
    torch.Size([1, 1, 99, 99])
    """
    if (image is None) == (y is None):
        raise ValueError("image: give an image, or its measurements y, one of them")
    chosen, operator = choose(network, operator)
    how: dict[str, Any] = {"tile": tile, "bfloat16": bfloat16, "compile": compile, "progress": progress}
    if y is not None:
        unit, white = measurements_to_unit(y, operator, device_of(chosen, operator), scale)
        how["noise"] = level_in(unit, operator, chosen, None if noise is None else level_of(noise) / white)
        found = invert(unit, chosen, operator, **how)
        found = picture(found, size, clip=scale is None, magnitude=magnitude is not False)
        return found if scale is None else over(white, found).to(found.real.dtype) * found
    if size is not None:
        raise ValueError(f"size: is for measurements y, an image has its own, got {size!r}")
    if isinstance(image, (str, Path)) and Path(image).is_dir():
        raise ValueError(
            f"image: {image} is a folder; unrolled.reconstruct_all takes the images of folders and of lists"
        )
    file = isinstance(image, (str, Path, Image.Image))
    axes = 3 if file else as_tensor("image", image).ndim
    pairs = batch_to_unit("image", image, scale) if axes == 4 else [single_to_unit("image", image, scale, color)]
    x = torch.stack([each for each, _ in pairs]) if axes == 4 else pairs[0][0].unsqueeze(0)
    found = invert(measure(x, chosen, operator, noise), chosen, operator, **how, noise=told(noise, chosen))
    shown = not x.is_complex() if magnitude is None else magnitude
    found = picture(found, sides(x), clip=not pairs[0][1].given, magnitude=shown).to(x.device)
    images = [span.from_unit(each) for each, (_, span) in zip(found, pairs, strict=True)]
    return torch.stack(images) if axes == 4 else images[0] if axes == 3 else images[0][0]


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
    with torch.no_grad():
        y = measure(image, network, operator, noise)
        found = network.iterates(y, operator, noise=told(noise, network))
    return [picture(x[0], sides(image)) for x in found]


def linear_start(y: Tensor, network: UnrolledNetwork, operator: LinearOperator, size: tuple[int, int]) -> Tensor:
    """The image that the network starts from, (channel, height, width), clipped to [0, 1]."""
    with torch.no_grad():
        x = network.first_image(y, operator)
    return picture(x[0], size)


def measure(
    image: Tensor,
    network: UnrolledNetwork | None,
    operator: LinearOperator,
    noise: StatedNoise | None = None,
    seed: int = 0,
) -> Tensor:
    """y = A x of an image of any size or of a batch, padded with zeros, on the network's device.

    Parameters
    ----------
    image : Tensor, (channel, height, width) or (batch, channel, height, width)
        with black at 0 and white at 1, see `unrolled.data.unit_images`.
    network, operator
    noise : float >= 0 or Noise, optional
        added to the measurements: a law of noise, or the standard deviation of white noise.
    seed : int
        of the noise, which is drawn on the CPU.
    """
    batch = image if image.ndim == 4 else image.unsqueeze(0)
    for each in batch:
        check_image(each, operator)
    kind = torch.complex64 if image.is_complex() else torch.float32
    with torch.no_grad():
        y: Tensor = operator(pad(batch.to(device_of(network, operator), kind), operator.multiple))
        return with_noise(y, noise, seed)


def invert(
    y: Tensor,
    network: UnrolledNetwork | None,
    operator: LinearOperator,
    *,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
    progress: bool = False,
    noise: float | Tensor | None = None,
) -> Tensor:
    """The reconstructions from measurements of a batch of images of about unit scale, as the network makes them.

    Parameters
    ----------
    y : Tensor, in the operator's shape, on its device
    network : UnrolledNetwork, or None for `CLASSICAL`
    operator, tile, bfloat16, compile, progress
        as in `reconstruct`.
    noise : float or Tensor, (batch,), optional
        the noise level, at the scale of y, for a network that takes it; others refuse it.

    Returns
    -------
    Tensor, (batch, channel, height, width), neither clipped nor cut to the size of what was padded
    """
    if network is None:
        if tile is not None:
            raise ValueError("tile: only networks reconstruct in tiles, total variation does not")
        if noise is not None:
            raise ValueError(f"noise: only networks are told the noise level, total variation is not; got {noise!r}")
        return classical(CLASSICAL, y, operator)
    level = None if noise is None else torch.as_tensor(noise, device=y.device)
    if level is not None:
        for extreme in {float(level.min()), float(level.max())}:
            warn_of_others(extreme / network.norm_of(operator), network, stacklevel=3)
    pixels = math.prod(operator.image_size(y)) if operator.local else 0
    tiled = tile is not None or (pixels > WHOLE and why_no_tiles(network, operator) is None)
    if compile is None:
        compile = gains_by_compiling(len(y) * pixels, network, operator, bfloat16)
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
    return x


@torch.no_grad()
def _check_explained(x: Tensor, y: Tensor, network: UnrolledNetwork, operator: LinearOperator) -> None:
    """Warn of a reconstruction that explains the measurements worse than black does: a network that diverged."""
    explained = network.operator_of(y, operator)(x)
    residual, size = (explained - y).flatten(1).norm(dim=1), y.flatten(1).norm(dim=1)
    left = float((residual / ones_for_zeros(size))[size > 0].max()) if bool(size.any()) else 0.0
    if not left <= 1:
        warnings.warn(
            f"the reconstruction explains the measurements worse than a black image does, {left:.3g} times: networks "
            f"are made for an operator like the one in training{_advice(network, operator)}",
            stacklevel=4,
        )


def _advice(network: UnrolledNetwork, operator: LinearOperator) -> str:
    """What helps where weights of an earlier version do not bring operators to the norm 1."""
    return "" if network.normalizes else f", or of the norm 1: {type(operator).__name__}(…).normalized()"


def gains_by_compiling(pixels: int, network: UnrolledNetwork | None, operator: LinearOperator, bfloat16: bool) -> bool:
    """Whether so many pixels of images of one size are reconstructed sooner if the network is compiled first."""
    compilable = device_of(network, operator).type == "cpu" and not operator.complex_images
    return pixels >= WORTH_COMPILING and compilable and not bfloat16


def _reconstruct(network: UnrolledNetwork, y: Tensor, operator: LinearOperator, noise: Tensor | None) -> Tensor:
    return network(y, operator, noise=noise)


def picture(x: Tensor, size: tuple[int, int] | None, *, clip: bool = True, magnitude: bool = True) -> Tensor:
    """Images (…, height, width) cut to their size and clipped to [0, 1]; of complex images the magnitude.

    Without `magnitude` complex images are returned as they are, never clipped.
    """
    if size is not None:
        height, width = sides_within("size", size, sides(x))
        x = x[..., :height, :width]
    if x.is_complex():
        if not magnitude:
            return x
        x = x.abs()
    return x.clamp(0, 1) if clip else x


def sides(x: Tensor) -> tuple[int, int]:
    """(height, width) of images."""
    return x.shape[-2], x.shape[-1]


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


def device_of(network: UnrolledNetwork | None, operator: LinearOperator | None = None) -> torch.device:
    """The device that a network is on, or an operator that stands alone."""
    if network is not None:
        return next(network.parameters()).device
    assert operator is not None
    return numbers_of(operator)[1]
