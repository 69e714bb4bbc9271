"""Images at rest: in memory, in files, in HDF5; of known sizes, read whole or in part when they are asked for."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from unrolled.data.file_numbers import kind_of
from unrolled.data.images import FORMATS, check_size, numbers_in, orientation_of, read_image, read_with_range
from unrolled.data.unit_images import as_image, as_single, to_unit
from unrolled.system.scales import UNIT, Range, Scale, as_scale, brightness, refuse_dark, states_white

CACHE_MIB = 1024
LOOKED_AT = 64
"""Images of a set that are looked at, at most, to tell whether the set is dark."""

ALL = slice(None)


class StoredImage(ABC):
    """An image of which the shape is known and the pixels are read when they are asked for.

    Attributes
    ----------
    shape : (channel, height, width)
    kind : dtype, or None
        of the numbers that are stored, where they alone tell what white is; None where a scale was given, or the type
        leaves no doubt.
    is_complex : bool
        whether the numbers are complex.
    name : str
        that tables call it, of a file.
    """

    shape: tuple[int, int, int]
    kind: torch.dtype | None = None
    is_complex: bool = False
    name: str = ""

    @abstractmethod
    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        """A window of the image.

        Returns
        -------
        Tensor, (channel, rows, columns)
            as it is stored: uint8, where 255 is white, or float32 or complex64 with white at 1; `to_float` gives
            floating point of all.
        """

    def with_range(self) -> tuple[Tensor, Range]:
        """The whole image in floating point with white at 1, and its range as `read_with_range` has it."""
        return to_float(self.read()), UNIT


class MemoryImage(StoredImage):
    """An image in memory, as bytes where that loses nothing.

    Parameters
    ----------
    pixels : Tensor or array, (channel, height, width) or (height, width), or a picture of Pillow
    scale : Scale, optional
        what white is, see `unrolled.data.unit_images.to_unit`.
    what : str
        what messages call it.
    """

    def __init__(self, pixels: Any, scale: Scale | None = None, what: str = "image"):
        self.range = UNIT
        given = None if isinstance(pixels, Image.Image) else as_image(what, pixels)
        if given is not None and given.dtype == torch.uint8 and scale is None:
            self.pixels = given
        else:
            kind = kind_of(pixels) if given is None else given.dtype
            image, span = to_unit(what, pixels if given is None else given, scale)
            self.pixels = as_stored(image)
            self.range = span if span.given else UNIT
            if not span.given and not states_white(kind):
                self.kind = kind
        self.shape, self.is_complex = _shape(self.pixels), self.pixels.is_complex()

    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        return self.pixels[:, rows, columns]

    def with_range(self) -> tuple[Tensor, Range]:
        return to_float(self.pixels), self.range


class FileImage(StoredImage):
    """An image file, decoded whenever it is read.

    Parameters
    ----------
    path : Path
    color : bool
        as in `read_image`.
    scale : Scale, optional
        likewise.
    """

    def __init__(self, path: Path, color: bool = False, scale: Scale | None = None):
        self.path, self.color, self.scale, self.name = path, color, scale, path.name

    @cached_property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        return (3 if self.color else 1, *image_size(self.path, self.scale))

    @cached_property
    def kind(self) -> torch.dtype | None:  # type: ignore[override]
        kind = numbers_in(self.path)
        return None if self.scale is not None or states_white(kind) else kind

    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        pixels = as_stored(read_image(self.path, self.color, self.scale))
        if _shape(pixels) != self.shape:
            raise ValueError(
                f"image: {self.path} was of {self.shape} (channel, height, width), is {_shape(pixels)} now"
            )
        return pixels[:, rows, columns]

    def with_range(self) -> tuple[Tensor, Range]:
        return read_with_range(self.path, self.color, self.scale)[:2]


class ImageStore(Dataset[Tensor]):
    """Many images behind one index; a map-style data set of whole images, float32 or complex64 with white at 1.

    Images of files are read at once, and kept, as long as they fit into the cache; the others are read again each time
    they are drawn. 8-bit images are kept as bytes; what 8 bits cannot hold (16-bit, floating-point and complex images)
    is kept as float32 or complex64, so that caching never changes a pixel.

    Parameters
    ----------
    images : sequence of StoredImage, or of images (channel, height, width) or (height, width)
        tensors, arrays or pictures of Pillow; all real or all complex.
    cache_mib : int
        the most memory for pixels that are read from files, in MiB, in every process; 0 reads them anew each time.
    scale : Scale, optional
        what white is in images that are not StoredImages, see `unrolled.data.unit_images.to_unit`.

    Raises
    ------
    ValueError
        if cache_mib is negative, an image cannot be read or its white is not known, or all are so dark that they are
        probably in other units.
    """

    def __init__(self, images: Sequence[Any], cache_mib: int = CACHE_MIB, scale: Scale | None = None):
        if cache_mib < 0:
            raise ValueError(f"images: cache_mib must be >= 0, got {cache_mib!r}")
        scale = as_scale("images", scale)
        self.images = cached(stored(images, scale), cache_mib)
        if len({image.is_complex for image in self.images}) > 1:
            raise ValueError("images: must all be real, or all complex, but some are real and some complex")
        check_bright(self.images)

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


def stored(images: Iterable[Any], scale: Scale | None = None, what: str = "image") -> Iterator[StoredImage]:
    """Images as users have them as StoredImages; those that are so already stay."""
    for index, image in enumerate(images):
        yield as_stored_image(image, scale, f"{what} {index}")


def as_stored_image(image: Any, scale: Scale | None = None, what: str = "image") -> StoredImage:
    """An image as a user has it, which may be a file, as a StoredImage; one that is so already stays."""
    if isinstance(image, (str, Path)):
        return FileImage(Path(image), scale=scale)
    return image if isinstance(image, StoredImage) else MemoryImage(image, scale, what)


def check_bright(images: Sequence[StoredImage], what: str = "images") -> None:
    """Raise ValueError if all images are so dark that their white is probably not what their type makes of it.

    Of a large set images from all over it are looked at, until one is bright.
    """
    some = images[:: -(-len(images) // LOOKED_AT) or 1]
    refuse_dark(
        what,
        ((0.0 if image.kind is None else brightness(to_float(image.read())), image.kind) for image in some),
    )


def cached(images: Iterable[StoredImage], mib: int) -> list[StoredImage]:
    """The images, those first that fit into so many MiB read into memory."""
    left = mib * 2**20
    kept: list[StoredImage] = []
    for image in tqdm(images, desc="reading images", unit="image", delay=3, leave=False, disable=None):
        channel, height, width = image.shape
        if not isinstance(image, MemoryImage) and channel * height * width <= left:
            read = _Read(image)
            if read.pixels.nbytes <= left:
                left -= read.pixels.nbytes
                image = read
        kept.append(image)
    return kept


class _Read(MemoryImage):
    """A stored image that is kept in memory."""

    def __init__(self, image: StoredImage):
        self.pixels, self.shape = image.read(), image.shape
        self.kind, self.is_complex = image.kind, image.is_complex
        self.with_range = image.with_range  # type: ignore[method-assign]


def as_stored(pixels: Tensor) -> Tensor:
    """Pixels as uint8 if that holds them exactly, otherwise as float32 or complex64.

    Parameters
    ----------
    pixels : Tensor, uint8, or floating point with white at 1
    """
    if pixels.dtype == torch.uint8:
        return pixels
    pixels = as_single(pixels)
    if pixels.is_complex():
        return pixels
    coarse = torch.empty_like(pixels, dtype=torch.uint8)
    # By rows, so that a large image is not in memory several times over.
    for part, into in zip(pixels.split(256, dim=-2), coarse.split(256, dim=-2), strict=True):
        into.copy_((part * 255).round().clamp(0, 255))
        if not torch.equal(to_float(into), part):
            return pixels
    return coarse


def to_float(pixels: Tensor) -> Tensor:
    """Stored pixels in floating point with white at 1."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def image_size(path: Path, scale: Scale | None = None) -> tuple[int, int]:
    """(height, width) of an image file, turned upright, from its header where that is enough."""
    if os.path.isfile(path):  # a pipe would wait forever
        with suppress(Exception), warnings.catch_warnings():  # what is odd is left to the decoder, which names it
            warnings.simplefilter("error")
            with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:
                check_size(file, path)
                width, height = file.size
                orientation = orientation_of(file)
                if orientation == 1:
                    return height, width
                if file.format == "JPEG":
                    return (width, height) if orientation >= 5 else (height, width)
    return _shape(read_image(path, scale=scale))[1:]


def _shape(pixels: Tensor) -> tuple[int, int, int]:
    channel, height, width = pixels.shape
    return channel, height, width
