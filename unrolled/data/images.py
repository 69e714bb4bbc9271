"""Images in: files and folders, as tensors with black at 0 and white at 1."""

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Exif
from torch import Tensor

from unrolled.data.file_numbers import (
    Refused,
    is_deep_color,
    is_deep_tiff,
    kind_of,
    pillow_misreads,
    stated_white,
    stretch,
)
from unrolled.data.png import holds_all_rows, is_interlaced
from unrolled.data.tiff import ZERO_IS_WHITE, is_tiff, read_tiff
from unrolled.system.arraylike import as_tensor
from unrolled.system.claims import check_claim
from unrolled.system.files import as_path
from unrolled.system.scales import UNIT, Range, Scale, as_scale, range_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".ppm")

# Only these are decoded, whatever a file is called: some of Pillow's other formats start a program of the system.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")

MOST_PIXELS = 4000
"""No format packs more pixels into a byte, but for pages that are blank."""

FREE_PIXELS = 2**22
"""So many pixels a file of any size may claim."""

MOST_SCANS = 64
"""Scans of a progressive JPEG, at most; each goes over all pixels. Programs write about ten."""

STRIP = 2**20
"""Pixels that are converted at once."""

FLIPS: dict[int, tuple[int, ...]] = {2: (1,), 3: (0, 1), 4: (0,), 6: (0,), 7: (0, 1), 8: (1,)}
"""By the orientation of EXIF, the axes along which pixels are mirrored; from 5 on rows and columns are then swapped."""


def read_image(path: str | Path, color: bool = False, scale: Scale | None = None) -> Tensor:
    """Read an image file, turned upright as its camera noted (EXIF), what is transparent on white.

    Sixteen bits and floating point are kept where there is one channel, and in TIFF of floating point; other colors and
    alpha of 16 bits are read with 8, and a scale is taken for them only of TIFF with three channels. Color profiles
    (ICC) are not applied.

    Parameters
    ----------
    path : str or Path
        a PNG, JPEG, TIFF, BMP, WebP, GIF, PGM or PPM file.
    color : bool
        red, green and blue as three channels; otherwise one: the luma of ITU-R 601, .299 R + .587 G + .114 B, as
        8-bit software rounds it.
    scale : float, (black, white), "max" or a percentile such as "99.5%", optional
        what white is in the numbers of the file. By default what its type says: 255 for 8 bits, 65535 for 16, 4095 for
        TIFF of 12, the MaxSampleValue of TIFF if it has one, and 1 for floating point.

    Returns
    -------
    Tensor, (1 or 3, height, width), float32, in [0, 1] unless a scale is given

    Raises
    ------
    ValueError
        if the file is missing, empty, broken, lacks rows (PNG), holds several images (an animation, a stack), NaN,
        without a scale numbers whose white is not known (32-bit integers) or values of floating point outside of
        [0, 1], or more pixels than a file of its size may ask for (`unrolled.system.claims`), or than twice
        `PIL.Image.MAX_IMAGE_PIXELS`: 179 million, unless you change it.
    """
    return read_with_range(path, color, scale)[0]


