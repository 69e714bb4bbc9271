"""Files whose headers lie: what they say of sizes, types and layout is changed, and all else is left whole."""

import functools
import gzip
import io
import json
import math
import random
import re
import struct
import zlib

SIZES = [0, 1, 2, 3, 7, 19, 21, 255, 256, 1000, 13_000, 30_000, 65_535]
LARGE = [2**16, 10**6, 2**28, 2**31 - 1, 2**31, 2**32 - 1]


def png_header(data: bytes, draw: random.Random) -> bytes:
    """Another width, height, depth, type of color or interlacing, under a checksum that fits."""
    fields = list(struct.unpack(">IIBBBBB", data[16:29]))
    at = draw.randrange(7)
    fields[at] = draw.choice(SIZES + LARGE) if at < 2 else draw.choice([0, 1, 2, 3, 4, 6, 8, 12, 16, 255])
    chunk = b"IHDR" + struct.pack(">IIBBBBB", *fields)
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def png_pixels(data: bytes, draw: random.Random) -> bytes:
    """Fewer or more bytes of pixels, in a stream that ends as it should."""
    out, packed, at = data[:8], b"", 8
    while at + 12 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        elif kind == b"IEND":
            pixels = zlib.decompress(packed)
            pixels = draw.choice([pixels[: draw.randrange(len(pixels))], pixels + bytes(10_000), b"", bytes(10**7)])
            body = b"IDAT" + zlib.compress(pixels)
            out += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[at:]
        else:
            out += data[at : at + 12 + size]
        at += 12 + size
    return out


def jpeg_frame(data: bytes, draw: random.Random) -> bytes:
    """Another size, precision, number of components or sampling in the frame's header."""
    at = next((at for kind in (0xC0, 0xC1, 0xC2) if (at := data.find(bytes([0xFF, kind]))) >= 0), -1)
    if at < 0:
        return data
    out = bytearray(data)
    which = draw.randrange(4)
    if which < 2:
        out[at + 5 + 2 * which : at + 7 + 2 * which] = struct.pack(">H", draw.choice(SIZES))
    else:
        out[at + (4, 9, 11)[draw.randrange(3)]] = draw.choice([0, 1, 2, 3, 4, 8, 12, 16, 0x11, 0x22, 0x44, 255])
    return bytes(out)


def exif_orientation(data: bytes, draw: random.Random) -> bytes:
    """Another orientation, of any type."""
    for mark, order in ((b"\x12\x01\x03\x00", "<"), (b"\x01\x12\x00\x03", ">")):
        at = data.find(mark)
        if at >= 0:
            head = struct.pack(f"{order}HHI", 0x0112, draw.choice([1, 2, 3, 4, 5, 7, 12, 0]), draw.choice([0, 1, 2, 9]))
            value = struct.pack(f"{order}HH", draw.choice([0, 1, 5, 6, 8, 9, 255, 65535]), 0)
            return data[:at] + head + value + data[at + 12 :]
    return data


