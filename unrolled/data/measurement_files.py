"""Measurements in files, and the images they are of: pairs for an operator that somebody states."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unrolled.data.hdf5 import OpenFiles, check_stored, open_file
from unrolled.data.holding_out import held_out
from unrolled.data.images import SUFFIXES, read_image
from unrolled.data.measured import Measured, MeasuredSamples, Seed, check_sigma
from unrolled.data.sources import TrainingData
from unrolled.data.stores import CACHE_MIB, image_size
from unrolled.system.arraylike import EXACT_KINDS, are_complex, as_numbers, with_complex
from unrolled.system.arrays import read_array
from unrolled.system.files import as_path
from unrolled.system.hdf5_sets import is_link
from unrolled.system.scalars import PlainNumbers

ARRAYS = (".npy", ".mat", ".h5", ".hdf5")


class Row(NamedTuple):
    """Numbers of one sample that are read when they are asked for.

    Parameters
    ----------
    name : str
        of the file, without its ending, in a folder; of a stack its number.
    shape : tuple of int
    read : callable () ↦ Tensor, float32 or complex64
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def open_rows(what: str, source: str | Path, key: str | None = None) -> list[Row]:
    """The samples of a folder or of a stack.

    Parameters
    ----------
    what : str
        the name of the argument, for messages.
    source : str or Path
        a folder with a file for each sample, `.npy`, `.mat`, `.h5`, or an image file, whose white is 1; or a stack, an
        `.npy` or HDF5 file whose first axis is that of the samples.
    key : str, optional
        of the array in `.mat` and HDF5 files, where they hold several.

    Raises
    ------
    ValueError
        if there is nothing of that kind, or it is not of numbers.
    """
    path = as_path(what, source)
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix.lower() in (*ARRAYS, *SUFFIXES))
        rows = [_file(what, each, key) for each in files if not each.name.startswith(".")]
    elif path.suffix.lower() == ".npy":
        rows = _npy_stack(what, path)
    elif path.suffix.lower() in (".h5", ".hdf5"):
        rows = _hdf5_stack(what, path, key)
    else:
        raise ValueError(f"{what}: must be a folder, or a stack in .npy or .h5, got {path}")
    if not rows:
        raise ValueError(f"{what}: {path} holds no samples; files must end in one of {', '.join((*ARRAYS, *SUFFIXES))}")
    return rows


def _file(what: str, path: Path, key: str | None) -> Row:
    if path.suffix.lower() in SUFFIXES:
        return Row(path.stem, (1, *image_size(path)), lambda: read_image(path))
    name = f"{what}: {path}"
    first = _numbers(name, read_array(path, key))
    return Row(path.stem, tuple(first.shape), lambda: _numbers(name, read_array(path, key)))


def _npy_stack(what: str, path: Path) -> list[Row]:
    if not os.path.isfile(path):
        raise ValueError(f"{what}: there is no file {path}")
    try:
        # Mapped, so that a header cannot claim more than there is.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # whatever the reader makes of what is in the file
        raise ValueError(f"{what}: {path} cannot be read as .npy: {error or type(error).__name__}") from error
    _check_stack(what, path, array)
    return [
        Row(str(number), array.shape[1:], partial(_of_stack, f"{what}: {path}", number, array.__getitem__))
        for number in range(len(array))
    ]


def _hdf5_stack(what: str, path: Path, key: str | None) -> list[Row]:
    import h5py

    with open_file(path) as file:
        sets = [name for name in file if not is_link(file, name) and isinstance(file[name], h5py.Dataset)]
        name = sets[0] if key is None and len(sets) == 1 else key
        if name is None or name not in sets:
            raise ValueError(
                f"{what}: {path} must hold {'one data set, or be given its key' if key is None else repr(key)}; it "
                f"holds {', '.join(sets) or 'nothing'}"
            )
        _check_stack(what, path, file[name])
        check_stored(file[name], path, name)
        shape = file[name].shape
    read = partial(OpenFiles().read, path, name)
    return [
        Row(str(number), shape[1:], partial(_of_stack, f"{what}: {path}", number, lambda number: read((number,))))
        for number in range(shape[0])
    ]


def _of_stack(name: str, number: int, read: Callable[[int], np.ndarray]) -> Tensor:
    return _numbers(f"{name}: sample {number}", read(number))


def _check_stack(what: str, path: Path, array: np.ndarray) -> None:
    """Raise ValueError unless these are numbers, with an axis of samples; an HDF5 data set is asked the same."""
    numbers = isinstance(getattr(array, "dtype", None), np.dtype) and (
        array.dtype.kind in EXACT_KINDS or are_complex(array.dtype)
    )
    if not numbers or len(array.shape) < 2 or 0 in array.shape:
        raise ValueError(
            f"{what}: {path} must be numbers (sample, …), none of the axes 0, is "
            f"{getattr(array, 'dtype', 'an archive')} {getattr(array, 'shape', '')}"
        )


def _numbers(name: str, values: np.ndarray | Tensor) -> Tensor:
    """Finite numbers in single precision."""
    numbers = as_numbers(name, with_complex(values) if isinstance(values, np.ndarray) else values, torch.float32)
    if not bool(torch.isfinite(torch.view_as_real(numbers) if numbers.is_complex() else numbers).all()):
        raise ValueError(f"{name} must be finite, but holds NaN or inf")
    return numbers


