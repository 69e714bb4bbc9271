"""Small files that ask for much: in their headers, in streams that unpack enormously, by links to other files."""

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import tifffile
from PIL import Image


def _saved(picture: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def png_of(width: int, height: int, rows: int, interlaced: bool = False) -> bytes:
    """A PNG of white pixels, of which so many rows are there; of interlaced black ones, of the first pass."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    pixels = bytes(1 + -(-width // 8)) * rows if interlaced else (b"\0" + b"\xff" * width) * rows
    parts = [
        (b"IHDR", head),
        (b"IDAT", zlib.compress(pixels)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = _saved(Image.new("L", (2000, 2000), 100), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def gif_of(width: int, height: int) -> bytes:
    data = _saved(Image.new("L", (4, 4)), "GIF")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def jpeg_of(width: int, height: int) -> bytes:
    data = _saved(Image.new("L", (8, 8)), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def tiff_of(numbers: np.ndarray) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, numbers, compression="deflate")
    return out.getvalue()


def mat_of(shape: tuple[int, int], stated: int) -> bytes:
    """A compressed variable "phi" of a shape, whose stream goes on with zeros to the size that is stated."""
    head = struct.pack("<II II II ii I4s", 6, 8, 6, 0, 5, 8, *shape, 1 | 3 << 16, b"phi\0")
    head += struct.pack("<II", 9, stated - len(head) - 8)
    pack = zlib.compressobj()
    packed = pack.compress(struct.pack("<II", 14, stated) + head)
    for _ in range(0, stated - len(head), 2**20):
        packed += pack.compress(bytes(2**20))
    packed += pack.flush()
    return b"MATLAB".ljust(124) + struct.pack("<H2s", 0x0100, b"IM") + struct.pack("<II", 15, len(packed)) + packed


def hdf5_of(fill: Callable[[h5py.File], object]) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        fill(file)
    return out.getvalue()


def packed_by(shape: tuple[int, ...], chunk: tuple[int, ...], filters: int = 1, packed: bytes = b"") -> bytes:
    """A data set "phi" of zeros that is packed by several filters of one kind, or of chunks that are given."""

    def fill(file: h5py.File) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(chunk)
        for _ in range(filters):
            properties.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (4,))
        space = h5py.h5s.create_simple(shape)
        data = h5py.h5d.create(file.id, b"phi", h5py.h5t.NATIVE_UINT8, space, properties)
        zeros = packed or bytes(np.prod(chunk))
        for _ in range(0 if packed else filters):
            zeros = zlib.compress(zeros)
        for first in range(0, shape[0], chunk[0]):
            data.write_direct_chunk((first,) + (0,) * (len(shape) - 1), zeros)

    return hdf5_of(fill)


def prepared(file: h5py.File, images: object) -> None:
    """The attributes of a file that `prepare_images` wrote, and something else for its images."""
    file.attrs.update(format_version=1, shard=1, shards=1)
    file.attrs.create("format", b"unrolled images", dtype="S15")
    file["images"] = images


def archive_of_labels(folder: Path, claimed: int, held: int) -> Path:
    """The archive of CIFAR-10's JPEG copy with one picture that claims so many bytes, and has so many zeros."""
    path = folder / "cifar10_jpeg.tar.gz"
    with gzip.open(path, "wb") as packed:
        member = tarfile.TarInfo("train/cat/1.jpg")
        member.size = claimed
        packed.write(member.tobuf())
        for _ in range(0, held, 2**20):
            packed.write(bytes(2**20))
    return path


IMAGES: dict[str, Callable[[], bytes]] = {
    "wide.png": lambda: png_of(16_000, 11_000, 1),
    "short.png": lambda: png_of(40, 30, 29),
    "interlaced.png": lambda: png_of(40, 30, 4, True),
    "wide.gif": lambda: gif_of(13_000, 13_000),
    "wide.jpg": lambda: jpeg_of(13_000, 13_000),
    "scans.jpg": lambda: jpeg_of_scans(1000),
    "blank.tif": lambda: tiff_of(np.zeros((4200, 4200), np.float16)),
    "blank.bmp": lambda: b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 13_000, 13_000, 1, 24, *[0] * 6),
    "wide.pgm": lambda: b"P5 13000 13000 255\n" + bytes(99),
}
"""Images, each refused by `read_image`."""

SETS: dict[str, Callable[[], bytes]] = {
    "rows.h5": lambda: packed_by((10**8, 1, 1), (10**7, 1, 1)),
    "chunk.h5": lambda: packed_by((1, 2**14, 2**16), (1, 2**14, 2**16), packed=bytes(600_000)),
    "twice.h5": lambda: packed_by((1, 8, 2**11), (1, 8, 2**11), 2),
    "prepared.h5": lambda: hdf5_of(lambda file: prepared(file, h5py.SoftLink("/elsewhere"))),
    "external.h5": lambda: hdf5_of(lambda file: prepared(file, h5py.ExternalLink("other.h5", "/images"))),
    "storage.h5": lambda: hdf5_of(
        lambda file: file.create_dataset("phi", (1, 9, 9), "f8", external=[("other.bin", 0, 1000)])
    ),
    "virtual.h5": lambda: hdf5_of(
        lambda file: file.create_virtual_dataset("phi", h5py.VirtualLayout((1, 9, 9), "f8"), fillvalue=0.5)
    ),
}
"""HDF5 files, each refused by `open_images`."""

ARRAYS: dict[str, Callable[[], bytes]] = {
    "stream.mat": lambda: mat_of((4, 9), 2**20),
    "shape.mat": lambda: mat_of((4300, 4300), 2**25),
    "archive.npy": lambda: _archive(),
    "rows.h5": lambda: packed_by((10**7, 8), (10**6, 8)),
    "never.h5": lambda: hdf5_of(lambda file: file.create_dataset("phi", (10**6, 9), "f8", chunks=(10**5, 9))),
    "twice.h5": lambda: packed_by((8, 2**10), (8, 2**10), 2),
}
"""Arrays, each refused by `read_array`."""


def _archive() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, phi=np.zeros((4, 9)))
    return out.getvalue()


def nifti_of(shape: tuple[int, ...], held: int, offset: float = 352.0) -> bytes:
    """A packed NIfTI of zeros that claims a shape, and holds so many bytes."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", head, 70, 16, 32)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<3f", head, 108, offset, 1.0, 0.0)
    head[344:348] = b"n+1\0"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(bytes(head))]
    parts += [packer.compress(bytes(min(2**20, held - done))) for done in range(0, held, 2**20)]
    return b"".join([*parts, packer.flush()])


NIFTI = {
    "zeros.nii.gz": lambda: nifti_of((400, 400, 450), 4 * 400 * 400 * 450),
    "claims.nii.gz": lambda: nifti_of((30000, 30000, 100), 1000),
    "slices.nii.gz": lambda: nifti_of((1, 1, 32000), 4 * 32000),
    "before.nii.gz": lambda: nifti_of((4, 4, 4), 2**30, 2.0**30),
}