def tiff_tag(data: bytes, draw: random.Random) -> bytes:
    """Another type, count or value of a tag of the first image."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 14:
        return data
    first = struct.unpack(f"{order}I", data[4:8])[0]
    count = struct.unpack(f"{order}H", data[first : first + 2])[0] if first + 2 <= len(data) else 0
    if not count or first + 2 + 12 * count > len(data):
        return data
    at = first + 2 + 12 * draw.randrange(count)
    tag, kind, number, value = struct.unpack(f"{order}HHII", data[at : at + 12])
    which = draw.randrange(4)
    if which == 0:
        kind = draw.choice([0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 16])
    elif which == 1:
        number = draw.choice([0, 1, 2, 3, 1000, *LARGE]) & 0xFFFFFFFF
    elif which == 2:
        value = draw.choice(SIZES + LARGE)
    else:  # of the types of pixels: bits, compression, black, orientation, channels, planes, predictor, format
        tag, number = draw.choice([258, 259, 262, 274, 277, 284, 317, 339, 281]), 1
        value = draw.choice([0, 1, 2, 3, 5, 8, 12, 16, 32, 64, 32773])
    return data[:at] + struct.pack(f"{order}HHII", tag, kind, number, value & 0xFFFFFFFF) + data[at + 12 :]


def first_numbers(data: bytes, draw: random.Random) -> bytes:
    """Another number of two or four bytes near the head, as sizes are in GIF, BMP and WebP; of text in PGM."""
    if data[:1] == b"P":
        parts = data.split(maxsplit=4)
        at = draw.randrange(1, max(2, min(4, len(parts))))
        if at < len(parts):
            parts[at] = str(draw.choice([*SIZES, *LARGE, -1])).encode()
        return b"\n".join(parts)
    at, size = draw.randrange(4, 40), draw.choice([2, 4])
    return data[:at] + (draw.choice(SIZES + LARGE) % 256**size).to_bytes(size, "little") + data[at + size :]


def mat_numbers(data: bytes, draw: random.Random) -> bytes:
    """Another number among the types, flags and dimensions at the head of the first variable."""
    at = 4 * draw.randrange(0 if data[:4].count(0) else 32, 48)
    return data[:at] + struct.pack("<I", draw.choice(SIZES + LARGE) & 0xFFFFFFFF) + data[at + 4 :]


def mat_packed(data: bytes, draw: random.Random) -> bytes:
    """Another number within a variable that is compressed, or many zeros behind it."""
    kind, size = struct.unpack("<II", data[128:136])
    if kind != 15:
        return mat_numbers(data, draw)
    body = bytearray(zlib.decompress(data[136 : 136 + size]))
    at = 4 * draw.randrange(0, 16)
    body[at : at + 4] = struct.pack("<I", draw.choice(SIZES + LARGE) & 0xFFFFFFFF)
    packed = zlib.compress(bytes(body) + bytes(draw.choice([0, 2**24])))
    return data[:128] + struct.pack("<II", 15, len(packed)) + packed + data[136 + size :]


def tar_header(data: bytes, draw: random.Random) -> bytes:
    """Another size, type or name in a header of an archive, packed or not, under a checksum that fits."""
    packed = data.startswith(b"\x1f\x8b")
    archive = bytearray(gzip.decompress(data) if packed else data)
    at = 512 * draw.randrange(len(archive) // 512)
    if archive[at + 257 : at + 262] != b"ustar":
        at = 0
    which = draw.randrange(3)
    if which == 0:
        archive[at + 124 : at + 136] = b"%011o\0" % min(draw.choice([*SIZES, *LARGE, 3 * 2**30]), 8**11 - 1)
    elif which == 1:
        archive[at + 156] = draw.choice(b"01234567xgLKSDV")
    else:
        name = draw.choice([b"train/cat/../../canary", b"/canary", b"train/\xff/1.jpg", b"train/cat/1.jpg"])
        archive[at : at + 100] = name.ljust(100, b"\0")
    archive[at + 148 : at + 156] = b" " * 8
    archive[at + 148 : at + 156] = b"%06o\0 " % sum(archive[at : at + 512])
    return gzip.compress(bytes(archive), 1) if packed else bytes(archive)


def hdf5_sets(data: bytes, draw: random.Random) -> bytes:
    """Another shape, type, chunking or content of one data set; some claim what was never written."""
    import h5py  # not for the process that only watches
    import numpy as np

    out = io.BytesIO(data)
    with h5py.File(out, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        if not names:
            return data
        name = draw.choice(names)
        old = file[name]
        shape, kind = old.shape or (), old.dtype
        if math.prod(shape) > 10**6:  # a bomb, of which a large file would be made
            return data
        values = old[()] if old.dtype.kind in "buifc" else None
        del file[name]
        which = draw.randrange(6)
        if which == 0:  # a shape that nothing was written of
            shape = tuple(draw.choice([1, 2, 3, 1000, 10**5, 10**8]) for _ in shape or (1,))
            file.create_dataset(name, shape, kind, chunks=tuple(min(side, 64) for side in shape))
        elif which == 1:
            wanted = draw.choice(["i2", "u2", "i8", "f2", "f8", "c8", "c16", "S4", "?", ">i4"])
            file[name] = np.zeros(shape, wanted)
        elif which == 2 and values is not None:
            file[name] = np.asarray(values)[draw.choice([None, ..., 0, slice(0, 0)])]
        elif which == 3 and values is not None and np.asarray(values).dtype.kind in "fc":
            file[name] = np.asarray(values) * draw.choice([np.nan, np.inf, 1e30, 1e-30, -1, 255])
        elif which == 4:
            file[name] = h5py.SoftLink(draw.choice([f"/{name}", "/nowhere", "/"]))
        else:
            file[name] = draw.choice(["text", 3, [1, 2, 3], np.zeros((2, 0, 3)), np.zeros((0,) * 32)])
    return out.getvalue()


def heaps(data: bytes, draw: random.Random) -> bytes:
    """Another size of a heap of HDF5 or of an entry in it, or another length or place in a reference to one."""
    out = bytearray(data)
    places = _heaps(data)
    if not places:
        return data
    heap = draw.choice(places)
    entries = [at for at in range(heap + 16, min(heap + 4096, len(data) - 16), 8) if data[at + 4 : at + 8] == bytes(4)]
    references = _references(data, heap)
    which = draw.randrange(4)
    number = draw.choice([*LARGE, *SIZES, 2**62, 2**63, 2**64 - 1])
    if which == 0:
        struct.pack_into("<Q", out, heap + 8, number)
    elif which == 1 and entries:
        struct.pack_into(draw.choice(["<Q", "<8xQ"]), out, draw.choice(entries), number)
    elif which == 2 and references:
        struct.pack_into("<I", out, draw.choice(references) + draw.choice([-4, 8]), number % 2**32)
    elif references:
        struct.pack_into("<Q", out, draw.choice(references), draw.choice([number, *places]))
    return bytes(out)


def raw_heads(data: bytes, draw: random.Random) -> bytes:
    """Another number in the header of an acquisition of ISMRMRD."""
    ends = [at - 20 for heap in _heaps(data) for at in _references(data, heap)]
    out = bytearray(data)
    for end in draw.choices(ends, k=draw.choice([1, 1, 3])) if ends else []:
        at = max(0, end - 2 * draw.randrange(1, 170))
        struct.pack_into("<H", out, at, draw.choice(SIZES))
    return bytes(out)


def _heaps(data: bytes) -> list[int]:
    return [found.start() for found in re.finditer(b"GCOL", data) if found.start() + 32 < len(data)]


def _references(data: bytes, heap: int) -> list[int]:
    """Where the address of a heap is written."""
    found = re.finditer(re.escape(struct.pack("<Q", heap)), data)
    return [each.start() for each in found if 4 <= each.start() < len(data) - 12]


WHOLE = [9_999, 16_000, 30_000, 10**6, 2**28, 10**9, 2**31, 2**32 + 1, 2**63]
SCALES = [1e-300, 1e-9, 0.5, 1e9, 1e300]


def card_sizes(data: bytes, draw: random.Random) -> bytes:
    """One number or two in a recipe of weights enormous, or tiny; also those that were left to a default."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    card = json.loads(header["__metadata__"]["card"])
    part = "operator" if "operator" in card and draw.random() < 0.7 else "network"
    places = list(_numbers(card[part])) or list(_numbers(card["network"]))
    given = [(node, key) for node, key in places if node[key] is not None]
    places = given if given and draw.random() < 0.8 else places
    for node, key in [draw.choice(places) for _ in range(draw.choice([1, 2]))]:
        node[key] = draw.choice(SCALES if isinstance(node[key], float) or draw.random() < 0.1 else WHOLE)
    header["__metadata__"]["card"] = json.dumps(card)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _numbers(tree: dict | list):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, (dict, list)):
            yield from _numbers(value)
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            yield tree, key


def bomb(makers: dict):
    """A mutation that puts a whole bomb in the place of a file."""
    made = functools.cache(lambda name: makers[name]())
    return lambda data, draw: made(draw.choice(sorted(makers)))