class MeasuredPairs(MeasuredSamples):
    """Measurements, and the images they are of where those are known.

    Parameters
    ----------
    measurements : list of Row
    images : list of Row, optional
        as many.
    cache_mib : int
        the most memory for numbers that are kept, in MiB; the others are read whenever they are drawn.

    Raises
    ------
    ValueError
        for numbers that cannot be read, are not finite, or are not of the shape they were.
    """

    def __init__(self, measurements: Sequence[Row], images: Sequence[Row] | None, cache_mib: int = CACHE_MIB):
        self.measurements, self.images = measurements, images
        self.kinds = [
            (row.shape, None if images is None else image_shape(images[index].shape))
            for index, row in enumerate(measurements)
        ]
        left, self.kept = cache_mib * 2**20, dict[int, Measured]()
        for index in range(len(measurements)):
            read = self._read(index)
            left -= sum(part.nbytes for part in (read.y, read.truth) if part is not None)
            if left < 0:
                break
            self.kept[index] = read
        self.streams = len(self.kept) < len(measurements)

    def sample(self, index: int, seed: Seed | None = None) -> Measured:
        return self.kept.get(index) or self._read(index)

    def _read(self, index: int) -> Measured:
        y = _as_opened(self.measurements[index])
        if self.images is None:
            return Measured(y[None])
        image = _as_opened(self.images[index])
        return Measured(y[None], image.reshape(1, *image_shape(tuple(image.shape))))


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(channel, height, width) of an image that may have no axis of channels."""
    return (1, *shape) if len(shape) == 2 else shape


def _as_opened(row: Row) -> Tensor:
    numbers = row.read()
    if tuple(numbers.shape) != row.shape:
        raise ValueError(f"measurements: {row.name} was of {row.shape}, is {tuple(numbers.shape)} now")
    return numbers


@dataclass
class MeasurementData(TrainingData, PlainNumbers):
    """Measurements by a stated operator, and the images they are of.

    Measurements and images are in any units: those of the images are those of the measurements over those of the
    operator.

    Parameters
    ----------
    measurements : str
        a folder with a file for each sample (.npy, .mat, .h5), or a stack in .npy or HDF5, (sample, …), each sample in
        the shape that the operator states, without an axis for batches.
    images : str or None
        the true images, likewise: (height, width) or (channel, height, width) each, or image files, whose white is 1.
        Files in folders belong together by their names, others by their order. None: they are not known, for losses
        that learn from measurements alone.
    validation_measurements, validation_images : str or None
        to validate on, given likewise; by default some of the training samples are held out.
    hold_out : int
        how many samples are held out, drawn by the seed.
    key, image_key : str or None
        of the measurements and of the images in .mat and HDF5 files that hold several arrays.
    sigma : float or None
        standard deviation of the noise in the measurements, in their units, √E|noise|² of complex ones; losses and
        networks that take it are told.
    cache_mib : int
        the most memory for training samples, in MiB; what does not fit is read each time it is drawn.
    """

    measurements: str
    images: str | None = None
    validation_measurements: str | None = None
    validation_images: str | None = None
    hold_out: int = 8
    key: str | None = None
    image_key: str | None = None
    sigma: float | None = None
    cache_mib: int = CACHE_MIB

    def __post_init__(self) -> None:
        if self.hold_out < 1:
            raise ValueError(f"data: hold_out must be >= 1, got {self.hold_out!r}")
        if self.cache_mib < 0:
            raise ValueError(f"data: cache_mib must be >= 0, got {self.cache_mib!r}")
        check_sigma(self.sigma)
        if self.validation_images is not None and self.validation_measurements is None:
            raise ValueError("data: validation_images must come with validation_measurements")

    def load(self, seed: int = 0, needs_truth: bool = True) -> tuple[MeasuredPairs, MeasuredPairs]:
        """Open the measurements, and read those that fit into the cache.

        Parameters
        ----------
        seed : int
            draws the samples to hold out.
        needs_truth : bool
            whether training needs the true images; otherwise only validation sees them.

        Returns
        -------
        training, validation

        Raises
        ------
        ValueError
            if files cannot be read, measurements and images do not belong together, or too few samples are left.
        """
        if needs_truth and self.images is None:
            raise ValueError("data: images must be given for a loss that needs the true images, got null")
        y, x = self._pairs(self.measurements, self.images)
        if self.validation_measurements is not None:
            held = self._pairs(self.validation_measurements, self.validation_images)
        else:
            if self.hold_out >= len(y):
                raise ValueError(f"data: hold_out must be below the {len(y)} samples found, got {self.hold_out}")
            held, (y, x) = (
                ([y[index] for index in part], None if x is None else [x[index] for index in part])
                for part in held_out(range(len(y)), self.hold_out, seed)
            )
        return MeasuredPairs(y, x if needs_truth else None, self.cache_mib), MeasuredPairs(*held, self.cache_mib)

    def _pairs(self, measurements: str, images: str | None) -> tuple[list[Row], list[Row] | None]:
        y = open_rows("measurements", measurements, self.key)
        if images is None:
            return y, None
        x = open_rows("images", images, self.image_key)
        if len(x) != len(y):
            raise ValueError(f"images: {images} must hold as many as {measurements}, {len(y)}, it holds {len(x)}")
        if Path(measurements).is_dir() and Path(images).is_dir():
            alone = sorted({row.name for row in y} ^ {row.name for row in x})
            if alone:
                raise ValueError(
                    f"images: the files in {images} must have the names of those in {measurements}, but for their "
                    f"endings; without a partner: {', '.join(alone[:5])}"
                )
        return y, x
