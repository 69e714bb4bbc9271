"""DICOM: slices of scanners, read with pydicom, and the series that they make up."""

import math
import os
import warnings
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unrolled.data.slices import Slice, Volume, in_units, reading
from unrolled.system.claims import check_claim
from unrolled.system.scales import Scale

SUFFIXES = (".dcm", ".dicom", ".ima")

MARK = b"DICM"
"""Stands in DICOM files after the first 128 bytes."""

INVERTED, PLAIN = "MONOCHROME1", "MONOCHROME2"
"""Images whose smallest number is white, and black."""

TAKEN = 24
"""Bytes that a number takes while a frame is read: as it is stored, unpacked and in its units."""

PART = 0.01
"""Part of the mean distance of slices by which distances may differ in an evenly spaced series."""

SYNTAXES = {
    "1.2.840.10008.1.2": "implicit VR little endian",
    "1.2.840.10008.1.2.1": "explicit VR little endian",
    "1.2.840.10008.1.2.2": "explicit VR big endian",
    "1.2.840.10008.1.2.5": "run lengths",
}
"""The transfer syntaxes that are read."""

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""The transfer syntax that packs all but the first entries, without a limit to what they become."""

BEFORE = 2**20
"""Bytes of a file in which its transfer syntax stands."""

SAME_PLACE = 1e-3
"""Slices that are closer, in millimetres, are at the same place."""

READ = [
    *("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("SamplesPerPixel", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "SeriesInstanceUID"),
    *("InstanceNumber", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
"""The entries that are looked at, besides the pixels."""


def is_dicom(path: Path) -> bool:
    """Whether a file without one of `SUFFIXES` is DICOM, as archives have them: no ending, or a number for one."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix.strip(".0123456789") or path.name == "DICOMDIR" or not path.is_file():
        return False
    with open(path, "rb") as file:
        file.seek(128)
        return file.read(4) == MARK


def open_series(paths: Iterable[Path], color: bool = False, scale: Scale | None = None) -> list[Volume]:
    """The series that DICOM files make up, each sorted along the direction in which its slices lie.

    Parameters
    ----------
    paths : Paths
        of any number of series. A file of several frames is one for itself; reports and other files without pixels are
        left out.
    color, scale
        as in `read_image`. Numbers are those of the file by its rescale slope and intercept (Hounsfield units in CT);
        of MONOCHROME1, whose smallest number is white, they are mirrored.

    Raises
    ------
    ValueError
        if pydicom is missing, a file is broken, has colours, a compression that is not read or more numbers than it
        holds, or the slices of a series differ in size or direction, or are at the same place.
    """
    found = [_File(path) for path in paths]
    pictures = [file for file in found if file.has_pixels]
    if not pictures:
        raise ValueError(f"DICOM: {found[0].path}: has no pixels")
    files: dict[tuple[Any, ...], list[_File]] = {}
    for file in pictures:
        own = () if file.frames == 1 else (file.path,)
        files.setdefault((file.path.parent, file.series, *own), []).append(file)
    return [_volume(each, color, scale) for each in files.values()]


class _File:
    """What the header of a DICOM file says, and its frames.

    Attributes
    ----------
    has_pixels : bool
        whether it is an image; without, there is nothing else.
    frames : int
    shape : (height, width)
    series : str
    number : int
        in the series.
    places : list of array (3,), or None
        of the first pixel of each frame, in millimetres.
    directions, spacing : array (6,) and array (2,), or None
        of rows and of columns; between rows and between columns, in millimetres.
    scales : list of (slope, intercept)
        of each frame.
    """

    def __init__(self, path: Path):
        self.path = path
        with reading("DICOM", path, "pydicom"):
            header = _read(path, pixels=False)
            self.has_pixels = "Rows" in header
            if not self.has_pixels:
                return
            self.frames = int(header.get("NumberOfFrames") or 1)
            self.shape = int(header.Rows), int(header.Columns)
            if min(self.frames, *self.shape) < 1:
                raise ValueError(f"must have pixels, has {self.frames} frames of {self.shape}")
            _check_readable(header)
            size = os.path.getsize(path)
            check_claim("a frame", TAKEN * math.prod(self.shape), size)
            check_claim("its frames", 2 * self.frames * math.prod(self.shape), size)
            self.series, self.number = str(header.get("SeriesInstanceUID", "")), int(header.get("InstanceNumber") or 0)
            shared = [header, *_groups(header, "SharedFunctionalGroupsSequence")]
            frames = _groups(header, "PerFrameFunctionalGroupsSequence")
            self.directions = _numbers(_entry("ImageOrientationPatient", [*shared, *frames]), 6)
            self.spacing = _numbers(_entry("PixelSpacing", [*shared, *frames]), 2)
            each = frames if len(frames) == self.frames > 1 else [header] * self.frames
            alone = self.frames == 1 or each is frames  # frames of a film all lie at the place of the file
            self.places = [
                _numbers(_entry("ImagePositionPatient", [frame, *shared]), 3) if alone else None for frame in each
            ]
            self.scales = [
                (_number("RescaleSlope", 1.0, headers), _number("RescaleIntercept", 0.0, headers))
                for headers in ([frame, *shared] for frame in each)
            ]
            if not np.isfinite(self.scales).all():
                raise ValueError("its rescale slope and intercept must be finite")

    def frame(self, index: int) -> np.ndarray:
        """The numbers of a frame, (height, width), in their units."""
        with reading("DICOM", self.path, "pydicom"):
            from pydicom.pixels.utils import pixel_array

            header = _with_pixels(self.path, os.stat(self.path).st_mtime_ns)
            _check_readable(header)
            stored = np.asarray(pixel_array(header, index=index, raw=True))
            if header.PhotometricInterpretation == INVERTED:
                bits, limits = int(header.BitsStored), np.iinfo(stored.dtype)
                ends = -1 if header.PixelRepresentation else 2**bits - 1
                stored = (ends - stored.astype(np.int64)).clip(limits.min, limits.max).astype(stored.dtype)
            return in_units(stored, *self.scales[index])


