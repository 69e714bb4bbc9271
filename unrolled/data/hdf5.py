"""Images in HDF5 files: read window by window, from files that every process opens for itself."""

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.data.images import array_with_range
from unrolled.data.stores import ALL, StoredImage, to_float
from unrolled.system.arraylike import are_complex, as_tensor, with_complex
from unrolled.system.claims import check_claim
from unrolled.system.hdf5_sets import check_unpacking, is_link, lies_elsewhere
from unrolled.system.scales import HOW, UNIT, Range, Scale, as_scale, range_of

SUFFIXES = (".h5", ".hdf5")
FORMAT, VERSION = "unrolled images", 1
"""The attributes `format` and `format_version` of the files that `unrolled.data.prepare` writes."""

LARGEST_COMPRESSION = 2000
"""No image is packed better than this; what was never written would read as 0."""

ENTRY = 256
"""Bytes that each image takes in the list of a data set's images."""

LAYOUTS = "(n, height, width), (n, 1 or 3, height, width) or (n, height, width, 1 or 3)"


class OpenFiles:
    """HDF5 files that are opened when they are first read, once in every process, the least used closed again.

    Handles of HDF5 must not cross a fork, so a process that finds itself with those of another drops them; a pickled
    copy has none.

    Parameters
    ----------
    limit : int
        how many files may be open at a time.
    """

    def __init__(self, limit: int = 64):
        self.limit = limit
        self._start()

    def _start(self) -> None:
        self._process, self._lock = os.getpid(), threading.RLock()
        self._files: OrderedDict[Path, Any] = OrderedDict()
        self._sets: dict[tuple[Path, str], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["limit"])  # type: ignore[misc]

    def read(self, path: Path, key: str, index: tuple[int | slice, ...]) -> np.ndarray:
        """A part of a data set.

        Raises
        ------
        ValueError
            if the file or the data set is missing or cut short.
        """
        if self._process != os.getpid():
            self._start()
        with self._lock:
            file = self._open(path)
            try:
                if (path, key) not in self._sets:
                    self._sets[path, key] = file[key]
                return np.asarray(self._sets[path, key][index])
            except (KeyError, OSError, RuntimeError, IndexError, ValueError, TypeError) as error:
                raise ValueError(f"HDF5: {path}: {key!r} cannot be read at {index[0]}: {error}") from error

    def _open(self, path: Path) -> Any:
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        while len(self._files) >= self.limit:
            oldest, file = self._files.popitem(last=False)
            self._sets = {place: data for place, data in self._sets.items() if place[0] != oldest}
            file.close()
        self._files[path] = open_file(path)
        return self._files[path]


def open_file(path: Path) -> Any:
    """An `h5py.File`, open for reading.

    Raises
    ------
    ValueError
        if there is no such file, or it is not HDF5, or cut short.
    """
    import h5py

    if not path.is_file():
        raise ValueError(f"HDF5: there is no file {path}")
    try:
        # Without a cache of chunks, for crops lie anywhere: what is kept is kept by the store, within its budget.
        return h5py.File(path, "r", rdcc_nbytes=0)
    except OSError as error:
        raise ValueError(f"HDF5: {path} is not an HDF5 file, or is cut short: {error}") from error


