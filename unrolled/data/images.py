"""Images in: files and folders, as tensors in [0, 1]."""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Exif
from PIL.Image import Transpose
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".ppm")

# Only these are decoded, whatever a file is called: some of Pillow's other formats start a program of the system.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")

TURNED = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def read_image(path: str | Path, color: bool = False) -> Tensor:
    """Read an image file, turned upright as its camera noted (EXIF), what is transparent on white.

    Sixteen bits and floating point are kept where there is one channel; colors and alpha of 16 bits are read with 8.
    Color profiles (ICC) are not applied.

    Parameters
    ----------
    path : str or Path
        a PNG, JPEG, TIFF, BMP, WebP, GIF, PGM or PPM file.
    color : bool
        red, green and blue as three channels; otherwise one: the luma of ITU-R 601, .299 R + .587 G + .114 B, as
        8-bit software rounds it.

    Returns
    -------
    Tensor, (1 or 3, height, width), float32 in [0, 1]

    Raises
    ------
    ValueError
        if the file is missing, empty, broken, holds several images (an animation, a stack), numbers whose white is
        not known (32-bit integers), NaN, values of floating point outside of [0, 1], or more pixels than twice
        `PIL.Image.MAX_IMAGE_PIXELS`: 179 million, unless you change it.
    """
    path = Path(path)
    if not os.path.isfile(path):  # a pipe or a device would wait forever
        reason = "is not a regular file" if os.path.lexists(path) else "does not exist"
        raise ValueError(f"image: there is no file {path}: it {reason}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are large but allowed
            # Not by name: Pillow would map the file into memory, which scrambles TIFF that is to be turned, and a file
            # that another program shortens meanwhile would end this one.
            with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:
                _check_kind(file)
                file.load()
                upright = TURNED.get(file.getexif().get(Exif.Orientation, 1))
                image = file if upright is None else file.transpose(upright)
                return _to_tensor(image, color)
    except _Refused as error:
        raise ValueError(f"image: {path}: {error}") from None
    except UnidentifiedImageError:
        raise ValueError(f"image: {path} is not an image of a known format, or is empty") from None
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ValueError(f"image: {path} is too large: {str(error) or 'there is not enough memory'}") from error
    except Exception as error:  # whatever the decoders of seven formats make of what is in the file
        raise ValueError(f"image: {path} is broken and cannot be decoded: {error or type(error).__name__}") from error


def list_images(folder: str | Path) -> list[Path]:
    """The image files of a folder and its subfolders, sorted by name; of a single file, that file.

    They are told by their suffix; hidden files are left out.

    Raises
    ------
    ValueError
        if the folder does not exist or holds no images.
    """
    folder = Path(folder)
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


def array_to_image(array: np.ndarray, color: bool = False) -> Tensor:
    """An array of pixels as an image tensor.

    Parameters
    ----------
    array : array, (height, width) or (height, width, 3); uint8, or floating point in [0, 1]
    color : bool
        as in `read_image`.

    Returns
    -------
    Tensor, (1 or 3, height, width), float32 in [0, 1]
    """
    if array.dtype == np.uint8:
        return _to_tensor(Image.fromarray(array), color)
    if array.ndim == 3:
        array = array if color else array @ np.array([0.299, 0.587, 0.114])
    return _unit_range(array, color)


class _Refused(ValueError):
    """An image that is whole, but has no single meaning."""


def _check_kind(file: Image.Image) -> None:
    # A JPEG of several pictures (MPO) is a photograph that brings a preview or a depth map along.
    if getattr(file, "is_animated", False) and file.format != "MPO":
        raise _Refused("holds several images (an animation or a stack); split it into files of one image")
    if file.format == "JPEG" and file.mode == "CMYK" and "adobe" not in file.info:
        raise _Refused("is CMYK without the mark that tells whether ink is 0 or 255; convert it to RGB")
    if file.mode == "I" and file.format == "TIFF":
        raise _Refused("has integers of 32 bits or with a sign, whose white is not known; save it as uint8 or uint16")
    tags = getattr(file, "tag_v2", {})
    if file.mode.startswith("I;") and tags.get(Exif.BitsPerSample, (16,)) != (16,):
        raise _Refused("has pixels of 12 bits, which cannot be told from dark ones of 16; save it as uint8 or uint16")
    if file.mode[0] in "IF" and tags.get(Exif.PhotometricInterpretation) == 0:
        raise _Refused("has more than 8 bits with 0 as white; save it with 0 as black")


def _to_tensor(image: Image.Image, color: bool) -> Tensor:
    # Photographs of 100 megapixels come this way: besides the pixels as decoded there is one float32 of each number.
    if image.mode == "F":
        return _unit_range(np.array(image), color)
    if image.mode[0] == "I":  # 16 bits: of I;16 in either byte order, and of I where PGM and older Pillow use it
        pixels = np.asarray(image).astype(np.float32)
        if "transparency" in image.info:
            pixels[pixels == image.info["transparency"]] = 65535
        pixels /= 65535
        return _channels_first(pixels, color)
    if image.has_transparency_data:
        # What is transparent shows the paper behind it.
        image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "L":
        image = image.convert("RGB")
    levels = np.asarray(image if color else image.convert("L"))
    pixels = np.moveaxis(levels, -1, 0).astype(np.float32, order="C") if levels.ndim == 3 else levels.astype(np.float32)
    pixels /= 255
    return _channels_first(pixels, color)


def _unit_range(pixels: np.ndarray, color: bool) -> Tensor:
    low, high = pixels.min(), pixels.max()  # NaN if one pixel is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _Refused("pixels must be finite, but some are NaN or inf")
    if low < 0 or high > 1:
        raise _Refused(f"pixels must lie in [0, 1], but reach from {low:.4g} to {high:.4g}")
    pixels = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels
    return _channels_first(np.array(pixels, dtype=np.float32, order="C"), color)


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
