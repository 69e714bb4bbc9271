"""Reconstructions out: pictures, numbers and volumes. What a file holds is decided by the ending of its name."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unrolled.figures.pictures import save_picture
from unrolled.system.files import replacing
from unrolled.system.scales import Range, Scale


class Unwritable(ValueError):
    """Images that a file of some kind does not hold."""


class Ending(NamedTuple):
    """What files of an ending can hold.

    bits : of a number, the first by default; 32 is floating point
    stacks : whether several images
    colors : bits with which they may have red, green and blue
    """

    bits: tuple[int, ...]
    stacks: bool
    colors: tuple[int, ...]


PICTURE = Ending((8,), False, (8,))
VOLUME = Ending((32,), True, ())

ENDINGS = {
    ".png": Ending((8, 16), False, (8,)),
    **dict.fromkeys((".tif", ".tiff"), Ending((8, 16, 32), False, (8, 16, 32))),
    **dict.fromkeys((".jpg", ".jpeg", ".bmp", ".webp"), PICTURE),
    ".npy": Ending((32,), True, (32,)),
    **dict.fromkeys((".h5", ".hdf5", ".nii", ".nii.gz"), VOLUME),
}

DEEPEST = 65535
LEVELS = 255
"""Numbers of 16 bits reach so far, and an image in them should have so many levels at least."""

RECONSTRUCTION = "reconstruction"
"""What fastMRI calls the images in a file that is submitted, (slice, height, width)."""


def ending_of(path: Path) -> str:
    """The ending that says what a file holds, in small letters; it may have two parts."""
    name = path.name.lower()
    return next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.endswith(ending)), path.suffix)


@dataclass(frozen=True)
class Output:
    """How reconstructions are written.

    Parameters
    ----------
    ending : str
        one of `ENDINGS`.
    bits : 8, 16 or 32, optional
        of a number. With 8 an image is a picture between black and white. With 16, and with 32, which is floating
        point, it has its own units if a scale was given; without one, white is 65535, and 1.

    Raises
    ------
    ValueError
        for an unknown ending, or bits that it does not hold.
    """

    ending: str
    bits: int = 0

    def __post_init__(self) -> None:
        if self.ending not in ENDINGS:
            raise ValueError(f"out: a file must end in one of {', '.join(ENDINGS)}, got {self.ending!r}")
        allowed = ENDINGS[self.ending].bits
        if self.bits and self.bits not in allowed:
            fitting = [ending for ending, each in ENDINGS.items() if self.bits in each.bits]
            kind = "floating point" if self.bits == 32 else f"{self.bits} bits"
            others = f"; {kind}: {', '.join(fitting)}" if fitting else ""
            raise ValueError(f"bits: {self.ending} holds {' or '.join(map(str, allowed))}, got {self.bits}{others}")
        if self.ending.startswith(".nii") and find_spec("nibabel") is None:
            raise ValueError("out: NIfTI is written with nibabel: pip install 'unrolled[medical]'")
        object.__setattr__(self, "bits", self.bits or allowed[0])

    @property
    def stacks(self) -> bool:
        """Whether a file holds several images."""
        return ENDINGS[self.ending].stacks

    def check(self, what: str, color: bool, is_complex: bool, scale: Scale | None) -> None:
        """Raise ValueError unless files hold such images.

        Parameters
        ----------
        what : str
            what the images are called.
        color, is_complex : bool
        scale : Scale, optional
        """
        held = ENDINGS[self.ending]
        if color and self.bits not in held.colors:
            fitting = ", ".join(f"{ending}" for ending, each in ENDINGS.items() if self.bits in each.colors)
            raise Unwritable(f"out: {self.ending} of {self.bits} bits holds no colours, as {fitting} do")
        if is_complex and not (held.stacks and self.bits == 32):
            fitting = ", ".join(ending for ending, each in ENDINGS.items() if each.stacks)
            raise Unwritable(
                f"out: {what} is complex, which {self.ending} does not hold; choose one of {fitting}, or give magnitude"
            )
        if self.bits == 16 and scale is not None and not isinstance(scale, str):
            _check_levels(what, Range(*(scale if isinstance(scale, tuple) else (0.0, scale)), True))

    def write(self, path: Path, images: Sequence[Tensor], spans: Sequence[Range], affine: Any = None) -> None:
        """Write a file, which is whole or not there.

        Parameters
        ----------
        path : Path
        images : list of Tensor, (1 or 3, height, width), of one size
            with black at 0 and white at 1.
        spans : list of Range
            what they are in the units of the file.
        affine : array (4, 4), optional
            where a volume is in space, see `unrolled.data.slices.Volume`; NIfTI alone has a place for it.

        Raises
        ------
        ValueError
            if it cannot be written, or numbers of 16 bits would not tell of the image.
        """
        if self.bits == 8:
            save_picture(path, images[0])
            return
        if self.bits == 16:
            pixels = _whole(str(path), images[0], spans[0])
            with replacing(path) as temporary:
                self._write_pixels(temporary, pixels)
            return
        numbers = np.stack([_last(span.from_unit(each)) for each, span in zip(images, spans, strict=True)])
        numbers = numbers.astype(np.complex64 if np.iscomplexobj(numbers) else np.float32)
        with replacing(path) as temporary:
            if self.ending == ".npy":
                moved = np.moveaxis(numbers, -1, 1) if numbers.ndim == 4 else numbers
                with open(temporary, "wb") as file:
                    np.save(file, moved if len(images) > 1 else moved[0])
            elif self.ending in (".h5", ".hdf5"):
                _write_hdf5(temporary, numbers)
            elif self.ending in (".nii", ".nii.gz"):
                temporary.write_bytes(_nifti(numbers, affine, self.ending.endswith(".gz")))
            else:
                self._write_pixels(temporary, numbers[0])

    def _write_pixels(self, path: Path, pixels: np.ndarray) -> None:
        """A picture of one number or three a pixel."""
        if self.ending == ".png":
            Image.fromarray(pixels).save(path)
            return
        from tifffile import imwrite

        imwrite(path, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", metadata=None)


def _last(image: Tensor) -> np.ndarray:
    """(height, width), or (height, width, 3) in color."""
    array = image.detach().cpu().numpy()
    return array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)


def _check_levels(what: str, span: Range) -> None:
    """Raise ValueError unless whole numbers from 0 to 65535 tell of an image."""
    if span.given and not (span.black >= 0 and span.white <= DEEPEST and span.white - span.black >= LEVELS):
        raise Unwritable(
            f"out: {what} reaches from {span.black:g} (black) to {span.white:g} (white), and numbers of 16 bits are "
            f"whole, from 0 to {DEEPEST}; choose 32 bits (.tif, .npy, .h5, .nii), or 8 for a picture"
        )


def _whole(what: str, image: Tensor, span: Range) -> np.ndarray:
    """An image in whole numbers of 16 bits, rounded and clipped to what they can hold."""
    _check_levels(what, span)
    numbers = span.from_unit(image) if span.given else image * DEEPEST
    return _last(numbers.double().round().clamp(0, DEEPEST).to(torch.int32)).astype(np.uint16)


def _write_hdf5(path: Path, numbers: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w", locking=False) as file:  # it is locked already, as a file that is being written
        file.create_dataset(RECONSTRUCTION, data=numbers)


def _nifti(numbers: np.ndarray, affine: Any, packed: bool) -> bytes:
    """A file of NIfTI with the axes (width, height, slice), of (slice, height, width)."""
    import nibabel

    data = nibabel.Nifti1Image(np.ascontiguousarray(numbers.transpose(2, 1, 0)), affine).to_bytes()
    return gzip.compress(data, mtime=0) if packed else data
