"""Measured k-space of magnetic resonance, from files."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.data.hdf5 import SUFFIXES, open_file
from unrolled.data.ismrmrd_header import stated_matrix
from unrolled.data.kspace_fastmri import VolumeFacts, find_truth, names_of, own_set, read_mask, stated_facts
from unrolled.data.kspace_ismrmrd import RawVolume, is_ismrmrd
from unrolled.data.kspace_layout import NAMES, axis_names, in_one_layout, kspace_of_middle, nonzero
from unrolled.data.stores import ALL
from unrolled.system.arraylike import are_complex, as_numbers, as_tensor, with_complex
from unrolled.system.cfl import open_cfl
from unrolled.system.claims import check_claim
from unrolled.system.files import as_path
from unrolled.system.scalars import as_number, sides_within

TAKEN = 100
"""Bytes that each number of a slice takes while it is read and looked at."""

ENDINGS = (".npy", ".cfl", ".mrd", *SUFFIXES)

SCANNERS = {".dat": "siemens_to_ismrmrd", ".7": "ge_to_ismrmrd", ".raw": "philips_to_ismrmrd"}
"""Raw files of scanners by their endings, and the programs that convert them."""

AXES = {
    "HDF5": ("slice, height, width", "slice, coil, height, width"),
    "npy": ("height, width", "slice, coil, height, width"),
}
"""The axes of k-space in a file that states none, by their number."""


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
    size : (height, width), or None
        of the part in the middle of what y shows that is the image, if the file says so; the rest are margins that the
        scanner sampled too ("oversampling").
    """

    y: Tensor
    mask: Tensor
    centered: bool
    truth: Tensor | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, axes in (("y", "coil, height, width"), ("mask", "height, width"), ("truth", "height, width")):
            value = getattr(self, name)
            if value is None and name == "truth":
                continue
            tensor = as_tensor(f"k-space: {name}", value)
            if tensor.ndim != axes.count(",") + 1 or not tensor.numel():
                raise ValueError(f"k-space: {name} must be ({axes}), none of them 0, got {tuple(tensor.shape)}")
            tensor = as_numbers(f"k-space: {name}", tensor, torch.float32)
            own = tensor.to(torch.complex64) if name == "y" else tensor.abs() if name == "truth" else tensor
            if own.is_complex() and name == "mask":
                raise ValueError(f"k-space: mask must be of 0 and 1, got {own.dtype}")
            object.__setattr__(self, name, own)
        if self.mask.shape != self.y.shape[1:]:
            raise ValueError(f"k-space: mask must be {tuple(self.y.shape[1:])} like y, got {tuple(self.mask.shape)}")
        if not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ValueError("k-space: mask must be of 0 and 1")
        for name, value in (("y", torch.view_as_real(self.y)), ("truth", self.truth)):
            if value is not None and not bool(torch.isfinite(value).all()):
                raise ValueError(f"k-space: {name} must be finite, but holds NaN or inf")
        if self.size is not None:
            whole = self.mask.shape[0], self.mask.shape[1]
            object.__setattr__(self, "size", sides_within("k-space: size", self.size, whole))

    @property
    def ratio(self) -> float:
        """The part of the frequencies that was sampled."""
        return float(self.mask.mean())

    def undersampled(self, mask: Tensor) -> "KSpace":
        """As if only the frequencies of a mask had been sampled.

        Parameters
        ----------
        mask : Tensor or array, (height, width), of 0 and 1
            with the zero frequency where `centered` says.

        Raises
        ------
        ValueError
            if it has another size, or leaves nothing.
        """
        mask = as_tensor("mask", mask)
        if mask.shape != self.mask.shape:
            raise ValueError(f"mask: must be {tuple(self.mask.shape)} like k-space, got {tuple(mask.shape)}")
        both = self.mask * mask.to(self.mask.dtype)
        if not bool((self.y * both).any()):
            raise ValueError("mask: must leave some of what was sampled, but leaves nothing")
        return replace(self, y=self.y * both, mask=both)

    def cropped(self, size: tuple[int, int]) -> "KSpace":
        """As if only the middle of what it shows had been there, so that all that follows takes less time.

        Of k-space that is sampled in whole columns the height can be cut, to that of the image without its oversampling
        along the readout.

        Parameters
        ----------
        size : (height, width)

        Raises
        ------
        ValueError
            if it is larger, or k-space is not sampled throughout along an axis that becomes shorter.
        """
        y, mask = kspace_of_middle(self.y, self.mask, self.centered, size)
        kept = None if self.size is None else (min(self.size[0], size[0]), min(self.size[1], size[1]))
        return replace(self, y=y, mask=mask, size=kept)


