"""Many images at once: small ones together, which is faster, and each whatever becomes of the others."""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unrolled.data.stores import StoredImage, check_bright, stored
from unrolled.data.volumes import Found, find_volumes
from unrolled.metrics import shown_psnr, ssim
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, OperatorDraw
from unrolled.reconstruction.noise_level import StatedNoise, told
from unrolled.reconstruction.pipeline import device_of, gains_by_compiling, invert, measure, picture, sides
from unrolled.system.scales import UNIT, Range, Scale, as_scale, brightness, refuse_dark
from unrolled.weights.chosen import choose, operator_for, typical

BATCH = {"cpu": 2**17, "cuda": 2**22}
"""Pixels of images of one size that are reconstructed together, at most. On a CPU images of 99² take .6 of the time in
batches of 8, of 198² .8 in batches of 2 to 4, and of 264² as long; larger batches leave the caches. On a GPU this was
not measured: so many take a fraction of its memory."""

REFUSED = (ValueError, OSError, OverflowError, MemoryError, torch.OutOfMemoryError)
"""What tells that an image cannot be reconstructed, and not that this package is wrong."""


class Measured(NamedTuple):
    """Measurements of one image.

    y : Tensor, (1, …)
        of the image with white at 1.
    operator : LinearOperator
        by which it was measured.
    size : (height, width), or None for the whole
    span : Range
        of the image, in the units that it came in.
    truth : Tensor, (channel, height, width), with white at 1, or None
    magnitude : bool
        of complex reconstructions their magnitude.
    own_white : bool
        whether white is to be the largest magnitude of the reconstruction, of which span has only an estimate.
    level : float, or None
        the noise level of y that the network is told.
    """

    y: Tensor
    operator: LinearOperator
    size: tuple[int, int] | None
    span: Range
    truth: Tensor | None
    magnitude: bool
    own_white: bool = False
    level: float | None = None


