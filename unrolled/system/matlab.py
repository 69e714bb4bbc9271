"""MATLAB files of version 5 to 7.2, read without trust in what they say of themselves.

SciPy's reader looks the types of numbers up in a table, at places that an altered file may put outside of it.
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np

# The numbers of the format's types and classes, from its description ("MAT-File Format", The MathWorks).
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single", 8: "int8", 9: "uint8",
           10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64"}  # fmt: skip
FIRST_NUMERIC = 6
IS_COMPLEX = 0x0800

HEAD = 10_000
"""Bytes of a compressed variable in which its shape and name must lie."""

LARGEST_NUMBER = 16
"""Bytes of a complex number in double precision."""

Variable = tuple[str, tuple[int, ...], str, Callable[[], np.ndarray] | None]


def variables(data: bytes) -> Iterator[Variable]:
    """Name, shape, class, and a function that gives the numbers (None if there are none) of every variable.

    Compressed numbers are unpacked only by that function.

    Parameters
    ----------
    data : bytes
        of the whole file.

    Raises
    ------
    ValueError, zlib.error, struct.error
        if the file is not what it says it is.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("it has no header of a MATLAB file")
    for kind, body in _elements(memoryview(data)[128:], order):
        variable = _variable(body, kind == COMPRESSED, order) if kind in (MATRIX, COMPRESSED) else None
        if variable is not None and variable[0]:  # what has no name belongs to objects elsewhere in the file
            yield variable


def _variable(body: memoryview, compressed: bool, order: str) -> Variable:
    head = _unpack(body, HEAD, order) if compressed else body
    parts = [part for _, (_, part) in zip(range(3), _elements(head, order), strict=False)]
    if len(parts) < 3:
        raise ValueError("a variable is cut short")
    flags = struct.unpack(f"{order}I", parts[0][:4])[0]
    shape = tuple(np.frombuffer(parts[1], f"{order}i4").tolist())
    name, kind = bytes(parts[2]).decode("latin-1"), flags & 0xFF
    if not FIRST_NUMERIC <= kind <= max(CLASSES):
        return name, shape, CLASSES.get(kind, "object"), None

    def load() -> np.ndarray:
        # The stream may go on for longer than the numbers.
        if compressed and _stated_size(body, order) > HEAD + LARGEST_NUMBER * math.prod(shape):
            raise ValueError(f"{name} would unpack to more numbers than its shape {shape} has")
        whole = _unpack(body, None, order) if compressed else body
        _, _, _, *numbers = _elements(whole, order)
        if len(numbers) != (2 if flags & IS_COMPLEX else 1) or any(kind not in NUMBERS for kind, _ in numbers):
            raise ValueError(f"the numbers of {name} are not as its header states")
        real, *imaginary = (np.frombuffer(part, order + NUMBERS[kind]) for kind, part in numbers)
        values = real + 1j * imaginary[0] if imaginary else real
        return values.reshape(shape, order="F")

    return name, shape, CLASSES[kind], load


def _unpack(body: memoryview, length: int | None, order: str) -> memoryview:
    """What is inside of a compressed variable: its first bytes, or as many as it states."""
    size = _stated_size(body, order)
    return memoryview(zlib.decompressobj().decompress(body, 8 + (size if length is None else min(size, length))))[8:]


def _stated_size(body: memoryview, order: str) -> int:
    """Bytes of a compressed variable, as it states."""
    kind, size = struct.unpack(f"{order}II", zlib.decompressobj().decompress(body, 8))
    if kind != MATRIX:
        raise ValueError("a compressed element is not a variable")
    return int(size)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The elements one after the other: type and content."""
    while len(data) >= 8:
        kind, size = struct.unpack(f"{order}II", data[:8])
        start, end = 8, 8 + size
        following = end if kind == COMPRESSED else end + -size % 8
        if kind >> 16:  # up to four bytes lie inside of the head
            kind, start, end, following = kind & 0xFFFF, 4, 4 + (kind >> 16), 8
        if end > min(following, len(data)):
            raise ValueError("an element is longer than the file")
        yield kind, data[start:end]
        data = data[following:]
