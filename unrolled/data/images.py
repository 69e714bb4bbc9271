"""Images in: files and folders, as tensors in [0, 1]."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm")


def read_image(path: str | Path, color: bool = False) -> Tensor:
    """Read an image file.

    Parameters
    ----------
    path : str or Path
    color : bool
        red, green and blue as three channels; otherwise one: the luma of ITU-R 601, .299 R + .587 G + .114 B, as
        8-bit software rounds it.

    Returns
    -------
    Tensor, (1 or 3, height, width), float32 in [0, 1]

    Raises
    ------
    ValueError
        if the file is missing, empty, broken, or holds NaN, or values of floating point outside of [0, 1].
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"image: there is no file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                return _to_tensor(ImageOps.exif_transpose(file), color)
    except UnidentifiedImageError:
        raise ValueError(f"image: {path} is not an image of a known format, or is empty") from None
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image: {path} is broken and cannot be decoded: {error}") from error
    except ValueError as error:
        raise ValueError(f"image: {path}: {error}") from error


def list_images(folder: str | Path) -> list[Path]:
    """The image files of a folder and its subfolders, sorted by name; of a single file, that file.

    Raises
    ------
    ValueError
        if the folder does not exist or holds no images.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ValueError(f"images: there is no folder {folder}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
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


def _to_tensor(image: Image.Image, color: bool) -> Tensor:
    if image.mode.startswith("I") and image.mode != "I":  # 16 bit, in either byte order
        return _unit_range(np.asarray(image).astype(np.float64) / 65535, color)
    if image.mode == "I":
        pixels = np.asarray(image).astype(np.float64)
        return _unit_range(pixels / (255 if pixels.max() <= 255 else 65535), color)
    if image.mode == "F":
        return _unit_range(np.asarray(image), color)
    if "A" in image.mode or "transparency" in image.info:
        # What is transparent shows the paper behind it.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if not color and image.mode != "L":
        image = image.convert("RGB").convert("L")
    return _unit_range(np.asarray(image.convert("RGB" if color else "L")).astype(np.float32) / 255, color)


def _unit_range(pixels: np.ndarray, color: bool) -> Tensor:
    if not np.isfinite(pixels).all():
        raise ValueError("pixels must be finite, but some are NaN or inf")
    if pixels.min() < 0 or pixels.max() > 1:
        raise ValueError(f"pixels must lie in [0, 1], but reach from {pixels.min():.4g} to {pixels.max():.4g}")
    tensor = torch.from_numpy(np.array(pixels, dtype=np.float32, order="C"))
    tensor = tensor.unsqueeze(0) if tensor.ndim == 2 else tensor.movedim(-1, 0).contiguous()
    return tensor.expand(3, -1, -1) if color and len(tensor) == 1 else tensor


def to_uint8(image: Tensor) -> np.ndarray:
    """An image tensor as 8-bit pixels, clipped and rounded: (height, width), or (height, width, 3) in color."""
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
