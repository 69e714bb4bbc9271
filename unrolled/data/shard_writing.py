"""Folders of images into shards: tar files that hold the image files as they are, and their index."""

import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unrolled.data.images import read_image
from unrolled.data.shard_files import digest_of
from unrolled.data.shard_index import Shard, check_index_target, save_index
from unrolled.data.tar_images import TAR
from unrolled.system.files import replacing

ABOUT, FORMAT = "about.json", "unrolled images in a tar file"
"""The first member of each file, by which it is known to be ours."""


def write_shards(
    sources: Sequence[Path], out: Path, shards: int, licence: str, force: bool, skip_broken: bool, progress: bool
) -> tuple[list[Path], list[str]]:
    """Write images into tar files, in their order, and the index of these; returns both, and what was left out.

    Files are copied as they are, once they were read without an error. The index is written last, so that whatever
    reads it finds whole shards.

    Parameters
    ----------
    sources : list of Path
        image files.
    out : Path
        ends in .tar; `set.tar` becomes `set-000001-of-000400.tar` and so on, and `set.json`.
    shards : int
        how many files.
    licence, force, skip_broken, progress
        as in `prepare_images`.

    Raises
    ------
    ValueError
        if images cannot be read (all are named), a file is there already (with force: one that was not written so), or
        nothing can be written; what was written until then is removed.
    """
    index = out.with_suffix(".json")
    check_index_target(index, force)
    name = re.compile(rf"{re.escape(out.stem)}-\d+-of-\d+{re.escape(TAR)}")
    existing = [path for path in sorted(out.parent.glob(f"*{TAR}")) if name.fullmatch(path.name)]
    for path in existing:
        if not force:
            raise ValueError(f"prepare: {path} exists already; choose another name, or replace it with --force")
        if not _is_ours(path):
            raise ValueError(f"prepare: {path} was not written by this command; move it away, or choose another name")
    about = json.dumps({"format": FORMAT, "licence": licence or "not stated"}).encode()
    written: list[Shard] = []
    broken: list[str] = []
    paths: list[Path] = []
    try:
        with tqdm(total=len(sources), desc="preparing", unit="image", disable=not progress, dynamic_ncols=True) as bar:
            for number in range(shards):
                own = sources[number * len(sources) // shards : (number + 1) * len(sources) // shards]
                path = out.with_name(f"{out.stem}-{number + 1:06}-of-{shards:06}{TAR}")
                with replacing(path) as temporary:
                    count = _write_tar(temporary, own, about, number * len(sources) // shards, broken, bar)
                    if not count:
                        raise ValueError(
                            f"prepare: none of the images of {path.name} can be read:\n" + "\n".join(broken)
                        )
                paths.append(path)
                written.append(Shard(path.name, path.stat().st_size, count, digest_of(path)))
        if broken and not skip_broken:
            raise ValueError(
                f"prepare: {len(broken)} of {len(sources)} images cannot be read (--skip-broken leaves them out):\n"
                + "\n".join(broken)
            )
        save_index(written, index)
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    for path in existing:
        if path not in paths:
            path.unlink()
    return [*paths, index], broken


def _write_tar(path: Path, sources: Sequence[Path], about: bytes, first: int, broken: list[str], bar: Any) -> int:
    """Write one shard; returns how many images it holds."""
    count = 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, ABOUT, about)
        for number, source in enumerate(sources, first):
            bar.update()
            try:
                read_image(source, color=True, scale="max")
                content = source.read_bytes()
            except (ValueError, OSError) as error:
                broken.append(str(error))
                continue
            _add(archive, f"{number:012}{source.suffix.lower()}", content)
            count += 1
    return count


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _is_ours(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
            if first is None or first.name != ABOUT or not first.isreg() or first.size > 2**20:
                return False
            file = archive.extractfile(first)
            found = json.loads(file.read()) if file is not None else None
            return isinstance(found, dict) and found.get("format") == FORMAT
    except (tarfile.TarError, OSError, ValueError, RecursionError):
        return False