def read_with_range(
    path: str | Path, color: bool = False, scale: Scale | None = None
) -> tuple[Tensor, Range, torch.dtype]:
    """As `read_image`, with the range and the type of the file's numbers.

    Returns
    -------
    image, range, kind : Tensor, Range and dtype
        what black and white are in the file's numbers if a scale is given, else [0, 1]; and as `numbers_in`.
    """
    scale = as_scale("image", scale)
    path = as_path("image", path)
    if not os.path.isfile(path):  # a pipe or a device would wait forever
        reason = "is not a regular file" if os.path.lexists(path) else "does not exist"
        raise ValueError(f"image: there is no file {path}: it {reason}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are large but allowed
            # Not by name: Pillow would map the file into memory, which scrambles TIFF that is to be turned, and a file
            # that another program shortens meanwhile would end this one.
            with open(path, "rb") as stream:
                try:
                    file = Image.open(stream, formats=FORMATS)
                except UnidentifiedImageError:
                    if not is_tiff(path):
                        raise
                    return *_read_tiff(path, color, scale), torch.float32
                with file:
                    check_size(file, path, color)
                    check_scans(file, stream)
                    _check_kind(file, scale)
                    if pillow_misreads(file) or (scale is not None and is_deep_tiff(file)):
                        return *_read_tiff(path, color, scale), kind_of(file)
                    kind, white, stretched = kind_of(file), stated_white(file), stretch(file)
                    file.load()
                    _check_rows(file, stream)
                    found = _to_tensor(file, color, scale, white, stretched, orientation_of(file))
                    return *found, kind
    except Refused as error:
        raise ValueError(f"image: {path}: {error}") from None
    except UnidentifiedImageError:
        raise ValueError(f"image: {path} is not an image of a known format, or is empty") from None
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ValueError(f"image: {path} is too large: {str(error) or 'there is not enough memory'}") from error
    except Exception as error:  # whatever the decoders of seven formats make of what is in the file
        raise ValueError(f"image: {path} is broken and cannot be decoded: {error or type(error).__name__}") from error


def check_size(file: Image.Image, path: Path, color: bool = True) -> None:
    """Raise ValueError for more pixels than a file of its size can hold, or may ask to be decoded."""
    length, pixels = os.path.getsize(path), file.size[0] * file.size[1]
    if pixels > max(FREE_PIXELS, MOST_PIXELS * length):
        raise Refused(f"claims {pixels:,} pixels in {length:,} bytes, more than it can hold")
    grey = file.mode in ("1", "L", "P")
    decoded = 1 if grey else 4
    decoded += 8 if file.format == "WEBP" or file.mode[0] in "IF" else 0
    made = 12 if color and file.mode not in ("1", "L") else 4
    try:
        check_claim("its pixels", (decoded + made) * pixels, length)
    except ValueError as error:
        raise Refused(str(error)) from None


def orientation_of(file: Image.Image) -> int:
    """How an image is to be turned upright, from 1 to 8, as EXIF counts; what no camera writes turns nothing."""
    with suppress(Exception), warnings.catch_warnings():  # whatever else may stand there
        warnings.simplefilter("ignore")
        orientation = file.getexif().get(Exif.Orientation)
        return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    return 1


def numbers_in(path: Path) -> torch.dtype:
    """The type of the numbers in an image file, from its header: of bytes, of 16 bits, or of floating point."""
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:
            return kind_of(file)
    return torch.float32  # what Pillow does not read: TIFF of floating point


def list_images(folder: str | Path) -> list[Path]:
    """The image files of a folder and its subfolders, sorted by name; of a single file, that file.

    They are told by their suffix; hidden files are left out.

    Raises
    ------
    ValueError
        if the folder does not exist or holds no images.
    """
    folder = as_path("images", folder)
    if os.path.isfile(folder):
        return [folder]
    if not os.path.isdir(folder):
        raise ValueError(f"images: there is no folder {folder}")
    # Links that lead nowhere stay in the list: reading one says so, instead of training on less than was meant.
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not os.path.isdir(path)
    )
    if not found:
        raise ValueError(f"images: {folder} holds no images ({', '.join(SUFFIXES)})")
    return found


def read_images(folder: str | Path, color: bool = False) -> list[Tensor]:
    """All images of a folder; see `list_images` and `read_image`."""
    return [read_image(path, color) for path in list_images(folder)]


def array_to_image(array: np.ndarray, color: bool = False, scale: Scale | None = None) -> Tensor:
    """An array of pixels as an image tensor.

    Parameters
    ----------
    array : array, (height, width) or (height, width, 3)
        uint8 or uint16, whose white is that of the type; floating point in [0, 1], or complex with such magnitudes.
    color : bool
        as in `read_image`.
    scale : Scale, optional
        as in `read_image`; with one, of any type of numbers.

    Returns
    -------
    Tensor, (1 or 3, height, width), float32, or complex64; in [0, 1] unless a scale is given
    """
    return array_with_range(array, color, scale)[0]


