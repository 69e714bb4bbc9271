"""PNG: whether all rows that its header claims are there. Pillow leaves those black that are not."""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Numbers of a pixel, by PNG's type of color."""

PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
"""First row and column, and the distances of rows and columns, of what interlaced images hold one after another."""

AT_ONCE = 2**16
"""Bytes that are read, or unpacked, at once."""


def is_interlaced(stream: BinaryIO) -> bool:
    """Whether a PNG holds its rows in several passes."""
    stream.seek(28)
    return stream.read(1) != b"\0"


def holds_all_rows(stream: BinaryIO) -> bool:
    """Whether a PNG, which was decoded before, has as many bytes of pixels as its header claims."""
    stream.seek(16)
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", stream.read(13))
    bits = depth * CHANNELS[color]
    missing = 0
    for top, left, down, right in PASSES if interlaced else [(0, 0, 1, 1)]:
        rows, columns = -(-(height - top) // down), -(-(width - left) // right)
        missing += rows * (1 + math.ceil(columns * bits / 8)) if columns > 0 else 0
    unpack = zlib.decompressobj()
    for packed in _pixels(stream):
        while packed and missing > 0:
            missing -= len(unpack.decompress(packed, AT_ONCE))
            packed = unpack.unconsumed_tail
    return missing - len(unpack.flush()) <= 0


def _pixels(stream: BinaryIO) -> Iterator[bytes]:
    """The packed pixels of a PNG, in pieces."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        left, kind = struct.unpack(">I4s", head)
        if kind != b"IDAT":
            stream.seek(left + 4, 1)
            continue
        while left and (piece := stream.read(min(left, AT_ONCE))):
            left -= len(piece)
            yield piece
        stream.seek(4, 1)
