"""Images in a tar file, as WebDataset lays them out: one member an image, read without unpacking the file."""

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from unrolled.data.images import SUFFIXES, read_image
from unrolled.data.stores import ALL, FileImage, StoredImage, as_stored
from unrolled.system.scales import Scale

TAR = ".tar"


def images_in_tar(path: Path, color: bool = False, scale: Scale | None = None) -> "TarImages":
    """The images of a tar file, by their order in it; members of other kinds are left out.

    Raises
    ------
    ValueError
        if it cannot be read, is compressed, is cut short, or holds no images.
    """
    size = path.stat().st_size if path.is_file() else -1
    if size < 0:
        raise ValueError(f"shards: there is no file {path}")
    places, suffixes = [], []
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                suffix = PurePosixPath(member.name).suffix.lower()
                if member.offset_data + member.size > size:
                    raise ValueError(f"member {member.name!r:.100} is cut short")
                if member.isreg() and not member.issparse() and suffix in SUFFIXES:
                    places.append((member.offset_data, member.size))
                    suffixes.append(SUFFIXES.index(suffix))
                archive.members.clear()  # type: ignore[attr-defined]  # else every header is kept
    except (tarfile.TarError, ValueError, OSError, OverflowError, RecursionError) as error:
        raise ValueError(f"shards: {path} cannot be read as a tar file: {error}") from error
    if not places:
        raise ValueError(f"shards: {path} holds no images ({', '.join(SUFFIXES)})")
    return TarImages(path, np.array(places, np.int64), np.array(suffixes, np.int8), color, scale)


class TarImages(Sequence[StoredImage]):
    """The images of a tar file, each read when it is asked for; 17 bytes of memory an image.

    Parameters
    ----------
    path : Path
    places : array (n, 2) of int64
        where the bytes of each image begin, and how many they are.
    suffixes : array (n,) of int8
        of each image, by its number in `SUFFIXES`.
    color, scale
        as in `read_image`.
    """

    def __init__(self, path: Path, places: np.ndarray, suffixes: np.ndarray, color: bool, scale: Scale | None):
        self.path, self.places, self.suffixes, self.color, self.scale = path, places, suffixes, color, scale

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> StoredImage:  # type: ignore[override]
        return TarImage(self, range(len(self))[index])

    def __iter__(self) -> Iterator[StoredImage]:
        return (self[index] for index in range(len(self)))

    def content(self, index: int) -> bytes:
        """The bytes of an image file."""
        offset, size = map(int, self.places[index])
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(size)


class TarImage(StoredImage):
    """One image of a tar file, decoded when its shape or pixels are first asked for, and kept while it is used.

    Parameters
    ----------
    images : TarImages
    index : int
    """

    def __init__(self, images: TarImages, index: int):
        self.images, self.index = images, index
        self.name = f"{images.path.name}:{index}"
        self._pixels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        channel, height, width = self._decoded().shape
        return channel, height, width

    @property
    def kind(self) -> torch.dtype | None:  # type: ignore[override]
        with self._as_file() as path:
            return FileImage(path, self.images.color, self.images.scale).kind

    def read(self, rows: slice = ALL, columns: slice = ALL) -> Tensor:
        return self._decoded()[:, rows, columns]

    def _decoded(self) -> Tensor:
        if self._pixels is None:
            with self._as_file() as path:
                try:
                    self._pixels = as_stored(read_image(path, self.images.color, self.images.scale))
                except ValueError as error:
                    raise ValueError(
                        str(error).replace(str(path), f"{self.images.path}, member {self.index}")
                    ) from error
        return self._pixels

    def _as_file(self) -> "_AsFile":
        return _AsFile(self.images.content(self.index), SUFFIXES[self.images.suffixes[self.index]])


class _AsFile:
    """Bytes as a file of their own, for readers that look at it again and again."""

    def __init__(self, content: bytes, suffix: str):
        self.content, self.file = content, tempfile.NamedTemporaryFile(prefix="unrolled-", suffix=suffix)  # noqa: SIM115

    def __enter__(self) -> Path:
        self.file.write(self.content)
        self.file.flush()
        return Path(self.file.name)

    def __exit__(self, *_: object) -> None:
        self.file.close()
