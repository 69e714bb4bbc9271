"""The index of a sharded data set: which files there are, how large, with how many images, and their hashes.

Images of a data set that does not fit on a machine lie in shards: tar files in the layout of WebDataset, or HDF5 files
of `unrolled.data.prepare`. The index is a small JSON file beside them. Memory grows with the number of shards, never
with that of images: 10⁸ images in shards of 1,000 have an index of about 15 MB.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unrolled.data.hdf5 import hdf5_images, list_hdf5
from unrolled.data.shard_files import digest_of, read_small
from unrolled.data.stores import StoredImage
from unrolled.data.tar_images import TAR, images_in_tar
from unrolled.system.files import as_path, check_regular, replacing
from unrolled.system.scales import Scale

FORMAT, VERSION = "unrolled shards", 1
LARGEST_INDEX = 2**28
"""Bytes of an index."""

NAME = re.compile(r"[\w][\w.+-]*(/[\w][\w.+-]*)*")
"""Of a shard: relative to the index, and never upwards."""


@dataclass(frozen=True)
class Shard:
    """One file of images.

    Parameters
    ----------
    name : str
        relative to the index.
    bytes : int
    images : int
    sha256 : str
    """

    name: str
    bytes: int
    images: int
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError(f"name must be a path below the index, without .. or an address, got {self.name!r:.200}")
        for field in ("bytes", "images"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
                raise ValueError(f"{field} must be a whole number > 0, got {value!r:.100}")
        if not isinstance(self.sha256, str) or not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 must be 64 hexadecimal digits, got {self.sha256!r:.100}")


def read_index(source: str | Path) -> list[Shard]:
    """The shards of an index, a file or an address that fsspec knows.

    Raises
    ------
    ValueError
        if it cannot be read or is not an index.
    """
    try:
        found: Any = json.loads(read_small(str(source), LARGEST_INDEX))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"shards: {source} cannot be read as an index: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("shards"), list):
        raise ValueError(f"shards: {source} is not an index of shards; `unrolled data index` writes one")
    if found.get("version") != VERSION:
        raise ValueError(f"shards: {source} has version {found.get('version')!r}, this program reads {VERSION}")
    shards = []
    for number, entry in enumerate(found["shards"]):
        try:
            shards.append(Shard(**entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"shards: {source}: shard {number}: {error}") from error
    if not shards or len({shard.name for shard in shards}) < len(shards):
        raise ValueError(f"shards: {source} must name at least one shard, and none twice")
    return shards


def write_index(files: Sequence[str | Path], out: str | Path, *, force: bool = False, progress: bool = True) -> None:
    """Write the index of tar or HDF5 files, which lie in its folder or below.

    Parameters
    ----------
    files : list of str or Path
    out : str or Path
        ends in .json.
    force : bool
        replace an index that is there.
    progress : bool

    Raises
    ------
    ValueError
        if a file cannot be read, holds no images or lies elsewhere, or if there is a file `out` already.
    """
    out = as_path("out", out)
    if out.suffix.lower() != ".json":
        raise ValueError(f"shards: out must end in .json, got {out}")
    check_index_target(out, force)
    shards = []
    for file in tqdm(files, desc="reading shards", unit="shard", disable=not progress, dynamic_ncols=True):
        path = as_path("shard", file)
        try:
            name = path.resolve().relative_to(out.parent.resolve()).as_posix()
        except ValueError:
            raise ValueError(f"shards: {path} must lie in the folder of the index, {out.parent}, or below") from None
        shards.append(Shard(name, path.stat().st_size, len(images_of(path)), digest_of(path)))
    save_index(shards, out)


def save_index(shards: Sequence[Shard], out: Path) -> None:
    """Write shards as an index."""
    if not shards:
        raise ValueError("shards: an index needs at least one shard")
    with replacing(out) as temporary:
        facts = {"format": FORMAT, "version": VERSION, "shards": [asdict(shard) for shard in shards]}
        temporary.write_text(json.dumps(facts, indent=0) + "\n", encoding="utf-8")


def check_index_target(out: Path, force: bool) -> None:
    """Raise ValueError if there is a file that an index must not replace."""
    try:
        check_regular(out)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error}") from error
    if out.exists():
        if not force:
            raise ValueError(f"shards: {out} exists already; choose another name, or replace it with --force")
        read_index(out)  # only another index is replaced


def images_of(path: Path, color: bool = False, scale: Scale | None = None) -> Sequence[StoredImage]:
    """The images of a shard that lies here."""
    if path.suffix.lower() == TAR:
        return images_in_tar(path, color, scale)
    if list_hdf5(path):
        return hdf5_images([path], None, color, scale, whole_sets=False)
    raise ValueError(f"shards: {path} must end in {TAR}, .h5 or .hdf5")
