"""Entries of any length in HDF5 files: texts and rows of numbers, which lie in heaps beside the data sets.

HDF5's library allocates whatever length such an entry claims, and does not return from a heap whose free space has the
size 0. So the bytes are taken from the file here, where lengths and sizes are compared with what there is. The format
is that of the "HDF5 File Format Specification", version 3.0, sections III.E and IV.A.2.d.
"""

import mmap
import struct
from pathlib import Path
from typing import Any, Self

import numpy as np

from unrolled.system.hdf5_sets import lies_elsewhere

REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
"""What a data set has in the place of an entry: how many numbers it is, and where they lie."""

HEADER = 16
"""Bytes at the head of a heap, of each entry in it, and of an object."""

ATTRIBUTE, CONTINUED = 0x000C, 0x0010
"""Kinds of messages in the header of an object."""


class Heaps:
    """The entries of any length in an HDF5 file, as bytes.

    Parameters
    ----------
    path : Path
    file : h5py.File
        the same file, open.

    Raises
    ------
    ValueError
        if addresses or sizes in the file do not have 64 bits, or it has no bytes.
    """

    def __init__(self, path: Path, file: Any):
        self._path = path
        if tuple(file.id.get_create_plist().get_sizes()) != (8, 8):
            raise self.refused("its addresses do not have 64 bits; write it again with h5repack")
        with open(path, "rb") as handle:
            self._bytes = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self._known: dict[int, dict[int, tuple[int, int]]] = {}
        self._walked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._bytes.close()

    def refused(self, why: str) -> ValueError:
        """What is raised for this file."""
        return ValueError(f"HDF5: {self._path}: {why}")

    def rows(self, data: Any) -> np.ndarray:
        """The stored bytes of a data set of one axis or none, a row an element: (n, bytes).

        Raises
        ------
        ValueError
            if it is compressed, lies in other files, or was not written as far as it claims.
        """
        if data.ndim > 1 or lies_elsewhere(data):
            raise self.refused(f"{data.name!r} must be a list that lies in the file itself")
        kind = data.id.get_type()
        # Of a text of any length this is the size in memory, that of an address; on disk it is a reference.
        width = REFERENCE.itemsize if _is_long_text(kind) else kind.get_size()
        count = data.shape[0] if data.ndim else 1
        if count * width > len(self._bytes):
            raise self.refused(f"{data.name!r} claims {count * width:,} bytes of a file of {len(self._bytes):,}")
        if data.chunks is None:
            return self._rows_at(data, data.id.get_offset(), count, width).copy()
        if data.id.get_create_plist().get_nfilters():
            raise self.refused(f"{data.name!r} is compressed; write it again with: h5repack -f NONE IN OUT")
        chunks: list[Any] = []
        data.id.chunk_iter(chunks.append)
        found, written = np.zeros((count, width), np.uint8), 0
        for chunk in chunks:
            (first,) = chunk.chunk_offset
            some = min(data.chunks[0], count - first)
            if some > 0:  # a chunk may reach beyond the end
                found[first : first + some] = self._rows_at(data, chunk.byte_offset, some, width)
                written += some
        if written != count:
            raise self.refused(f"{data.name!r} claims {count} entries, but {written} were written")
        return found

    def _rows_at(self, data: Any, offset: int | None, count: int, width: int) -> np.ndarray:
        if offset is None or offset + count * width > len(self._bytes):
            raise self.refused(f"{data.name!r} was not written, or the file is cut short")
        return np.frombuffer(self._bytes, np.uint8, count * width, offset).reshape(count, width)

    def entry(self, reference: np.void, size: int) -> bytes:
        """The bytes of an entry.

        Parameters
        ----------
        reference : a number of the type `REFERENCE`
        size : int
            bytes of each of its numbers.

        Raises
        ------
        ValueError
            if it has another length than it claims, or its heap is damaged.
        """
        length = int(reference["length"]) * size
        if length == 0:
            return b""
        heap = int(reference["heap"])
        if heap not in self._known:
            self._known[heap] = self._entries(heap)
        at, there = self._known[heap].get(int(reference["index"]), (0, -1))
        if there != length:
            raise self.refused(f"an entry claims {length:,} bytes, but {max(there, 0):,} are there")
        return self._bytes[at : at + length]

    def attribute(self, header: int, name: str) -> np.void | None:
        """The reference that an attribute of an object is; None if the object's header has none of this name, or is not
        of version 1, which h5py writes by default.

        Parameters
        ----------
        header : int
            where the object's header lies.
        name : str
        """
        start = self._bytes[header : header + HEADER]
        if len(start) < HEADER or start[0] != 1:
            return None
        blocks, walked = [(header + HEADER, int.from_bytes(start[8:12], "little"))], 0
        for begin, length in blocks:  # a block may state where the next one is
            walked += length
            if begin + length > len(self._bytes) or walked > len(self._bytes):
                raise self.refused("the header of its attributes is damaged")
            at = begin
            while at + 8 <= begin + length:
                kind, size = struct.unpack("<HH", self._bytes[at : at + 4])
                body = self._bytes[at + 8 : at + 8 + size]
                at += 8 + size
                if kind == CONTINUED and size >= 16:
                    blocks.append(struct.unpack("<QQ", body[:16]))
                elif kind == ATTRIBUTE and size >= 8 and body[0] == 1:
                    # Its name, type and space are each padded to 8 bytes.
                    lengths = [-(-each // 8) * 8 for each in struct.unpack("<HHH", body[2:8])]
                    value = body[8 + sum(lengths) :][: REFERENCE.itemsize]
                    if body[8 : 8 + lengths[0]].rstrip(b"\0") == name.encode() and len(value) == REFERENCE.itemsize:
                        found: np.void = np.frombuffer(value, REFERENCE)[0]
                        return found
        return None

    def _entries(self, heap: int) -> dict[int, tuple[int, int]]:
        """Of each entry of a heap by its number: where it begins, and its bytes."""
        if heap + HEADER > len(self._bytes) or self._bytes[heap : heap + 5] != b"GCOL\x01":
            raise self.refused(f"there is no heap at {heap}")
        end = heap + int.from_bytes(self._bytes[heap + 8 : heap + HEADER], "little")
        self._walked += end - heap
        if end > len(self._bytes) or self._walked > len(self._bytes):
            raise self.refused(f"the heap at {heap} reaches beyond the file, or into another")
        found, at = dict[int, tuple[int, int]](), heap + HEADER
        while at + HEADER <= end:
            index, size = struct.unpack("<H6xQ", self._bytes[at : at + HEADER])
            at += HEADER
            if index == 0:  # what is left is free
                break
            if size > end - at:
                raise self.refused(f"the heap at {heap} is damaged")
            found[index] = at, size
            at += -(-size // 8) * 8
        return found


def text_of(heaps: Heaps, data: Any, longest: int) -> str:
    """A single text of a data set, whatever kind of text it is; letters that are not UTF-8 are replaced.

    Parameters
    ----------
    heaps : Heaps
        of the file.
    data : h5py.Dataset
        of no axis, or of one with one entry.
    longest : int
        bytes of a text that is taken.

    Raises
    ------
    ValueError
        if it is no single text, longer, or damaged.
    """
    long = _is_long_text(data.id.get_type())
    if data.shape not in ((), (1,)) or not (long or data.dtype.kind == "S"):
        raise heaps.refused(f"{data.name!r} must be a text, is {data.dtype} {data.shape}")
    (row,) = heaps.rows(data)
    reference = row.view(REFERENCE)[0] if long else None
    length = len(row) if reference is None else int(reference["length"])
    if length > longest:
        raise heaps.refused(f"{data.name!r} claims {length:,} bytes; at most {longest:,} are read")
    text: bytes = row.tobytes() if reference is None else heaps.entry(reference, 1)
    return text.rstrip(b"\0").decode("utf-8", "replace")


def text_attribute(heaps: Heaps, file: Any, name: str, longest: int) -> str | None:
    """A text that is an attribute of a file, of any length or of a fixed one.

    Parameters
    ----------
    heaps, file
        as in `Heaps`.
    name : str
        of the attribute.
    longest : int
        bytes of a text that is taken.

    Returns
    -------
    str, or None
        where there is no such text, or it lies in a form that only files written with `libver="latest"` have

    Raises
    ------
    ValueError
        if it is damaged or longer.
    """
    import h5py

    if name not in file.attrs:
        return None
    kind = file.attrs.get_id(name)
    if kind.shape != ():
        return None
    if kind.dtype.kind == "S":
        text = bytes(file.attrs[name])
    elif _is_long_text(kind.get_type()):
        reference = heaps.attribute(h5py.h5o.get_info(file.id).addr, name)
        if reference is None:
            return None
        if reference["length"] > longest:
            raise heaps.refused(f"{name!r} claims {reference['length']:,} bytes; at most {longest:,} are read")
        text = heaps.entry(reference, 1)
    else:
        return None
    return text[:longest].rstrip(b"\0").decode("utf-8", "replace")


def _is_long_text(kind: Any) -> bool:
    """Whether a type of h5py is that of texts of any length."""
    import h5py

    return isinstance(kind, h5py.h5t.TypeStringID) and bool(kind.is_variable_str())