def read_kspace(
    path: str | Path,
    slice: int | None = None,
    key: str = "kspace",
    centered: bool | None = None,
    axes: str | None = None,
) -> KSpace:
    """Read one slice of k-space from a file; of a volume no more than that slice is read.

    HDF5 is raw data of scanners in ISMRMRD if it has a group of that kind; what is taken of it, see
    `unrolled.data.kspace_ismrmrd`. Otherwise HDF5 is taken to be in the layout of fastMRI (Zbontar and others,
    arXiv:1811.08839): a complex data set (slice, height, width) of one coil or (slice, coil, height, width) of several;
    `mask` (width,) or (height, width) if it is there; as the true image `reconstruction_esc` of one coil and
    `reconstruction_rss` of several, each (slice, height, width), if there; of `ismrmrd_header` the size of the image.
    NumPy files hold (height, width) or (slice, coil, height, width); three axes may be of coils or of slices, so they
    must be named. Files of BART have axes of their own, see `unrolled.system.cfl`.

    Sampled is where k-space is not 0 in every coil. If the file has a mask of columns: those columns of it that are not
    0 altogether, for fastMRI pads k-space with columns of 0.

    Parameters
    ----------
    path : str or Path
        `.npy`, `.h5`, `.hdf5`, `.mrd` or `.cfl`.
    slice : int >= 0, optional
        by default the one in the middle of the volume.
    key : str
        the name of the data set in HDF5.
    centered : bool, optional
        whether the zero frequency lies in the middle and not at [0, 0]. By default it lies where most of the energy
        is; where that is not clear, files in the layout of fastMRI have it in the middle, and others must be told.
    axes : str, optional
        what the axes are, such as "coil, height, width", "slice, height, width" or "coil, slice, height, width".

    Raises
    ------
    ValueError
        if there is no such file, data set or slice; if k-space is not complex, not finite, 0 everywhere, or has other
        axes or axes that are not clear; if it lies in another file or was not written to the size that is claimed; if
        mask or true image do not fit it.
    """
    path, names = _checked_path(path), None if axes is None else axis_names(axes)
    if path.suffix.lower() == ".npy":
        y, centered = in_one_layout(_read_npy(path, slice, names), centered, path, False)
        return KSpace(y, nonzero(y), centered)
    if path.suffix.lower() == ".cfl":
        numbers, _ = _slice(_open_cfl(path, names), NAMES, slice, path)
        y, centered = in_one_layout(_checked(numbers, path), centered, path, True)
        return KSpace(y, nonzero(y), centered)
    with _opened(path) as file:
        if key not in names_of(file) and is_ismrmrd(file):
            if centered is False:
                raise ValueError(f"centered: must be left out for {path}, whose acquisitions state where they lie")
            return _read_ismrmrd(file, path, slice, names)
        return _read_hdf5(file, path, slice, key, centered, names)


def volume_facts(path: str | Path, key: str = "kspace", axes: str | None = None) -> VolumeFacts:
    """What a file says of its k-space; none of its numbers are read.

    Parameters
    ----------
    path, key, axes
        as in `read_kspace`.

    Raises
    ------
    ValueError
        as `read_kspace`, for what can be seen without the numbers.
    """
    path, names = _checked_path(path), None if axes is None else axis_names(axes)
    if path.suffix.lower() == ".npy":
        array, names = _open_npy(path, names)
        return VolumeFacts(*_counts(array.shape, names))
    if path.suffix.lower() == ".cfl":
        return VolumeFacts(*_counts(_open_cfl(path, names).shape, NAMES))
    with _opened(path) as file:
        if key not in names_of(file) and is_ismrmrd(file):
            with RawVolume(path, file, names) as volume:
                return VolumeFacts(volume.slices, volume.shape)
        data, names = _kspace_set(file, path, key, names)
        return stated_facts(file, path, *_counts(data.shape, names))


def _counts(shape: tuple[int, ...], names: tuple[str, ...]) -> tuple[int, tuple[int, int, int]]:
    lengths = dict(zip(names, map(int, shape), strict=True))
    return lengths.get("slice", 1), (lengths.get("coil", 1), lengths["height"], lengths["width"])


