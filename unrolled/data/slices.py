"""Volumes: images that lie one above the other, in one file or in several, and where they are in space."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unrolled.data.images import array_with_range
from unrolled.data.stores import ALL, StoredImage, as_stored, to_float
from unrolled.system.scales import Range, Scale


@dataclass
class Volume:
    """The slices of a volume.

    Parameters
    ----------
    images : list of StoredImage
    path : Path
        their file, or the folder of their files.
    affine : array (4, 4), optional
        from indices (width, height, slice) to millimetres, to the right, to the front and up, as NIfTI has it.
    """

    images: list[StoredImage]
    path: Path
    affine: np.ndarray | None = None


class Slice(StoredImage):
    """An image of a volume, read whenever it is asked for.

    Parameters
    ----------
    name : str
    load : callable
        reads the numbers, (height, width).
    shape : (1 or 3, height, width)
    scale : Scale, optional
        what white is.
    numbers : NumPy's type, optional
        of what is loaded, if it is of floating point.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], np.ndarray],
        shape: tuple[int, int, int],
        scale: Scale | None = None,
        numbers: np.dtype | None = None,
    ):
        self.name, self.load, self.shape, self.scale = name, load, shape, scale
        self.is_complex = numbers is not None and numbers.kind == "c"
        if numbers is not None and numbers.kind in "fc" and scale is None:
            self.kind = torch.float32

    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        return as_stored(self.with_range()[0][:, rows, columns])

    def with_range(self) -> tuple[Tensor, Range]:
        numbers = self.load()
        if numbers.shape != self.shape[1:]:
            raise ValueError(f"{self.name}: was of {self.shape[1:]} (height, width), is {numbers.shape} now")
        try:
            pixels, span = array_with_range(numbers, self.shape[0] == 3, self.scale)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        return to_float(pixels), span


@contextmanager
def reading(format: str, path: Path, library: str) -> Iterator[None]:
    """Errors of a block that reads a file name the file, or the library that is missing, as a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd headers
            yield
    except ImportError as error:
        raise ValueError(f"{format}: {path}: is read with {library}: pip install 'unrolled[medical]'") from error
    except Exception as error:  # whatever a reader makes of what is in the file
        raise ValueError(f"{format}: {path}: {error or type(error).__name__}") from error


def in_units(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Numbers as a file has them in the units that it states.

    Whole numbers stay so where they can. Those of 16 bits get a sign, for their white is not that of their type.
    """
    if (slope, intercept) == (1, 0):
        return stored.astype(np.int32) if stored.dtype.newbyteorder("=") == np.uint16 else stored
    scaled = stored * float(slope) + float(intercept)
    exact = stored.dtype.kind in "iu" and slope == round(slope) and intercept == round(intercept)
    return scaled.astype(np.int64) if exact else scaled