class HDF5Image(StoredImage):
    """One image of a data set that holds many; reading a window reads no more than that from the file.

    Parameters
    ----------
    files : OpenFiles
    path : Path
    key : str
        of the data set.
    row : int
        of the image in the data set.
    axes : str
        what the other axes of the data set are: "hw", "chw" or "hwc".
    shape : (channel, height, width)
        of the image as it is read: 3 channels give color, 1 channel the luma.
    kind : dtype, or None
        see `StoredImage`.
    scale : Scale, optional
        what white is; "max" and percentiles are those of the whole image, also where a window is read.
    is_complex : bool
        whether the data set is of complex numbers.
    """

    __slots__ = ("_scale", "axes", "files", "is_complex", "key", "kind", "path", "row", "shape")

    def __init__(
        self,
        files: OpenFiles,
        path: Path,
        key: str,
        row: int,
        axes: str,
        shape: tuple[int, int, int],
        kind: torch.dtype | None = None,
        scale: Scale | None = None,
        is_complex: bool = False,
    ):
        self.files, self.path, self.key, self.row, self.axes, self.shape = files, path, key, row, axes, shape
        self.kind, self._scale, self.is_complex = kind, as_scale("HDF5", scale), is_complex

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.path.name} {self.key} {self.row}"

    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        return self._read(rows, columns)[0]

    def with_range(self) -> tuple[Tensor, Range]:
        pixels, span = self._read(ALL, ALL)
        return to_float(pixels), span

    def _read(self, rows: slice, columns: slice) -> tuple[Tensor, Range]:
        parts = {"h": rows, "w": columns, "c": ALL}
        try:
            pixels = self._pixels(tuple(parts[axis] for axis in self.axes))
            if pixels.dtype == np.uint8 and pixels.ndim == 2 and self.shape[0] == 1 and self._scale is None:
                return torch.from_numpy(pixels).unsqueeze(0), UNIT
            if isinstance(self._scale, str) and (rows, columns) != (ALL, ALL):
                # Found once, for the windows of an image share the white of the whole.
                whole = range_of("pixels", as_tensor("pixels", self._pixels((ALL,) * len(self.axes))), self._scale)
                self._scale = whole.white
            return array_with_range(np.ascontiguousarray(pixels), self.shape[0] == 3, self._scale)
        except ValueError as error:
            raise ValueError(f"HDF5: {self.path}: image {self.row} of {self.key!r}: {error}") from error

    def _pixels(self, window: tuple[slice, ...]) -> np.ndarray:
        """(height, width) or (height, width, 3)."""
        pixels = with_complex(self.files.read(self.path, self.key, (self.row, *window)))
        if self.axes == "chw":
            pixels = np.moveaxis(pixels, 0, -1)
        return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


def list_hdf5(folder: Path) -> list[Path]:
    """The HDF5 files of a folder and its subfolders, sorted by name; of a single file, that file."""
    if folder.is_file():
        return [folder] if folder.suffix.lower() in SUFFIXES else []
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def hdf5_images(
    paths: Sequence[Path],
    key: str | None = None,
    color: bool = False,
    scale: Scale | None = None,
    whole_sets: bool = True,
) -> list[StoredImage]:
    """All images of HDF5 files.

    Parameters
    ----------
    paths : list of Path
        files that `unrolled data prepare` wrote, or files of your own with a data set of images stacked along its first
        axis: bool, uint8, uint16, floating point in [0, 1] or complex with such magnitudes, of other types and values
        with a scale; (n, height, width), (n, channel, height, width) or (n, height, width, channel), with 1 or 3
        channels.
    key : str, optional
        of the data set; not needed if a file holds only one of such a shape.
    color : bool
        red, green and blue; otherwise the luma, as in `read_image`.
    scale : Scale, optional
        what white is, likewise.
    whole_sets : bool
        all shards of a prepared set must be there.

    Raises
    ------
    ValueError
        if a file is missing, cut short, or holds no such data set; if shards of a prepared set are missing.
    """
    files, images = OpenFiles(), list[StoredImage]()
    shards: dict[tuple[Path, int], set[int]] = {}
    for path in paths:
        with open_file(path) as file:
            try:
                if is_prepared(file):
                    keys = _prepared_keys(file, path, key)
                    shard, count = int(file.attrs["shard"]), int(file.attrs["shards"])
                    stem = path.stem.removesuffix(f"-{shard}-of-{count}")
                    shards.setdefault((path.parent / stem, count), set()).add(shard)
                else:
                    keys = [_image_key(file, path, key)]
                for each in keys:
                    axes, size = _layout(file[each], path, each, scale)
                    shape = (3 if color else 1, *size)
                    numbers = file[each].dtype.newbyteorder("=")
                    sure = scale is not None or numbers in (np.bool_, np.uint8)
                    how = None if sure else torch.uint16 if numbers == np.uint16 else torch.float32, scale
                    images += [
                        HDF5Image(files, path, each, row, axes, shape, *how, are_complex(numbers))
                        for row in range(len(file[each]))
                    ]
            except (KeyError, OSError, RuntimeError, TypeError, AttributeError, OverflowError) as error:
                raise ValueError(f"HDF5: {path} is damaged: {error}") from error
    for (of, count), found in shards.items() if whole_sets else ():
        if len(found) != count:
            raise ValueError(f"HDF5: of the {count} shards of {of} only these are there: {sorted(found)}")
    return images


