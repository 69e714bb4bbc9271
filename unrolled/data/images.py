"""Images in: files and folders, as tensors with black at 0 and white at 1."""

import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Exif
from PIL.Image import Transpose
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
from unrolled.data.tiff import ZERO_IS_WHITE, is_tiff, read_tiff
from unrolled.system.arraylike import as_tensor
from unrolled.system.files import as_path
from unrolled.system.scales import UNIT, Range, Scale, as_scale, range_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".ppm")

# Only these are decoded, whatever a file is called: some of Pillow's other formats start a program of the system.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")

MOST_PIXELS = 4000
"""No format packs more pixels into a byte, but for pages that are blank."""

FREE_PIXELS = 2**22
"""So many pixels a file of any size may claim."""

TURNED = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


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
        if the file is missing, empty, broken, holds several images (an animation, a stack), NaN, without a scale
        numbers whose white is not known (32-bit integers) or values of floating point outside of [0, 1], or more
        pixels than a file of its size can hold, or than twice `PIL.Image.MAX_IMAGE_PIXELS`: 179 million, unless you
        change it.
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
                    check_claim(file.size, os.path.getsize(path))
                    _check_kind(file, scale)
                    if pillow_misreads(file) or (scale is not None and is_deep_tiff(file)):
                        return *_read_tiff(path, color, scale), kind_of(file)
                    kind, white, stretched = kind_of(file), stated_white(file), stretch(file)
                    file.load()
                    upright = turn_of(file)
                    image = file if upright is None else file.transpose(upright)
                    return *_to_tensor(image, color, scale, white, stretched), kind
    except Refused as error:
        raise ValueError(f"image: {path}: {error}") from None
    except UnidentifiedImageError:
        raise ValueError(f"image: {path} is not an image of a known format, or is empty") from None
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ValueError(f"image: {path} is too large: {str(error) or 'there is not enough memory'}") from error
    except Exception as error:  # whatever the decoders of seven formats make of what is in the file
        raise ValueError(f"image: {path} is broken and cannot be decoded: {error or type(error).__name__}") from error


def check_claim(size: tuple[int, int], length: int) -> None:
    """Raise ValueError for more pixels than a file of so many bytes can hold."""
    pixels = size[0] * size[1]
    if pixels > max(FREE_PIXELS, MOST_PIXELS * length):
        raise Refused(f"claims {pixels:,} pixels in {length:,} bytes, more than it can hold")


def turn_of(file: Image.Image) -> Transpose | None:
    """How an image is turned upright; what no camera writes turns nothing."""
    orientation = file.getexif().get(Exif.Orientation)
    return TURNED.get(orientation) if isinstance(orientation, int) else None


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
    if array.dtype == np.uint8:
        return _to_tensor(Image.fromarray(array), color, scale)[0]
    return _from_numbers(array, color, scale)[0]


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


def _to_tensor(
    image: Image.Image, color: bool, scale: Scale | None = None, white: float = 65535, stretched: float = 1
) -> tuple[Tensor, Range]:
    # Photographs of 100 megapixels come this way: besides the pixels as decoded there is one float32 of each number.
    if image.mode == "F":
        return _from_numbers(np.array(image), color, scale)
    if image.mode[0] == "I":  # 16 bits: of I;16 in either byte order, and of I where PGM and older Pillow use it
        numbers = np.asarray(image)
        if "transparency" in image.info:
            numbers = np.where(numbers == image.info["transparency"], white, numbers)
        if scale is not None:
            return _from_numbers(_unstretched(numbers, stretched), color, scale)
        if numbers.min() < 0 or numbers.max() > white:
            raise Refused(f"has numbers outside of 0 … {white:g}, the range that it states; give scale")
        pixels = numbers.astype(np.float32)
        pixels /= white
        return _channels_first(pixels, color), UNIT
    if image.has_transparency_data:
        # What is transparent shows the paper behind it.
        image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "L":
        image = image.convert("RGB")
    levels = np.asarray(image if color else image.convert("L"))
    if scale is not None:
        return _from_numbers(_unstretched(levels, stretched), color, scale)
    pixels = np.moveaxis(levels, -1, 0).astype(np.float32, order="C") if levels.ndim == 3 else levels.astype(np.float32)
    pixels /= 255
    return _channels_first(pixels, color), UNIT


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
    pixels = (pixels.movedim(-1, 0) if pixels.ndim == 3 else pixels).contiguous()
    return _channels_first(pixels.numpy(), color), span if span.given else UNIT


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An array of pixels turned upright, by the orientation of EXIF."""
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (0,), 7: (0, 1), 8: (1,)}
    pixels = np.flip(pixels, flips.get(orientation, ()))
    return pixels.swapaxes(0, 1) if 5 <= orientation <= 8 else pixels


def _channels_first(pixels: np.ndarray, color: bool) -> Tensor:
    tensor = torch.from_numpy(pixels)
    tensor = tensor.unsqueeze(0) if tensor.ndim == 2 else tensor
    return tensor.expand(3, -1, -1) if color and len(tensor) == 1 else tensor


def to_uint8(image: Tensor) -> np.ndarray:
    """An image tensor as 8-bit pixels, clipped and rounded: (height, width), or (height, width, 3) in color."""
    # By rows, so that a large image is not in memory several times over.
    parts = [(part.clamp(0, 1) * 255).round().to(torch.uint8) for part in image.detach().cpu().split(256, dim=-2)]
    pixels = torch.cat(parts, dim=-2).numpy()
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
