"""Measured k-space of magnetic resonance, from files."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.data.hdf5 import SUFFIXES, check_stored, open_file

TRUTHS = ("reconstruction_rss", "reconstruction_esc")
"""What fastMRI calls the images of fully sampled k-space: of several coils, and of one."""

AXES = {
    "HDF5": ("slice, height, width", "slice, coil, height, width"),
    "npy": ("height, width", "coil, height, width", "slice, coil, height, width"),
}
"""The axes that k-space may have in a file."""


@dataclass(frozen=True)
class KSpace:
    """One slice of k-space: what every coil measured, with zeros where nothing was sampled.

    Parameters
    ----------
    y : Tensor, (coil, height, width), complex64
        in the units of the file.
    mask : Tensor, (height, width), float32
        1 where a frequency was sampled.
    centered : bool
        where the zero frequency lies, see `unrolled.operators.MaskedFourier`.
    truth : Tensor, (height, width), float32, or None
        the magnitude of the true image if it is known, in the units of the file; it may be the middle of what y shows.
    """

    y: Tensor
    mask: Tensor
    centered: bool
    truth: Tensor | None = None

    @property
    def ratio(self) -> float:
        """The part of the frequencies that was sampled."""
        return float(self.mask.mean())

    def undersampled(self, mask: Tensor) -> "KSpace":
        """As if only the frequencies of a mask had been sampled.

        Parameters
        ----------
        mask : Tensor, (height, width), of 0 and 1
            with the zero frequency where `centered` says.

        Raises
        ------
        ValueError
            if it has another size, or leaves nothing.
        """
        if mask.shape != self.mask.shape:
            raise ValueError(f"mask: must be {tuple(self.mask.shape)} like k-space, got {tuple(mask.shape)}")
        both = self.mask * mask.to(self.mask.dtype)
        if not bool((self.y * both).any()):
            raise ValueError("mask: must leave some of what was sampled, but leaves nothing")
        return replace(self, y=self.y * both, mask=both)


def read_kspace(
    path: str | Path, slice: int | None = None, key: str = "kspace", centered: bool | None = None
) -> KSpace:
    """Read one slice of k-space from an `.npy` or HDF5 file; of a volume no more than that slice is read.

    HDF5 is taken to be in the layout of fastMRI (Zbontar and others, arXiv:1811.08839): a complex data set
    (slice, height, width) of one coil or (slice, coil, height, width) of several; `mask` (width,) or (height, width) if
    it is there; `reconstruction_rss` or `reconstruction_esc` (slice, height, width) as the true image, if there.
    NumPy files hold (height, width), (coil, height, width) or (slice, coil, height, width).

    Sampled is where k-space is not 0 in every coil. If the file has a mask of columns: those columns of it that are not
    0 altogether, for fastMRI pads k-space with columns of 0.

    Parameters
    ----------
    path : str or Path
        `.npy`, `.h5` or `.hdf5`.
    slice : int >= 0, optional
        by default the one in the middle of the volume.
    key : str
        the name of the data set in HDF5.
    centered : bool, optional
        whether the zero frequency lies in the middle and not at [0, 0]. By default it does in HDF5, and not in `.npy`.

    Raises
    ------
    ValueError
        if there is no such file, data set or slice; if k-space is not complex, not finite, 0 everywhere, or has other
        axes; if it lies in another file or was not written to the size that is claimed; if mask or true image do not
        fit it.
    """
    path = Path(path)
    if path.suffix.lower() not in (".npy", *SUFFIXES):
        raise ValueError(f"k-space: {path} must end in one of .npy, {', '.join(SUFFIXES)}")
    if not os.path.isfile(path):
        raise ValueError(f"k-space: there is no file {path}")
    if path.suffix.lower() == ".npy":
        y = _read_npy(path, slice)
        return KSpace(y, _nonzero(y), bool(centered))
    with open_file(path) as file:
        try:
            return _read_hdf5(file, path, slice, key, True if centered is None else centered)
        except (KeyError, OSError, RuntimeError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"k-space: {path} is damaged: {error}") from error


def _read_npy(path: Path, index: int | None) -> Tensor:
    try:
        # Mapped, so that a header cannot claim more than there is.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # whatever the reader makes of what is in the file
        raise ValueError(f"k-space: {path} cannot be read as .npy: {error or type(error).__name__}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"k-space: {path} is an archive of several arrays (.npz); save one array with numpy.save")
    _check_axes(array, path, "npy")
    if array.ndim < 4 and index is not None:
        raise ValueError(f"k-space: {path} holds one slice, {array.shape}; slice must be left out, got {index!r}")
    numbers = array[_which(index, len(array), path)] if array.ndim == 4 else array
    return _checked(numbers if numbers.ndim == 3 else numbers[None], path)


def _read_hdf5(file: Any, path: Path, index: int | None, key: str, centered: bool) -> KSpace:
    data = _own(file, path, key)
    if data is None:
        raise ValueError(f"k-space: {path} has no data set {key!r}; it holds {', '.join(_names(file)) or 'nothing'}")
    _check_axes(data, path, "HDF5")
    number = _which(index, len(data), path)
    numbers = np.asarray(data[number])
    y = _checked(numbers if numbers.ndim == 3 else numbers[None], path)
    mask = _read_mask(_own(file, path, "mask"), path, y)
    found = next((each for name in TRUTHS if (each := _own(file, path, name)) is not None), None)
    return KSpace(y * mask, mask, centered, None if found is None else _read_truth(found, path, number, len(data), y))


def _own(file: Any, path: Path, key: str) -> Any:
    """A data set that lies in the file itself, not behind a link; None if there is none of that name."""
    import h5py

    if key not in _names(file) or not isinstance(file.get(key, getlink=True), h5py.HardLink):
        return None
    item = file[key]
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return None
    check_stored(item, path, key)
    return item


def _names(file: Any) -> Iterable[str]:
    return [str(name) for name in file]


def _check_axes(data: Any, path: Path, layout: str) -> None:
    allowed = {axes.count(",") + 1 for axes in AXES[layout]}
    if data.dtype.kind != "c":
        raise ValueError(f"k-space: {path}: must be complex, is {data.dtype}")
    if data.ndim not in allowed or 0 in data.shape:
        wanted = " or ".join(f"({axes})" for axes in AXES[layout])
        raise ValueError(f"k-space: {path}: must be {wanted}, none of them 0, is {data.shape}")


def _which(index: int | None, count: int, path: Path) -> int:
    if index is None:
        return count // 2
    if not 0 <= index < count:
        raise ValueError(f"k-space: {path} has slices 0 … {count - 1}, got slice {index!r}")
    return index


def _checked(numbers: np.ndarray, path: Path) -> Tensor:
    with np.errstate(over="ignore"):
        y = torch.from_numpy(np.array(numbers, dtype=np.complex64, order="C"))
    bad = int((~torch.isfinite(torch.view_as_real(y))).any(-1).sum())
    if bad:
        raise ValueError(f"k-space: {path}: must be finite, but {bad} numbers are NaN or inf (or too large)")
    if not bool(y.any()):
        raise ValueError(f"k-space: {path}: is 0 everywhere in this slice, so nothing was sampled")
    return y


def _nonzero(y: Tensor) -> Tensor:
    return (y != 0).any(0).float()


def _read_mask(data: Any, path: Path, y: Tensor) -> Tensor:
    """The frequencies that are sampled, (height, width)."""
    if data is None:
        return _nonzero(y)
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


def _read_truth(data: Any, path: Path, number: int, count: int, y: Tensor) -> Tensor:
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