@lru_cache(maxsize=1)
def _with_pixels(path: Path, changed: int) -> Any:
    """A file with its pixels, packed as they are; kept for the next frame."""
    return _read(path, pixels=True)


class _Within:
    """A file whose reader may ask for any number of bytes, and gets no more than there are."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size, self.name = file, size, file.name
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, count: int = -1) -> bytes:
        left = max(0, self.size - self.file.tell())
        return self.file.read(left if count is None or count < 0 else min(count, left))


def _read(path: Path, pixels: bool) -> Any:
    from pydicom import dcmread
    from pydicom.filereader import read_preamble
    from pydicom.uid import UID

    with open(path, "rb") as file:
        within: Any = _Within(file, os.path.getsize(path))
        read_preamble(within, force=False)  # it names what is not DICOM
        file.seek(0)
        if DEFLATED in file.read(BEFORE):
            raise ValueError("is deflated as a whole, which is not read; convert it to explicit VR little endian")
        file.seek(0)
        tags = [*READ, "PixelData"] if pixels else READ
        header = dcmread(within, stop_before_pixels=not pixels, specific_tags=tags)
    syntax = UID(header.file_meta.TransferSyntaxUID)
    if syntax.is_private or syntax not in SYNTAXES:
        raise ValueError(f"is compressed as {syntax.name}, which is not read; decompress it, such as by gdcmconv --raw")
    return header


def _check_readable(header: Any) -> None:
    kind = str(header.PhotometricInterpretation)
    if kind not in (INVERTED, PLAIN) or int(header.get("SamplesPerPixel", 1)) != 1:
        raise ValueError(f"must be {INVERTED} or {PLAIN}, is {kind}")


def _groups(header: Any, name: str) -> list[Any]:
    return list(header.get(name) or ())


def _entry(name: str, headers: Iterable[Any]) -> Any:
    """The value of an entry in the first header that has it, itself or in one of its groups."""
    for header in headers:
        if (value := header.get(name)) not in (None, ""):
            return value
        for element in header:
            if element.VR == "SQ" and len(element.value) == 1 and (value := element.value[0].get(name)) is not None:
                return value
    return None


def _number(name: str, usual: float, headers: Iterable[Any]) -> float:
    value = _entry(name, headers)
    return usual if value is None else float(value)


def _numbers(values: Any, count: int) -> np.ndarray | None:
    numbers = None if values is None or len(values) != count else np.array([float(value) for value in values])
    return numbers if numbers is not None and np.isfinite(numbers).all() else None


def _volume(files: list[_File], color: bool, scale: Scale | None) -> Volume:
    """A series: frames of files, sorted by where they lie, or by their numbers where no file says it."""
    first = files[0]
    for file in files:
        if file.shape != first.shape:
            raise ValueError(
                f"DICOM: {file.path}: is of {file.shape} (height, width), and {first.path} of the same series is of "
                f"{first.shape}"
            )
    frames = [(file, index) for file in files for index in range(file.frames)]
    places = [file.places[index] for file, index in frames]
    directions = first.directions
    alike = directions is not None and all(
        file.directions is not None and np.allclose(file.directions, directions, atol=1e-3) for file in files
    )
    if directions is not None and not alike:
        raise ValueError(f"DICOM: {first.path.parent}: the slices of a series must lie in one direction, these do not")
    affine = None
    if directions is not None and all(place is not None for place in places):
        row, column = directions.reshape(2, 3)
        depth = np.array([place @ np.cross(row, column) for place in places])
        order = np.argsort(depth, kind="stable")
        gaps = np.diff(depth[order])
        if len(gaps) and not gaps.min() > SAME_PLACE:
            number = int(gaps.argmin())
            raise ValueError(
                f"DICOM: {frames[order[number]][0].path} and {frames[order[number + 1]][0].path}: lie at the same "
                "place; name the files of one echo, phase or time"
            )
        frames = [frames[number] for number in order]
        affine = _affine(first, [places[number] for number in order], gaps)
    else:
        frames.sort(key=lambda frame: (frame[0].number, frame[1]))
    shape = (3 if color else 1, *first.shape)
    slices = [
        Slice(file.path.name if file.frames == 1 else f"{file.path.name} {index}",
              partial(file.frame, index), shape, scale)
        for file, index in frames
    ]  # fmt: skip
    return Volume(list(slices), first.path if len(files) == 1 else first.path.parent, affine)


def _affine(file: _File, places: list[Any], gaps: np.ndarray) -> np.ndarray | None:
    """From indices (width, height, slice) to millimetres as NIfTI counts them: its first two axes point the other way.

    None without a spacing, or if slices are not evenly spaced.
    """
    if len(gaps) and np.ptp(gaps) > PART * gaps.mean():
        warnings.warn(
            f"DICOM: {file.path.parent}: the slices are not evenly spaced, {gaps.min():g} to {gaps.max():g} mm; one "
            "may be missing, and files that are written will not say where they are",
            stacklevel=2,
        )
        return None
    if file.spacing is None:
        return None
    assert file.directions is not None
    row, column = file.directions.reshape(2, 3)
    step = (places[-1] - places[0]) / len(gaps) if len(gaps) else np.cross(row, column)
    affine = np.eye(4)
    affine[:3] = np.stack([row * file.spacing[1], column * file.spacing[0], step, places[0]], axis=1)
    return np.diag([-1.0, -1, 1, 1]) @ affine
