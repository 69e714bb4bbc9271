"""TIFF of numbers that Pillow does not read, or not right: floating point of 16 and 64 bits, colors of more than 8
bits, bytes with a sign."""

import math
import os
from pathlib import Path

import numpy as np

from unrolled.data.file_numbers import Refused
from unrolled.system.arrays import EXPANSION, TAKEN
from unrolled.system.claims import check_claim

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF begin, in either order of bytes."""

ZERO_IS_WHITE = "has more than 8 bits, or a sign, with 0 as white; save it with 0 as black"


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFF does."""
    with open(path, "rb") as stream:
        return stream.read(4) in MARKS


def read_tiff(path: Path) -> tuple[np.ndarray, int]:
    """The numbers of a TIFF of one image, (height, width) or (height, width, channel), and its orientation.

    Raises
    ------
    ValueError
        for several images, other axes, and more numbers than the file can hold.
    """
    from tifffile import TiffFile

    with TiffFile(path) as file:
        if len(file.pages) != 1:
            raise Refused(f"holds {len(file.pages)} images; split it into files of one image")
        page = file.pages.first
        if sum(page.databytecounts) > os.path.getsize(path):
            raise ValueError(f"it claims {sum(page.databytecounts):,} packed bytes, more than the file has")
        claimed = math.prod(page.shape) * (page.dtype.itemsize if page.dtype else 1)
        if claimed > EXPANSION * os.path.getsize(path):
            raise Refused(f"claims {claimed:,} bytes of pixels, more than it can hold")
        check_claim("its pixels", TAKEN * math.prod(page.shape), os.path.getsize(path))
        if page.axes not in ("YX", "YXS", "SYX"):
            raise Refused(f"must have the axes height, width and colors, has {page.axes}")
        if page.photometric == 0:
            raise Refused(ZERO_IS_WHITE)
        pixels = page.asarray()
        orientation = page.tags.valueof("Orientation", default=1)
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    return pixels, orientation if isinstance(orientation, int) else 1
