"""Arrays from .npy, .mat and .h5 files, whose headers are checked before memory is allocated."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.system.arraylike import EXACT_KINDS, are_complex, with_complex
from unrolled.system.claims import check_claim
from unrolled.system.files import as_path
from unrolled.system.hdf5_sets import check_unpacking, is_link, lies_elsewhere
from unrolled.system.matlab import variables

EXPANSION = 1100
"""No compression that is read here makes data smaller than this: deflate reaches 1032."""

TAKEN = 32
"""Bytes that a number takes while it is read: once in double precision as it is returned, once before."""


def read_array(path: str | Path, key: str | None = None, dimensions: int | tuple[int, ...] | None = None) -> Tensor:
    """Read an array of numbers from `.npy`, `.mat` (any version) or `.h5`; see `read_matrix`.

    Nothing in the file is executed (object arrays are refused) and links to other files are not followed. Of `.h5` and
    MATLAB 7.3 the data sets that lie outside of groups are looked at.

    Parameters
    ----------
    path : str or Path
    key : str, optional
        the name of the array; needed if the file holds several.
    dimensions : int or tuple of int, optional
        only arrays of so many dimensions, or of one of these numbers of them, are looked at.

    Returns
    -------
    Tensor, float64 or complex128

    Raises
    ------
    ValueError
        if the file does not exist, cannot be read, or does not hold one such array; it says what is there.
    """
    path = as_path("array", path)
    if not os.path.isfile(path):
        raise ValueError(f"array: there is no file {path}")
    openers = {".npy": _open_npy, ".mat": _open_mat, ".h5": _open_h5, ".hdf5": _open_h5}
    if path.suffix.lower() not in openers:
        raise ValueError(f"array: {path} must end in one of {', '.join(openers)}")
    try:
        with openers[path.suffix.lower()](path) as entries:
            return torch.from_numpy(_choose(entries, key, dimensions).read(os.path.getsize(path)))
    except _Refused as error:
        raise ValueError(f"array: {path} {error}") from None
    except Exception as error:  # the readers of three libraries, on whatever is in the file
        raise ValueError(f"array: {path} cannot be read as {path.suffix}: {error or type(error).__name__}") from error


class _Refused(ValueError):
    """A file that can be read, but is not what was asked for."""


@dataclass
class _Entry:
    """An array that a file says it holds; its numbers are read only when it is chosen."""

    name: str
    shape: tuple[int, ...]
    kind: str
    load: Any  # () → array; None for what is not an array of numbers
    itemsize: int = 1
    """Bytes of a number, at least."""
    written: int | None = None
    """Bytes that the file holds of it, if it says so: what was never written would read as 0."""
    packed: bool = True
    """Whether the file may be compressed."""

    def __str__(self) -> str:
        return f"{self.name[:100]} ({self.kind[:100]}, {' × '.join(map(str, self.shape)) or 'a single number'})"

    def read(self, size: int) -> np.ndarray:
        """The numbers, in double precision; the size of the file, in bytes, bounds what can be in it."""
        held = size if self.written is None else min(size, self.written)
        numbers = math.prod(self.shape)
        if self.itemsize * numbers > (EXPANSION if self.packed else 1) * held:
            raise _Refused(f"claims more than it can hold: {self}, in {held:,} bytes")
        check_claim(str(self), TAKEN * numbers, size)
        array = with_complex(np.asarray(self.load()))
        return np.array(array, dtype=np.complex128 if array.dtype.kind == "c" else np.float64, order="C")


def _choose(entries: list[_Entry], key: str | None, dimensions: int | tuple[int, ...] | None) -> _Entry:
    allowed = (dimensions,) if isinstance(dimensions, int) else dimensions
    found = [
        entry
        for entry in entries
        if entry.load is not None and (allowed is None or len(entry.shape) in allowed) and key in (None, entry.name)
    ]
    if len(found) != 1:
        wanted = "matrix" if dimensions == 2 else "array"
        there = ", ".join(map(str, entries[:20])) or "nothing"
        raise _Refused(f"must hold one {wanted}{f' {key!r}' if key else ''}; found: {there}")
    return found[0]


@contextmanager
def _open_npy(path: Path) -> Iterator[list[_Entry]]:
    # Mapped, so that a header cannot claim more than there is.
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise _Refused("is an archive of several arrays (.npz); save one array with numpy.save")
    load = (lambda: array) if array.dtype.kind in EXACT_KINDS else None
    yield [_Entry(path.stem, array.shape, str(array.dtype), load, array.dtype.itemsize, packed=False)]


@contextmanager
def _open_mat(path: Path) -> Iterator[list[_Entry]]:
    import h5py
    from scipy.io import loadmat, whosmat

    if h5py.is_hdf5(path):  # MATLAB 7.3, which stores matrices transposed
        with _open_h5(path) as entries:
            for entry in entries:
                entry.shape = entry.shape[::-1]
                entry.load = entry.load and (lambda load=entry.load: load().T)
            yield entries
        return
    data = path.read_bytes()
    if 0 not in data[:4]:
        yield [_Entry(*variable) for variable in variables(data)]
        return

    def stream() -> Any:  # of which the stubs of scipy know only files
        return BytesIO(data)

    yield [  # version 4, which has nothing but matrices of numbers and of characters
        _Entry(
            name,
            shape,
            kind,
            (lambda name=name: loadmat(stream(), variable_names=[name])[name])
            if kind not in ("char", "sparse")
            else None,
            packed=False,
        )
        for name, shape, kind in whosmat(stream())  # which gives no more than there is, whatever is asked for
    ]


@contextmanager
def _open_h5(path: Path) -> Iterator[list[_Entry]]:
    import h5py

    with h5py.File(path, "r") as file:
        entries = []
        for name in file:
            if is_link(file, name):
                entries.append(_Entry(name, (), "link, not followed", None))
                continue
            item = file[name]
            if not isinstance(item, h5py.Dataset):
                entries.append(_Entry(name, (), "group", None))
                continue
            elsewhere = lies_elsewhere(item)
            numbers = item.dtype.kind in EXACT_KINDS or are_complex(item.dtype)
            readable = numbers and not elsewhere and item.shape is not None
            kind = "in another file" if elsewhere else str(item.dtype)
            load = (lambda item=item: _unpacked(path, item)) if readable else None
            entries.append(_Entry(name, item.shape or (), kind, load, item.dtype.itemsize, item.id.get_storage_size()))
        yield entries


def _unpacked(path: Path, item: Any) -> np.ndarray:
    check_unpacking(path, item)
    return np.asarray(item[()])