def is_prepared(file: Any) -> bool:
    """Whether an open file was written by `unrolled.data.prepare`."""
    # Our attributes are strings of fixed length: reading one of any length can hang in the library if it is damaged.
    fixed = "format" in file.attrs and file.attrs.get_id("format").dtype.kind == "S"
    return fixed and bool(file.attrs["format"] == FORMAT.encode())


def _prepared_keys(file: Any, path: Path, key: str | None) -> list[str]:
    version = int(file.attrs.get("format_version", 0))
    if version != VERSION:
        raise ValueError(f"HDF5: {path} has version {version} of the format, this release reads version {VERSION}")
    if key is not None:
        raise ValueError(f"HDF5: {path} was prepared with all its images in one set; key must be left out, got {key!r}")
    if is_link(file, "images") or any(is_link(file["images"], name) for name in file["images"]):
        raise ValueError(f"HDF5: {path}: its images are links, which are not followed; name the file that they lead to")
    return [f"images/{name}" for name in file["images"]]


def _image_key(file: Any, path: Path, key: str | None) -> str:
    import h5py

    found: dict[str, Any] = {}
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    listed = ", ".join(f"{name} {item.shape} {item.dtype}" for name, item in found.items()) or "nothing"
    if key is not None:
        if key.strip("/") not in found:
            raise ValueError(f"HDF5: {path} has no data set {key!r}; it holds {listed}")
        return key.strip("/")
    stacks = [name for name, item in found.items() if item.ndim in (3, 4)]
    if len(stacks) != 1:
        raise ValueError(f"HDF5: {path}: give the key of the images, {LAYOUTS}; it holds {listed}")
    return stacks[0]


def _layout(data: Any, path: Path, key: str, scale: Scale | None) -> tuple[str, tuple[int, int]]:
    """Which axes a data set has, and (height, width)."""
    shape = tuple(data.shape)
    numbers = data.dtype.newbyteorder("=")
    states = numbers in (np.bool_, np.uint8, np.uint16) or numbers.kind == "f" or are_complex(numbers)
    if not states and not (scale is not None and numbers.kind in "iu"):
        how = f", whose white is not known; {HOW}" if numbers.kind in "iu" else ""
        raise ValueError(
            f"HDF5: {path}: {key!r} must be bool, uint8, uint16, floating point or complex, is {data.dtype}{how}"
        )
    check_stored(data, path, key)
    axes = "hw" if len(shape) == 3 else "chw" if shape[1:2] in ((1,), (3,)) else "hwc"
    size = dict(zip(axes, shape[1:], strict=False))
    if len(shape) != 1 + len(axes) or size.get("c", 1) not in (1, 3) or min(shape) < 1:
        raise ValueError(f"HDF5: {path}: {key!r} must be {LAYOUTS}, none of them 0, is {shape}")
    return axes, (size["h"], size["w"])


def check_stored(data: Any, path: Path, key: str) -> None:
    """Raise ValueError unless the numbers of a data set lie in its file, as many as it claims."""
    if lies_elsewhere(data):
        raise ValueError(
            f"HDF5: {path}: {key!r} lies in other files, which would read as 0 if missing; name those files"
        )
    claimed = math.prod(data.shape) * data.dtype.itemsize
    written = min(data.id.get_storage_size(), path.stat().st_size)
    if claimed > LARGEST_COMPRESSION * written:
        raise ValueError(f"HDF5: {path}: {key!r} claims {claimed:,} bytes of pixels, but {written:,} were written")
    try:
        check_unpacking(path, data)
        check_claim(f"{key!r}", max(claimed, ENTRY * (data.shape or (1,))[0]), path.stat().st_size)
    except ValueError as error:
        raise ValueError(f"HDF5: {path}: {error}") from None
