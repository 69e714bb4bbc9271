"""Images at rest: in memory, in files, in HDF5; of known sizes, read whole or in part when they are asked for."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from unrolled.data.images import FORMATS, read_image

CACHE_MIB = 1024
ALL = slice(None)


class StoredImage(ABC):
    """An image of which the shape is known and the pixels are read when they are asked for.

    Attributes
    ----------
    shape : (channel, height, width)
    """

    shape: tuple[int, int, int]

    @abstractmethod
    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        """A window of the image.

        Returns
        -------
        Tensor, (channel, rows, columns)
            as it is stored: uint8, where 255 is white, or float32 in [0, 1]; `to_float` gives the latter of both.
        """


class MemoryImage(StoredImage):
    """An image in memory, as bytes where that loses nothing.

    Parameters
    ----------
    pixels : Tensor, (channel, height, width), uint8, or floating point in [0, 1]
    """

    def __init__(self, pixels: Tensor):
        self.pixels = as_stored(pixels)
        self.shape = _shape(pixels)

    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        return self.pixels[:, rows, columns]


class FileImage(StoredImage):
    """An image file, decoded whenever it is read.

    Parameters
    ----------
    path : Path
    color : bool
        as in `read_image`.
    """

    def __init__(self, path: Path, color: bool = False):
        self.path, self.color = path, color

    @cached_property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        return (3 if self.color else 1, *image_size(self.path))

    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        pixels = as_stored(read_image(self.path, self.color))
        if _shape(pixels) != self.shape:
            raise ValueError(
                f"image: {self.path} was of {self.shape} (channel, height, width), is {_shape(pixels)} now"
            )
        return pixels[:, rows, columns]


class ImageStore(Dataset[Tensor]):
    """Many images behind one index; a map-style data set of whole images, float32 in [0, 1].

    Images of files are read at once, and kept, as long as they fit into the cache; the others are read again each time
    they are drawn. 8-bit images are kept as bytes; what 8 bits cannot hold (16-bit and floating-point images) is kept
    as float32, so that caching never changes a pixel.

    Parameters
    ----------
    images : sequence of StoredImage, or of Tensor, each (channel, height, width) in [0, 1]
    cache_mib : int
        the most memory for pixels that are read from files, in MiB, in every process; 0 reads them anew each time.

    Raises
    ------
    ValueError
        if cache_mib is negative, or an image cannot be read.
    """

    def __init__(self, images: Sequence[StoredImage | Tensor], cache_mib: int = CACHE_MIB):
        if cache_mib < 0:
            raise ValueError(f"images: cache_mib must be >= 0, got {cache_mib!r}")
        self.images = cached(
            (MemoryImage(image) if isinstance(image, Tensor) else image for image in images), cache_mib
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return to_float(self.images[index].read())

    @property
    def streams(self) -> bool:
        """Whether some images are not in memory."""
        return not all(isinstance(image, MemoryImage) for image in self.images)

    def spread(self, pixels: int = 2**26) -> list[Tensor]:
        """Images from all over the store that have about so many pixels in all: the whole store if it is smaller."""
        total = sum(channel * height * width for channel, height, width in (image.shape for image in self.images))
        stride = -(-total // pixels)
        return [self[index] for index in range(0, len(self), max(1, stride))]


def cached(images: Iterable[StoredImage], mib: int) -> list[StoredImage]:
    """The images, those first that fit into so many MiB read into memory."""
    left = mib * 2**20
    kept: list[StoredImage] = []
    for image in tqdm(images, desc="reading images", unit="image", delay=3, leave=False, disable=None):
        channel, height, width = image.shape
        if not isinstance(image, MemoryImage) and channel * height * width <= left:
            read = MemoryImage(image.read())
            if read.pixels.nbytes <= left:
                left -= read.pixels.nbytes
                image = read
        kept.append(image)
    return kept


def as_stored(pixels: Tensor) -> Tensor:
    """Pixels as uint8 if that holds them exactly, otherwise as float32.

    Parameters
    ----------
    pixels : Tensor, uint8, or floating point with white at 1
    """
    if pixels.dtype == torch.uint8:
        return pixels
    pixels = pixels.float()
    coarse = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    return coarse if torch.equal(to_float(coarse), pixels) else pixels


def to_float(pixels: Tensor) -> Tensor:
    """Stored pixels as float32 with white at 1."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file, turned upright, from its header where that is enough."""
    if os.path.isfile(path):  # a pipe would wait forever
        with suppress(Exception), warnings.catch_warnings():  # what is odd is left to the decoder, which names it
            warnings.simplefilter("error")
            with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:
                orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
                width, height = file.size
                if orientation == 1:
                    return height, width
                if file.format == "JPEG":
                    return (width, height) if orientation >= 5 else (height, width)
    return _shape(read_image(path))[1:]


def _shape(pixels: Tensor) -> tuple[int, int, int]:
    channel, height, width = pixels.shape
    return channel, height, width