def _checked_path(path: str | Path) -> Path:
    path = as_path("k-space", path)
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        how = f"; convert it to ISMRMRD first, by {SCANNERS[suffix]}" if suffix in SCANNERS else ""
        raise ValueError(f"k-space: {path} must end in one of {', '.join(ENDINGS)}{how}")
    if not os.path.isfile(path):
        raise ValueError(f"k-space: there is no file {path}")
    return path


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open HDF5 file; what is wrong with it is a ValueError."""
    with open_file(path) as file:
        try:
            yield file
        except (KeyError, OSError, RuntimeError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"k-space: {path} is damaged: {error}") from error


def _open_npy(path: Path, names: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        # Mapped, so that a header cannot claim more than there is.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # whatever the reader makes of what is in the file
        raise ValueError(f"k-space: {path} cannot be read as .npy: {error or type(error).__name__}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"k-space: {path} is an archive of several arrays (.npz); save one array with numpy.save")
    if array.ndim == 3 and names is None and are_complex(array.dtype):
        if len(array) != 1:
            raise ValueError(
                f"k-space: {path}: is {array.shape}, which may be coils or slices; give axes: 'coil, height, width' or "
                "'slice, height, width'"
            )
        names = ("coil", "height", "width")
    return array, _axes(array, path, "npy", names)


def _read_npy(path: Path, index: int | None, names: tuple[str, ...] | None) -> Tensor:
    array, names = _open_npy(path, names)
    if "slice" not in names and index is not None:
        raise ValueError(f"k-space: {path} holds one slice, {array.shape}; slice must be left out, got {index!r}")
    return _checked(_slice(array, names, index, path)[0], path)


def _open_cfl(path: Path, names: tuple[str, ...] | None) -> np.ndarray:
    if names is not None:
        raise ValueError(f"axes: must be left out for {path}, whose header states them")
    array = open_cfl(path)
    if array.shape[1] != 1:
        raise ValueError(f"k-space: {path} has {array.shape[1]} sets of maps, so it is not k-space")
    return array[:, 0]


def _read_ismrmrd(file: Any, path: Path, index: int | None, names: tuple[str, ...] | None) -> KSpace:
    with RawVolume(path, file, names) as volume:
        index = _which(index, volume.slices, path)
        y, mask = volume.read(index, lambda count: _check_size(path, count))
    return KSpace(_checked(y, path), torch.from_numpy(mask), True, size=volume.size)


def _check_size(path: Path, count: int) -> None:
    check_claim(f"{path}: a slice of k-space", TAKEN * count, path.stat().st_size)


def _slice(data: Any, names: tuple[str, ...], index: int | None, path: Path) -> tuple[np.ndarray, int]:
    """A slice (coil, height, width) of a data set, and its number."""
    number = 0
    places: list[Any] = [ALL] * len(names)
    if "slice" in names:
        axis = names.index("slice")
        number = _which(index, data.shape[axis], path)
        places[axis] = number
    left = [name for name in names if name != "slice"]
    size = math.prod(length for name, length in zip(names, data.shape, strict=True) if name in left)
    _check_size(path, size)
    numbers = with_complex(np.asarray(data[tuple(places)]))
    numbers = numbers.transpose([left.index(name) for name in NAMES if name in left])
    return numbers if "coil" in left else numbers[None], number


def _read_hdf5(
    file: Any, path: Path, index: int | None, key: str, centered: bool | None, names: tuple[str, ...] | None
) -> KSpace:
    data, names = _kspace_set(file, path, key, names)
    numbers, number = _slice(data, names, index, path)
    y = _checked(numbers, path)
    mask = read_mask(own_set(file, path, "mask"), path, y)
    count = data.shape[names.index("slice")] if "slice" in names else 1
    both, centered = in_one_layout(torch.cat([y * mask, mask[None]]), centered, path, True)
    matrix = stated_matrix(path, file, own_set(file, path, "ismrmrd_header"))
    size = None if matrix is None else (min(matrix[0], y.shape[-2]), min(matrix[1], y.shape[-1]))
    y, mask = both[:-1], both[-1].real
    return KSpace(y, mask, centered, find_truth(file, path, number, count, y, mask, centered), size)


def _kspace_set(file: Any, path: Path, key: str, names: tuple[str, ...] | None) -> tuple[Any, tuple[str, ...]]:
    """The data set of k-space, and what its axes are."""
    data = own_set(file, path, key)
    if data is None:
        raise ValueError(f"k-space: {path} has no data set {key!r}; it holds {', '.join(names_of(file)) or 'nothing'}")
    return data, _axes(data, path, "HDF5", names)


def _axes(data: Any, path: Path, layout: str, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the axes of a complex data set, as given or by their number."""
    if not are_complex(data.dtype):
        raise ValueError(f"k-space: {path}: must be complex, is {data.dtype}")
    allowed = [axis_names(axes) for axes in AXES[layout]] if names is None else [names]
    fitting = [each for each in allowed if len(each) == data.ndim]
    if not fitting or 0 in data.shape:
        wanted = " or ".join(f"({', '.join(each)})" for each in allowed)
        raise ValueError(f"k-space: {path}: must be {wanted}, none of them 0, is {data.shape}")
    return fitting[0]


def _which(index: int | None, count: int, path: Path) -> int:
    if index is None:
        return count // 2
    number = as_number(index)
    if not isinstance(number, int) or not 0 <= number < count:
        raise ValueError(f"k-space: {path} has slices 0 … {count - 1}, got slice {index!r}")
    return number


def _checked(numbers: np.ndarray, path: Path) -> Tensor:
    with np.errstate(over="ignore"):
        y = torch.from_numpy(np.array(numbers, dtype=np.complex64, order="C"))
    bad = int((~torch.isfinite(torch.view_as_real(y))).any(-1).sum())
    if bad:
        raise ValueError(f"k-space: {path}: must be finite, but {bad} numbers are NaN or inf (or too large)")
    if not bool(y.any()):
        raise ValueError(f"k-space: {path}: is 0 everywhere in this slice, so nothing was sampled")
    return y
