"""The layout of fastMRI's HDF5: masks, true images, and what is stated of a volume beside its numbers."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.data.hdf5 import check_stored
from unrolled.data.kspace_layout import magnitude, middle, nonzero
from unrolled.system.hdf5_heaps import Heaps, text_attribute
from unrolled.system.hdf5_sets import is_link

RSS, ESC = "reconstruction_rss", "reconstruction_esc"
"""What fastMRI calls the images of fully sampled k-space: the root of the sum of squares over all coils that there
were, and that of the one coil of a single-coil file."""

LONGEST = 1000
"""Bytes of a text that is an attribute."""

SAME = 0.02
"""Relative difference up to which the image of a file is that of its k-space."""


def own_set(file: Any, path: Path, key: str) -> Any:
    """A data set that lies in the file itself, not behind a link; None if there is none of that name."""
    import h5py

    if key not in names_of(file) or is_link(file, key):
        return None
    item = file[key]
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return None
    check_stored(item, path, key)
    return item


def names_of(file: Any) -> list[str]:
    """The names at the root of an open file."""
    return [str(name) for name in file]


def find_truth(
    file: Any, path: Path, number: int, count: int, y: Tensor, mask: Tensor, centered: bool
) -> Tensor | None:
    """The true image of a slice: of one coil that of this coil, of several that of all.

    Parameters
    ----------
    file, path : an open file, and where it is
    number, count : int
        of the slice, and of slices.
    y, mask, centered
        the slice's k-space, see `unrolled.data.kspace_files.KSpace`.
    """
    single = len(y) == 1
    right, other = (ESC, RSS) if single else (RSS, ESC)
    found = own_set(file, path, right)
    if found is not None:
        return _read_truth(found, path, number, count)
    found = own_set(file, path, other)
    if found is None:
        return None
    truth = _read_truth(found, path, number, count)
    rows, columns = truth.shape
    if bool(mask.all()) and rows <= mask.shape[0] and columns <= mask.shape[1]:
        own = middle(magnitude(y, centered), (rows, columns))
        if float((own - truth).norm()) <= SAME * float(truth.norm()):
            return truth
    warnings.warn(
        f"k-space: {path}: holds k-space of {'one coil' if single else 'several coils'} and {other!r}, the image of "
        f"{'all coils that there were' if single else 'one coil'}; only {right!r} is taken for the true image",
        stacklevel=4,
    )
    return None


def read_mask(data: Any, path: Path, y: Tensor) -> Tensor:
    """The frequencies that are sampled, (height, width)."""
    if data is None:
        return nonzero(y)
    height, width = y.shape[-2:]
    if data.shape not in ((width,), (height, width)) or data.dtype.kind not in "buif":
        raise ValueError(
            f"k-space: {path}: mask must be numbers ({width},) or ({height}, {width}), is {data.dtype} {data.shape}"
        )
    numbers = np.asarray(data[()])
    if not ((numbers == 0) | (numbers == 1)).all():
        raise ValueError(f"k-space: {path}: mask must be of 0 and 1")
    if numbers.ndim == 2:
        mask = torch.from_numpy(numbers.astype(np.float32))
    else:
        mask = torch.from_numpy(numbers.astype(np.float32)) * (y != 0).flatten(0, 1).any(0)
        mask = mask.expand(height, width).clone()
    if not bool((y * mask).any()):
        raise ValueError(f"k-space: {path}: is 0 wherever its mask samples it")
    return mask


def _read_truth(data: Any, path: Path, number: int, count: int) -> Tensor:
    if data.ndim != 3 or data.dtype.kind != "f" or len(data) != count or 0 in data.shape:
        raise ValueError(
            f"k-space: {path}: {data.name[1:]!r} must be floating point ({count}, height, width), "
            f"is {data.dtype} {data.shape}"
        )
    with np.errstate(over="ignore"):
        truth = torch.from_numpy(np.asarray(data[number]).astype(np.float32))
    if not bool(torch.isfinite(truth).all()) or not bool((truth > 0).any()):
        raise ValueError(f"k-space: {path}: {data.name[1:]!r} must be finite, and greater than 0 somewhere")
    return truth.abs()


@dataclass(frozen=True)
class VolumeFacts:
    """What a file says of its k-space beside the numbers.

    Parameters
    ----------
    slices : int
    shape : (coil, height, width)
        of k-space, of every slice.
    acquisition : str or None
        what fastMRI calls the kind of the scan, such as "AXT2" or "CORPDFS_FBK".
    patient_id : str or None
        fastMRI's name for the patient.
    max, norm : float or None
        the largest value and the norm of the true volume, as fastMRI states them.
    """

    slices: int
    shape: tuple[int, int, int]
    acquisition: str | None = None
    patient_id: str | None = None
    max: float | None = None
    norm: float | None = None


def stated_facts(file: Any, path: Path, slices: int, shape: tuple[int, int, int]) -> VolumeFacts:
    """The facts of an open file in this layout, whose attributes need not be there."""
    with Heaps(path, file) as heaps:
        acquisition, patient = (text_attribute(heaps, file, name, LONGEST) for name in ("acquisition", "patient_id"))
    return VolumeFacts(slices, shape, acquisition, patient, _number(file, "max"), _number(file, "norm"))


def _number(file: Any, name: str) -> float | None:
    if name not in file.attrs:
        return None
    kind = file.attrs.get_id(name)
    number = float(file.attrs[name]) if kind.dtype.kind in "fiu" and kind.shape == () else math.nan
    return number if math.isfinite(number) else None