@dataclass(frozen=True)
class Asked:
    """What is to be reconstructed.

    Parameters
    ----------
    name : str
    measured : callable (network, chosen) ↦ Measured
        where an operator is chosen, or a draw that makes one for every image.
    image : StoredImage, optional
        the image that is measured.
    """

    name: str
    measured: Callable[[UnrolledNetwork | None, LinearOperator | OperatorDraw], Measured]
    image: StoredImage | None = None

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channel, height, width) of an image, if its header tells."""
        with suppress(*REFUSED):  # it is named when the image is read
            return None if self.image is None else self.image.shape
        return None


@dataclass
class Reconstruction:
    """One of many.

    Attributes
    ----------
    name : str
        of the file, and in a volume of the slice.
    image : Tensor, (channel, height, width), or None
        with white at 1, or with a scale in the units that the image came in; None if it could not be reconstructed.
    error : str
        why not.
    psnr, ssim : float, or None
        if an image was measured: by how much the reconstruction differs, PSNR in dB. Their peak is white.
    seconds : float
        of reconstructing.
    unit, span : Tensor and Range
        the reconstruction with white at 1, and what it is in its units.
    """

    name: str
    error: str = ""
    psnr: float | None = None
    ssim: float | None = None
    seconds: float = 0.0
    unit: Tensor | None = field(default=None, repr=False)
    span: Range = UNIT

    @property
    def image(self) -> Tensor | None:
        return None if self.unit is None else self.span.from_unit(self.unit)


def reconstruct_all(
    images: Any,
    network: UnrolledNetwork | str | Path | None = None,
    operator: LinearOperator | None = None,
    *,
    color: bool = False,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
    scale: Scale | None = None,
    magnitude: bool | None = None,
    key: str | None = None,
    noise: StatedNoise | None = None,
) -> Iterator[Reconstruction]:
    """Measure and reconstruct many images, one after another; small ones of one size together.

    What cannot be read or reconstructed has an `error` in place of its `image`, and the others follow.

    Parameters
    ----------
    images : str, Path or list
        a folder or a file of images, HDF5, NIfTI or DICOM, see `unrolled.data.volumes.find_volumes`; or a list of
        images and of image files.
    network, operator, color, tile, bfloat16, compile, scale, magnitude, noise
        as in `reconstruct`; noise is another one for each image of a file or a list.
    key : str, optional
        of the images in HDF5 files.

    Yields
    ------
    Reconstruction

    Raises
    ------
    ValueError
        if there are no images, for a wrong argument, or if the weights cannot be loaded.

    Examples
    --------
    >>> from unrolled.data import embedded_images
    >>> camera = embedded_images("test")["camera"][:, 100:133, 200:233]
    >>> for found in reconstruct_all([camera, "no such file.png"]):
    ...     print(found.name, "failed" if found.error else found.image.shape)
    image 0 torch.Size([1, 33, 33])
    no such file.png failed
    """
    scale = as_scale("images", scale)
    chosen, operator = choose(network, operator)
    asked = list[Asked | Reconstruction]()
    if isinstance(images, (str, Path)):
        for found in find_volumes(images, key, color, scale):
            if found.volume is None:
                asked.append(Reconstruction(found.name, found.error))
            else:
                asked += ask_found(found, magnitude, noise)
    elif isinstance(images, (list, tuple)):
        each = enumerate(stored(images, scale))
        asked += [
            ask_image(image, image.name or f"image {number}", magnitude, noise=noise, seed=number)
            for number, image in each
        ]
    else:
        raise ValueError(f"images: must be a folder, a file or a list of images, got {type(images).__name__}")
    if not asked:
        raise ValueError("images: must be one at least, got none")
    if compile is None:
        compile = worth_compiling(asked, chosen, operator, bfloat16)
    return reconstruct_each(asked, chosen, operator, tile=tile, bfloat16=bfloat16, compile=compile)


def ask_found(found: Found, magnitude: bool | None = None, noise: StatedNoise | None = None) -> list[Asked]:
    """The images of a file or a series to be measured and reconstructed."""
    images = [] if found.volume is None else found.volume.images
    darkness = None if found.single else Darkness(images)
    return [
        ask_image(image, found.name_of(image), magnitude, darkness, noise, seed) for seed, image in enumerate(images)
    ]


class Darkness:
    """Whether all images of a file or a series are so dark that they are probably in other units."""

    def __init__(self, images: Sequence[StoredImage]):
        self.images = images

    @cached_property
    def error(self) -> str:
        """Why they are refused."""
        try:
            check_bright(self.images)
        except REFUSED as error:
            return str(error)
        return ""


def ask_image(
    image: StoredImage,
    name: str,
    magnitude: bool | None = None,
    darkness: Darkness | None = None,
    noise: StatedNoise | None = None,
    seed: int = 0,
) -> Asked:
    """An image to be measured and reconstructed.

    Parameters
    ----------
    image : StoredImage
    name : str
    magnitude : bool, optional
        as in `reconstruct`.
    darkness : Darkness, optional
        that of the images that it belongs to; otherwise it stands for itself.
    noise : float >= 0 or Noise, optional
        as in `reconstruct`.
    seed : int
        of the noise.
    """

    def measured(network: UnrolledNetwork | None, chosen: LinearOperator | OperatorDraw) -> Measured:
        if darkness is not None and darkness.error:
            raise ValueError(darkness.error)
        truth, span = image.with_range()
        if darkness is None and image.kind is not None:
            refuse_dark("image", [(brightness(truth), image.kind)])
        shown = not truth.is_complex() if magnitude is None else magnitude
        operator = operator_for(truth, seed, chosen, device_of(network, typical(chosen)))
        y = measure(truth, network, operator, noise, seed)
        return Measured(y, operator, sides(truth), span, truth, shown, level=told(noise, network))

    return Asked(name, measured, image)


def reconstruct_each(
    asked: Iterable[Asked | Reconstruction],
    network: UnrolledNetwork | None,
    operator: LinearOperator | OperatorDraw,
    *,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
) -> Iterator[Reconstruction]:
    """The reconstructions in the order in which they are asked for; what failed before is passed on.

    Parameters
    ----------
    asked : iterable of Asked, or of Reconstruction
        read one after another.
    network, operator, tile, bfloat16, compile
        as in `reconstruct`.
    """
    how = {"tile": tile, "bfloat16": bfloat16, "compile": compile}
    most = BATCH.get(device_of(network, typical(operator)).type, 1)
    waiting: list[tuple[str, Measured]] = []
    for each in asked:
        failed = each if isinstance(each, Reconstruction) else None
        if isinstance(each, Asked):
            try:
                new = each.measured(network, operator)
            except REFUSED as error:
                failed = _failed(each.name, error)
        if waiting and (failed or not _go_together([*(one for _, one in waiting), new], most)):
            yield from _together(waiting, network, how)
            waiting = []
        if failed is not None:
            yield failed
        else:
            waiting.append((each.name, new))
    if waiting:
        yield from _together(waiting, network, how)


def worth_compiling(
    asked: Iterable[Asked | Reconstruction],
    network: UnrolledNetwork | None,
    chosen: LinearOperator | OperatorDraw,
    bfloat16: bool = False,
) -> bool:
    """Whether there are so many pixels of images of one size that compiling the network pays."""
    operator = typical(chosen)
    if not gains_by_compiling(sys.maxsize, network, operator, bfloat16):  # whatever the headers of the images say
        return False
    pixels = Counter[tuple[int, ...]]()
    for shape in (each.shape for each in asked if isinstance(each, Asked)):
        if shape is not None:
            pixels[shape] += math.prod(shape)
    return bool(pixels) and gains_by_compiling(max(pixels.values()), network, operator, bfloat16)


def _go_together(measured: list[Measured], most: int) -> bool:
    """Whether measurements of images of one size are few enough to be reconstructed together."""
    first, last = measured[0], measured[-1]
    pixels = math.prod(last.size) if last.size else last.y.numel()
    alike = (first.y.shape, first.y.dtype, first.size) == (last.y.shape, last.y.dtype, last.size)
    alike = alike and first.operator is last.operator
    return alike and len(measured) * pixels <= most


def _together(
    waiting: list[tuple[str, Measured]], network: UnrolledNetwork | None, how: dict[str, Any]
) -> Iterator[Reconstruction]:
    began = time.perf_counter()
    try:
        levels = [each.level for _, each in waiting if each.level is not None]
        noise = torch.tensor(levels) if levels else None
        found = invert(torch.cat([each.y for _, each in waiting]), network, waiting[0][1].operator, **how, noise=noise)
        images = [
            picture(x, each.size, clip=not each.span.given, magnitude=each.magnitude)
            for x, (_, each) in zip(found, waiting, strict=True)
        ]
    except REFUSED as error:
        if len(waiting) == 1:
            yield _failed(waiting[0][0], error)
            return
        for alone in waiting:  # one of them, perhaps
            yield from _together([alone], network, how)
        return
    seconds = (time.perf_counter() - began) / len(waiting)
    for image, (name, each) in zip(images, waiting, strict=True):
        yield _with_figures(name, image.cpu(), each, seconds)


def _failed(name: str, error: BaseException) -> Reconstruction:
    return Reconstruction(name, str(error) or type(error).__name__)


def _with_figures(name: str, image: Tensor, measured: Measured, seconds: float) -> Reconstruction:
    made = Reconstruction(name, seconds=seconds, unit=image, span=measured.span)
    if measured.own_white and (white := brightness(image)) > 0:
        made.unit, made.span = image / white, Range(0.0, white * measured.span.white, True)
    if measured.truth is not None:
        seen, truth = image.unsqueeze(0), picture(measured.truth, None).unsqueeze(0)
        made.psnr, made.ssim = float(shown_psnr(seen, truth)), float(ssim(seen, truth))
    return made
