"""Raw data of scanners in ISMRMRD: readouts one by one, put in their places in k-space.

The format is that of Inati and others (MRM 77, 2017), as HDF5: a group, "dataset" by name, with a header in XML and a
list of acquisitions, each of them one readout of all coils with numbers that say where it lies. Of scans in three
dimensions the slices are those across the readout, along which nothing is undersampled; their axes are both phase
encodings.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from unrolled.data.ismrmrd_header import LONGEST, Encoding, read_header
from unrolled.data.kspace_layout import kspace_of_middle
from unrolled.system.hdf5_heaps import REFERENCE, Heaps, text_of
from unrolled.system.hdf5_sets import is_link

SKIPPED = (19, 23, 24, 26, 27, 28, 29, 30, 31)
"""Flags of what is no part of the image: noise, navigators, corrections of phase, feedback, dummies, stabilisation."""

CALIBRATION, REVERSED = 20, 22
"""Flags of lines for calibration alone, and of readouts in the other direction."""

FIRST_OF = ("contrast", "phase", "repetition", "set")
"""Counters of images at one place, of which the first is taken."""

COUNTERS = ("kspace_encode_step_1", "kspace_encode_step_2", "slice", *FIRST_OF)

FIELDS = ("flags", "number_of_samples", "active_channels", "discard_pre", "discard_post", "center_sample",
          "encoding_space_ref")  # fmt: skip


def is_ismrmrd(file: Any) -> bool:
    """Whether an open HDF5 file holds raw data of this format."""
    return _group(file) is not None


def _group(file: Any) -> Any:
    import h5py

    for name in file:
        item = None if is_link(file, name) else file[name]
        if isinstance(item, h5py.Group) and all(
            each in item and not is_link(item, each) and isinstance(item[each], h5py.Dataset)
            for each in ("xml", "data")
        ):
            return item
    return None


class RawVolume:
    """The slices of a file of ISMRMRD, sampled on a Cartesian grid.

    Parameters
    ----------
    path : Path
    file : h5py.File
        the same file, open.
    axes : any, optional
        must be left out.

    Raises
    ------
    ValueError
        if header or acquisitions are damaged, or are not of such a grid.
    """

    encoding: Encoding
    slices: int
    size: tuple[int, int]
    """(height, width) of their images, on the grid that was sampled."""

    def __init__(self, path: Path, file: Any, axes: Any = None):
        if axes is not None:
            raise ValueError(f"axes: must be left out for {path}, whose acquisitions state where they lie")
        self._path, self._heaps = path, Heaps(path, file)
        group = _group(file)
        self.encoding = read_header(text_of(self._heaps, group["xml"], LONGEST), path)
        if self.encoding.trajectory not in ("cartesian", ""):
            raise self._refused(
                f"has the trajectory {self.encoding.trajectory[:30]!r}; only Cartesian ones are taken, so grid it, or "
                "correct the phases of its echoes, by other means first"
            )
        self._read_acquisitions(group["data"])
        self._keep(self._of_the_image())
        for name in FIRST_OF:
            self._keep(self._first_of(name))
        self._numbers = np.unique(self._counter("slice"))
        self._solid = self.encoding.encoded.matrix[2] > 1
        if self._solid and len(self._numbers) > 1:
            raise self._refused(f"has {len(self._numbers)} slabs of three dimensions; write each to a file of its own")
        sides = self.encoding.sides
        self.slices, self.size = (sides[0], sides[1:]) if self._solid else (len(self._numbers), sides[:2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._heaps.__exit__()

    def _refused(self, why: str) -> ValueError:
        return ValueError(f"k-space: {self._path} {why}")

    def _read_acquisitions(self, data: Any) -> None:
        import h5py

        kind = data.id.get_type()
        names = [*map(kind.get_member_name, range(kind.get_nmembers()))] if data.dtype.names else []
        if not {b"head", b"data"} <= {*names}:
            raise self._refused(f"has no acquisitions of this format: its list is of {str(data.dtype)[:60]}")
        head, samples = (kind.get_member_type(names.index(name)) for name in (b"head", b"data"))
        if not isinstance(samples, h5py.h5t.TypeVlenID) or samples.get_super().dtype != np.dtype("<f4"):
            raise self._refused("has acquisitions that are not of numbers in single precision")
        rows = self._heaps.rows(data)

        def part(name: bytes, of: np.dtype) -> np.ndarray:
            return np.ndarray((len(rows),), of, rows, kind.get_member_offset(names.index(name)), (rows.shape[1],))

        self._heads, self._references = part(b"head", head.dtype), part(b"data", REFERENCE)
        counters = self._heads.dtype.fields and self._heads.dtype.fields.get("idx")
        found = (*(self._heads.dtype.fields or ()), *((counters and counters[0].fields) or ()))
        if not {*FIELDS, *COUNTERS} <= {*found}:
            raise self._refused(f"has acquisitions without {', '.join(sorted({*FIELDS, *COUNTERS} - {*found}))}")
        numbers = [*map(self._heads.__getitem__, FIELDS), *map(self._counter, COUNTERS)]
        if any(each.dtype.kind != "u" or each.ndim > 1 for each in numbers):
            raise self._refused("has acquisitions whose counters are no whole numbers")

    def _counter(self, name: str) -> np.ndarray:
        found: np.ndarray = self._heads["idx"][name]
        return found

    def _keep(self, which: np.ndarray) -> None:
        self._heads, self._references = self._heads[which], self._references[which]

    def _has(self, flag: int) -> np.ndarray:
        found: np.ndarray = (self._heads["flags"] >> np.uint64(flag - 1)) & np.uint64(1) == 1
        return found

    def _of_the_image(self) -> np.ndarray:
        """Which acquisitions sample the image, in the first encoding."""
        skipped = np.logical_or.reduce([self._has(flag) for flag in SKIPPED]) | (self._heads["encoding_space_ref"] > 0)
        if self.encoding.calibration != "embedded":  # otherwise they are lines like the others
            skipped |= self._has(CALIBRATION)
        if skipped.all():
            raise self._refused(f"has no acquisition of an image among its {len(skipped)}")
        if (self._has(REVERSED) & ~skipped).any():
            raise self._refused(
                "was read out in both directions (an echo-planar sequence); correct its phases by other means first"
            )
        return ~skipped

    def _first_of(self, name: str) -> np.ndarray:
        numbers = self._counter(name)
        if (numbers != numbers.min()).any():
            warnings.warn(
                f"k-space: {self._path}: has {len(np.unique(numbers))} images of each slice, by their {name}; the "
                "first is taken",
                stacklevel=5,
            )
        return numbers == numbers.min()

    def read(self, index: int, check: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray]:
        """One slice of k-space, averaged where it was measured several times.

        The margins that were sampled beyond the image along the readout ("oversampling") are taken off, unless echoes
        are asymmetric.

        Parameters
        ----------
        index : int
            below `slices`.
        check : numbers ↦ None
            called before memory is allocated, with how many numbers the slice has.

        Returns
        -------
        y : array, (coil, height, width), complex64
            readout along the height, or in three dimensions both phase encodings; zero frequency in the middle.
        mask : array, (height, width), float32 of 0 and 1

        Raises
        ------
        ValueError
            if an acquisition is damaged, lies outside of the encoded matrix, or has other coils than others.
        """
        coils, whole = self._coils(index), self.encoding.encoded.matrix
        height, width = whole[1:] if self._solid else whole[:2]
        check(coils * height * width)
        y, times = np.zeros((coils, height, width), np.complex64), np.zeros((height, width), np.float32)
        wave = _wave(whole[0], (whole[0] - self.slices) // 2 + index) if self._solid else None
        for at in np.flatnonzero(self._of_slice(index)):
            readout, first, line, second = self._readout(int(at))
            part = slice(first, first + readout.shape[1])
            if wave is None:
                y[:, part, line] += readout
                times[part, line] += 1
            else:
                y[:, line, second] += readout @ wave[part]
                times[line, second] += 1
        y /= np.maximum(times, 1)
        mask = (times > 0).astype(np.float32)
        if self._solid:
            return y, mask
        if not (mask == mask[0]).all():
            warnings.warn(
                f"k-space: {self._path}: its echoes are asymmetric, so the margins along the readout are left in it",
                stacklevel=4,
            )
            return y, mask
        kept = kspace_of_middle(torch.from_numpy(y), torch.from_numpy(mask), True, (self.size[0], width))
        return kept[0].numpy(), kept[1].numpy()

    def _of_slice(self, index: int) -> np.ndarray:
        found: np.ndarray = self._counter("slice") == self._numbers[0 if self._solid else index]
        return found

    def _coils(self, index: int) -> int:
        coils = np.unique(self._heads["active_channels"][self._of_slice(index)])
        if len(coils) != 1 or coils[0] == 0:
            raise self._refused(
                f"has acquisitions of {' and of '.join(map(str, coils[:5]))} coils in slice {index}; all must have the "
                "same"
            )
        return int(coils[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(coil, height, width) of every slice's k-space, without the margins along the readout."""
        coils = [*map(self._coils, range(len(self._numbers)))]
        other = next((index for index, count in enumerate(coils) if count != coils[0]), None)
        if other is not None:
            raise self._refused(f"has {coils[0]} coils in slice 0, and {coils[other]} in slice {other}")
        height, width = (
            self.encoding.encoded.matrix[1:] if self._solid else (self.size[0], self.encoding.encoded.matrix[1])
        )
        return coils[0], height, width

    def _readout(self, at: int) -> tuple[np.ndarray, int, int, int]:
        """The samples (coil, samples) of an acquisition, where they begin, and where they lie along both encodings."""
        head, whole = self._heads[at], self.encoding.encoded.matrix
        samples, coils = int(head["number_of_samples"]), int(head["active_channels"])
        data = self._heaps.entry(self._references[at], 4)
        if len(data) != 8 * samples * coils:
            raise self._refused(f"has an acquisition of {len(data):,} bytes for {coils} coils with {samples} samples")
        begin, end = int(head["discard_pre"]), samples - int(head["discard_post"])
        # One that fills the matrix lies nowhere else, whatever its header says.
        first = 0 if samples == whole[0] else whole[0] // 2 - int(head["center_sample"])
        places = [
            int(head["idx"][f"kspace_encode_step_{axis}"]) + (0 if middle is None else whole[axis] // 2 - middle)
            for axis, middle in enumerate(self.encoding.middles, 1)
        ]
        inside = all(0 <= place < count for place, count in zip(places, whole[1:], strict=True))
        if not (inside and 0 <= first + begin < first + end <= whole[0]):
            raise self._refused(
                f"has an acquisition with samples {first + begin} … {first + end - 1} at {tuple(places)} of both phase "
                f"encodings, but the encoded matrix is {whole}"
            )
        return np.frombuffer(data, "<c8").reshape(coils, samples)[:, begin:end], first + begin, places[0], places[1]


def _wave(count: int, position: int) -> np.ndarray:
    """What samples along a readout are multiplied with for their sum to be the image at a position along it."""
    turns = (np.arange(count) - count // 2) * (position - count // 2) / count
    return (np.exp(2j * np.pi * turns) / np.sqrt(count)).astype(np.complex64)