def array_with_range(array: np.ndarray, color: bool = False, scale: Scale | None = None) -> tuple[Tensor, Range]:
    """As `array_to_image`, with the range as `read_with_range` has it."""
    if array.dtype == np.uint8:
        return _to_tensor(Image.fromarray(array), color, scale)
    return _from_numbers(array, color, scale)


def picture_to_image(picture: Image.Image, scale: Scale | None = None) -> tuple[Tensor, Range]:
    """An image of Pillow as a tensor, in color if it is, with its range as `read_with_range` has it.

    Returns
    -------
    Tensor, (1 or 3, height, width), float32, and Range
    """
    try:
        return _to_tensor(picture, picture.mode[0] not in "1LFI", scale)
    except Refused as error:
        raise ValueError(f"image: {error}") from None


def _check_kind(file: Image.Image, scale: Scale | None) -> None:
    # A JPEG of several pictures (MPO) is a photograph that brings a preview or a depth map along.
    if getattr(file, "is_animated", False) and file.format != "MPO":
        raise Refused("holds several images (an animation or a stack); split it into files of one image")
    if file.format == "JPEG" and file.mode == "CMYK" and "adobe" not in file.info:
        raise Refused("is CMYK without the mark that tells whether ink is 0 or 255; convert it to RGB")
    if file.mode == "I" and file.format == "TIFF" and scale is None:
        raise Refused(
            "has integers of 32 bits or with a sign, whose white is not known; give scale, or save it as uint16"
        )
    tags = getattr(file, "tag_v2", {})
    if file.mode[0] in "IF" and tags.get(Exif.PhotometricInterpretation) == 0:
        raise Refused(ZERO_IS_WHITE)
    if scale is not None and is_deep_color(file) and not is_deep_tiff(file):
        raise Refused(
            "has colors or alpha of 16 bits, of which 8 are read, so that scale has no numbers to tell of; "
            "save it as TIFF of three channels, or with one"
        )


def check_scans(file: Image.Image, stream: BinaryIO) -> None:
    """Raise ValueError for a JPEG of so many scans that decoding it would take long."""
    if file.info.get("progressive"):
        at = stream.tell()
        stream.seek(0)
        if (scans := stream.read().count(b"\xff\xda")) > MOST_SCANS:
            raise Refused(f"has {scans:,} scans, which would take long to decode; at most {MOST_SCANS} are read")
        stream.seek(at)


def _check_rows(file: Image.Image, stream: BinaryIO) -> None:
    """Raise ValueError if rows of a PNG are missing, which leaves the last one black."""
    if file.format == "PNG":
        width, height = file.size
        black = not any(file.crop((0, height - 1, width, height)).tobytes())
        if (black or is_interlaced(stream)) and not holds_all_rows(stream):
            raise Refused(f"lacks rows: there are fewer pixels than the {width} × {height} of its header")


