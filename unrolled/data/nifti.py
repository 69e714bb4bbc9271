"""NIfTI: volumes of medical images, read with nibabel, whose headers are checked before numbers are read."""

import gzip
import math
import os
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unrolled.data.slices import Slice, Volume, in_units, reading
from unrolled.system.claims import affordable, check_claim
from unrolled.system.scales import Scale

SUFFIXES = (".nii", ".nii.gz")

HEADER = 540
"""Bytes of the longer of the two headers, that of NIfTI-2; that of NIfTI-1 has 348."""

TAKEN = 20
"""Bytes that a number takes while a volume is read: as it is packed, unpacked and scaled."""


class Header(NamedTuple):
    """What the header of a file says.

    shape : (width, height, slice)
    kind : NumPy's type of the numbers
    affine : array (4, 4), from indices (width, height, slice) to millimetres, or None
    """

    shape: tuple[int, int, int]
    kind: np.dtype
    affine: np.ndarray | None


def open_nifti(path: Path, color: bool = False, scale: Scale | None = None) -> Volume:
    """The slices of a NIfTI file, along its third axis; rows of a slice lie along the second.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`, of NIfTI-1 or NIfTI-2.
    color, scale
        as in `read_image`; the numbers are those of the file by its slope and intercept.

    Raises
    ------
    ValueError
        if nibabel is missing, the file is broken, has more than three axes, colours, or claims more than it holds.
    """
    size = os.path.getsize(path)
    with reading("NIfTI", path, "nibabel"):
        header = _header(path, _unpacked(path, HEADER))
        check_claim("its volume", TAKEN * math.prod(header.shape), size)
    width, height, count = header.shape
    shape = 3 if color else 1, height, width
    slices = [
        Slice(f"{path.name} {number}", partial(_slice, path, number), shape, scale, header.kind)
        for number in range(count)
    ]
    return Volume(list(slices), path, header.affine)


def _slice(path: Path, number: int) -> np.ndarray:
    """A slice, (height, width), in the units of the file."""
    with reading("NIfTI", path, "nibabel"):
        stored, slope, intercept = _numbers(path, os.stat(path).st_mtime_ns)
        return in_units(np.ascontiguousarray(stored[..., number].T), slope, intercept)


@lru_cache(maxsize=1)
def _numbers(path: Path, changed: int) -> tuple[np.ndarray, float, float]:
    """The numbers of a file as they are stored, (width, height, slice), slope and intercept; kept for more slices."""
    size = os.path.getsize(path)
    header = _header(path, _unpacked(path, HEADER))
    data = _unpacked(path, affordable(size) // 2)
    proxy = _image_class(data).from_bytes(data).dataobj  # which names what is cut short
    return np.asarray(proxy.get_unscaled()).reshape(header.shape), float(proxy.slope), float(proxy.inter)


def _header(path: Path, data: bytes) -> Header:
    header = _image_class(data).header_class.from_fileobj(BytesIO(data), check=False)
    axes = tuple(int(length) for length in header.get_data_shape())
    if len(axes) < 2 or min(axes) < 1 or any(length != 1 for length in axes[3:]):
        raise ValueError(f"must have the axes width, height and slice, none of them 0, has {axes}; split it")
    kind = header.get_data_dtype()
    if kind.kind not in "iufc":
        raise ValueError(f"has numbers of the type {kind}, and neither whole, real nor complex ones")
    affine = np.asarray(header.get_best_affine(), float)
    width, height, count = (*axes, 1)[:3]
    return Header((width, height, count), kind, affine if np.isfinite(affine).all() else None)


def _image_class(data: bytes) -> Any:
    import nibabel

    lengths = {int.from_bytes(data[:4], order) for order in ("little", "big")}
    if 348 in lengths:
        return nibabel.Nifti1Image
    if 540 in lengths:
        return nibabel.Nifti2Image
    raise ValueError("is not a file of NIfTI")


def _unpacked(path: Path, most: int) -> bytes:
    """The first bytes of a file, unpacked if it is packed.

    Raises
    ------
    ValueError
        if a packed file has more than `affordable` bytes.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return file.read() if most > HEADER else file.read(most)
        with gzip.open(file) as stream:
            data = stream.read(most)
            if most > HEADER and stream.read(1):
                raise ValueError(f"unpacks to more than {most:,} bytes; store it without compression if it is meant so")
            return data
