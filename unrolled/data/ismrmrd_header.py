"""The XML header of ISMRMRD, which fastMRI's files have too: what was encoded, and which part of it is the image."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from unrolled.system.hdf5_heaps import Heaps, text_of

LONGEST = 2**20
"""Bytes of a header that are read; those of scanners have some ten thousand."""

LARGEST = 2**16
"""Samples along an axis, which acquisitions count with 16 bits."""


@dataclass(frozen=True)
class Space:
    """A grid along readout, first and second phase encoding.

    Parameters
    ----------
    matrix : (int, int, int)
        numbers of samples or pixels.
    field : (float, float, float)
        of view in mm, 0 where it is not stated.
    """

    matrix: tuple[int, int, int]
    field: tuple[float, float, float]


@dataclass(frozen=True)
class Encoding:
    """What a header says of its first encoding.

    Parameters
    ----------
    encoded, image : Space
        what was sampled, also beyond the image ("oversampling"), and the image.
    middles : (int or None, int or None)
        the number of the zero frequency along the first and the second phase encoding, where they are stated.
    trajectory, calibration : str
        such as "cartesian" and "embedded"; "" if not stated.
    """

    encoded: Space
    image: Space
    middles: tuple[int | None, int | None] = (None, None)
    trajectory: str = ""
    calibration: str = ""

    @property
    def sides(self) -> tuple[int, int, int]:
        """Of the image, on the grid that was sampled: along readout, first and second phase encoding.

        That is the part of the field of view that is the image, whose own matrix may be finer; without fields of view
        it is that matrix.
        """
        x, y, z = (self._side(axis) for axis in range(3))
        return x, y, z

    def _side(self, axis: int) -> int:
        whole, of_whole, of_image = self.encoded.matrix[axis], self.encoded.field[axis], self.image.field[axis]
        stated = of_whole > 0 and of_image > 0
        side = round(whole * min(1.0, of_image / of_whole)) if stated else self.image.matrix[axis]
        return min(whole, max(1, side))


def read_header(text: str, path: Path) -> Encoding:
    """Read the XML header of ISMRMRD.

    Documents that define something of their own (entities, which may grow beyond any bound or lead to other files) are
    refused.

    Parameters
    ----------
    text : str
    path : Path
        of the file, for messages.

    Raises
    ------
    ValueError
        for what is no such header, or states sizes that cannot be.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"k-space: {path}: its header defines entities, which headers of ISMRMRD do not")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"k-space: {path}: its header is no XML: {error}") from error
    encoding = root.find("{*}encoding")
    if encoding is None:
        raise ValueError(f"k-space: {path}: its header has no <encoding>")
    reader = _Reader(encoding, path)
    return Encoding(
        reader.space("encodedSpace"),
        reader.space("reconSpace"),
        (reader.middle("kspace_encoding_step_1"), reader.middle("kspace_encoding_step_2")),
        reader.text("trajectory") or "",
        reader.text("parallelImaging/calibrationMode") or "",
    )


def stated_matrix(path: Path, file: Any, data: Any) -> tuple[int, int] | None:
    """(height, width) of the image by the header in a data set of an open HDF5 file; None if it states none."""
    if data is None:
        return None
    try:
        with Heaps(path, file) as heaps:
            return read_header(text_of(heaps, data, LONGEST), path).image.matrix[:2]
    except ValueError as error:  # what is measured can be read without it
        warnings.warn(f"{error}; so the size of the image is not known", stacklevel=4)
        return None


class _Reader:
    """Values below an element, by the names that lead to them."""

    def __init__(self, root: ElementTree.Element, path: Path):
        self._root, self._path = root, path

    def text(self, names: str) -> str | None:
        found = self._root.find("/".join(f"{{*}}{name}" for name in names.split("/")))
        return None if found is None else (found.text or "").strip()

    def whole(self, names: str, least: int) -> int:
        text = self.text(names) or ""
        if not (text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= LARGEST):
            raise ValueError(
                f"k-space: {self._path}: its header must have a whole number in {least} … {LARGEST} for {names}, has "
                f"{text[:30]!r}"
            )
        return int(text)

    def middle(self, name: str) -> int | None:
        names = f"encodingLimits/{name}/center"
        return None if self.text(names) is None else self.whole(names, 0)

    def space(self, name: str) -> Space:
        x, y, z = (self.whole(f"{name}/matrixSize/{axis}", 1) for axis in "xyz")
        length, width, depth = (self._length(f"{name}/fieldOfView_mm/{axis}") for axis in "xyz")
        return Space((x, y, z), (length, width, depth))

    def _length(self, names: str) -> float:
        try:
            length = float(self.text(names) or 0)
        except ValueError:
            length = math.nan
        if not 0 <= length < math.inf:
            raise ValueError(
                f"k-space: {self._path}: its header must have a length in mm for {names}, has "
                f"{(self.text(names) or '')[:30]!r}"
            )
        return length