def _to_tensor(
    image: Image.Image,
    color: bool,
    scale: Scale | None = None,
    white: float = 65535,
    stretched: float = 1,
    orientation: int = 1,
) -> tuple[Tensor, Range]:
    if image.mode == "F":
        return _from_numbers(_turned(np.array(image), orientation), color, scale)
    if image.mode[0] == "I":  # 16 bits: of I;16 in either byte order, and of I where PGM and older Pillow use it
        numbers = _turned(np.asarray(image), orientation)
        if "transparency" in image.info:
            numbers = np.where(numbers == image.info["transparency"], white, numbers)
        if scale is not None:
            return _from_numbers(_unstretched(numbers, stretched), color, scale)
        if numbers.min() < 0 or numbers.max() > white:
            raise Refused(f"has numbers outside of 0 … {white:g}, the range that it states; give scale")
        pixels = np.array(numbers, np.float32, order="C")
        pixels /= white
        return _channels_first(pixels[None], color), UNIT
    # Photographs of 100 megapixels come this way: besides the pixels as decoded there is one number of each.
    width, height = image.size
    grey = not color or (image.mode in ("1", "L") and not image.has_transparency_data)
    shape = (width, height) if orientation >= 5 else (height, width)
    pixels = np.empty((1 if grey else 3, *shape), np.float32 if scale is None else np.uint8)
    lying = _turned_back(np.moveaxis(pixels, 0, -1), orientation)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        lying[top : top + rows] = _levels(strip, grey).reshape(*strip.size[::-1], len(pixels))
    if scale is not None:
        return _from_numbers(_unstretched(np.moveaxis(pixels, 0, -1), stretched), color, scale)
    pixels /= 255
    return _channels_first(pixels, color), UNIT


def _levels(image: Image.Image, grey: bool) -> np.ndarray:
    """Pixels of 8 bits, (height, width), or (height, width, 3) in color, what is transparent on white."""
    if image.has_transparency_data:
        # What is transparent shows the paper behind it.
        image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "L":
        image = image.convert("RGB")
    return np.asarray(image.convert("L") if grey else image)


def _unstretched(numbers: np.ndarray, stretched: float) -> np.ndarray:
    """The numbers of the file, where Pillow has made them larger and rounded them."""
    return numbers if stretched == 1 else np.round(numbers / stretched)


def _read_tiff(path: Path, color: bool, scale: Scale | None) -> tuple[Tensor, Range]:
    """What Pillow does not read, or not right."""
    pixels, turn = read_tiff(path)
    return _from_numbers(_turned(pixels, turn), color, scale)


def _from_numbers(array: np.ndarray, color: bool, scale: Scale | None) -> tuple[Tensor, Range]:
    """Pixels (height, width) or (height, width, 3) of any type of numbers, as an image."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] != 3):
        raise Refused(f"must be of pixels (height, width), or with 3 channels (height, width, 3), got {array.shape}")
    if array.ndim == 3 and array.dtype.kind == "c":
        raise Refused("has complex numbers in 3 channels; give images of one channel")
    pixels = as_tensor("pixels", array)
    try:
        span = range_of("pixels", pixels, scale)
    except ValueError as error:
        raise Refused(str(error)) from None
    pixels = span.to_unit(pixels)
    if pixels.ndim == 3 and not color:
        pixels = pixels.double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    pixels = pixels.to(torch.complex64 if pixels.is_complex() else torch.float32)
    pixels = (pixels.movedim(-1, 0) if pixels.ndim == 3 else pixels[None]).contiguous()
    return _channels_first(pixels.numpy(), color), span if span.given else UNIT


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An array of pixels turned upright, by the orientation of EXIF."""
    pixels = np.flip(pixels, FLIPS.get(orientation, ()))
    return pixels.swapaxes(0, 1) if 5 <= orientation <= 8 else pixels


def _turned_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An array of upright pixels as it would have to be turned."""
    pixels = pixels.swapaxes(0, 1) if 5 <= orientation <= 8 else pixels
    return np.flip(pixels, FLIPS.get(orientation, ()))


def _channels_first(pixels: np.ndarray, color: bool) -> Tensor:
    """Pixels (channel, height, width) as an image, in color if it is to be."""
    return torch.from_numpy(pixels).expand(3 if color else -1, -1, -1)


def to_uint8(image: Tensor) -> np.ndarray:
    """An image tensor as 8-bit pixels, clipped and rounded: (height, width), or (height, width, 3) in color."""
    # By rows, so that a large image is not in memory several times over.
    parts = [(part.clamp(0, 1) * 255).round().to(torch.uint8) for part in image.detach().cpu().split(256, dim=-2)]
    pixels = torch.cat(parts, dim=-2).numpy()
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
