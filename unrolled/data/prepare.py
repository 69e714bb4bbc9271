"""Folders of images into HDF5 files, for training sets that do not fit into memory."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from unrolled.data.hdf5 import FORMAT, SUFFIXES, VERSION, is_prepared, open_file
from unrolled.data.images import list_images, read_with_range
from unrolled.data.shard_writing import write_shards
from unrolled.data.stores import as_stored
from unrolled.data.tar_images import TAR
from unrolled.system.files import as_path, check_writable, one_or_several, replacing
from unrolled.system.scalars import plain_number
from unrolled.system.scales import Scale, brightness, refuse_dark

CHUNK = 256
"""Chunks have at most this many pixels a side, so that a crop reads little more than itself."""


def prepare_images(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    color: bool = False,
    shards: int = 1,
    licence: str = "",
    force: bool = False,
    skip_broken: bool = False,
    scale: Scale | None = None,
    progress: bool = True,
) -> tuple[list[Path], list[str]]:
    """Write the images of folders into one HDF5 file or several; they appear when they are complete.

    In a file, the group `images` has a data set for every size and type, (n, channel, height, width), uint8 for 8-bit
    images and float32 in [0, 1] for all others, uncompressed and chunked; the group `names` has, under the same key,
    where each image came from. Attributes of the file: `format`, `format_version`, `color`, `licence`, `shard` and
    `shards`.

    Parameters
    ----------
    folders : list of str or Path
        with subfolders; single images too.
    out : str or Path
        ends in .h5 or .hdf5; with several shards, `set.h5` becomes `set-1-of-4.h5` and so on. Or .tar: the image files
        as they are, in the layout of WebDataset, and the index `set.json`, see `unrolled.data.ShardBatches`.
    color : bool
        keep red, green and blue; otherwise the luma.
    shards : int
        how many files; the images are dealt to them in turn.
    licence : str
        is written into the files.
    force : bool
        replace files of the same name, and all shards of it, once the new ones are complete.
    skip_broken : bool
        leave out images that cannot be read.
    scale : Scale, optional
        what white is in the numbers of the files, see `read_image`.
    progress : bool
        whether to show a progress bar.

    Returns
    -------
    files, skipped : list of Path, list of str
        what was written, and what is wrong with each image that was left out.

    Raises
    ------
    ValueError
        for a wrong argument, an existing file (with force: one that was not prepared), images that cannot be read (all
        are named), or if nothing can be read.
    """
    out, shards = as_path("out", out), plain_number("prepare: shards", shards, int)
    if out.suffix.lower() not in (*SUFFIXES, TAR):
        raise ValueError(f"prepare: out must end in {', '.join(SUFFIXES)} or {TAR}, got {out}")
    sources = [(Path(folder), path) for folder in one_or_several(folders) for path in list_images(folder)]
    if not 1 <= shards <= max(1, len(sources)):
        raise ValueError(f"prepare: shards must be between 1 and the number of images, {len(sources)}, got {shards}")
    if out.suffix.lower() == TAR:
        if color or scale is not None:
            raise ValueError(f"prepare: {TAR} holds image files as they are: give color and scale where they are read")
        check_writable(out.with_suffix(".json"), *(path for _, path in sources))
        return write_shards([path for _, path in sources], out, shards, licence, force, skip_broken, progress)
    name = re.compile(rf"{re.escape(out.stem)}(-\d+-of-\d+)?{re.escape(out.suffix)}")
    existing = sorted(path for path in out.parent.glob("*") if name.fullmatch(path.name))
    if existing and not force:
        raise ValueError(f"prepare: {existing[0]} exists already; choose another name, or replace it with --force")
    check_writable(out, *(path for _, path in sources))
    for path in existing:
        _check_prepared(path)
    paths = [out if shards == 1 else shard_path(out, shard, shards) for shard in range(1, shards + 1)]
    with ExitStack() as stack:
        # All shards are written beside their targets and renamed together at the end.
        temporaries = [stack.enter_context(replacing(path)) for path in paths]
        disks = [stack.enter_context(_Disk(temporary)) for temporary in temporaries]
        files = [stack.enter_context(_new_file(disk)) for disk in disks]
        for number, file in enumerate(files, 1):
            file.attrs.update(format_version=VERSION, color=color, shard=number, shards=shards)
            for key, text in {"format": FORMAT, "licence": licence or "not stated"}.items():
                file.attrs.create(key, text.encode(), dtype=_fixed_length(text))
        broken, seen = _write(sources, files, disks, color, scale, progress)
        if broken and not skip_broken:
            raise ValueError(
                f"prepare: {len(broken)} of {len(sources)} images cannot be read (--skip-broken leaves them out):\n"
                + "\n".join(broken)
            )
        if scale is None:
            refuse_dark("prepare", seen)
        if any("images" not in file for file in files):
            raise ValueError(f"prepare: {len(sources) - len(broken)} readable images do not fill {shards} shards")
    for path in existing:
        if path not in paths:
            path.unlink()
    return paths, broken


def shard_path(out: Path, shard: int, shards: int) -> Path:
    """Where a shard is written; they are counted from 1."""
    return out.with_name(f"{out.stem}-{shard}-of-{shards}{out.suffix}")


def _check_prepared(path: Path) -> None:
    """Raise ValueError unless a file that is to be replaced was prepared from images too."""
    try:
        with open_file(path) as file:
            if is_prepared(file):
                return
    except (ValueError, OSError, RuntimeError):  # of a file of anything
        pass
    raise ValueError(f"prepare: {path} is no file of prepared images; move it away, or choose another name")


class _Disk(FileIO):
    """A new file whose failures HDF5 does not see, for it crashes if it cannot write what it has when it closes.

    Raises
    ------
    OSError
        by `check`, and when it is closed, if anything could not be written.
    """

    def __init__(self, path: Path):
        super().__init__(path, "w+")
        self.failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all of it, if all before could be written."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and self.failure is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.failure = error
        return size

    def check(self) -> None:
        """Raise what went wrong."""
        if self.failure is not None:
            raise self.failure

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.check()


def _new_file(disk: _Disk) -> Any:
    import h5py

    return h5py.File(disk, "w")


def _fixed_length(text: str) -> Any:
    import h5py

    return h5py.string_dtype("utf-8", len(text.encode()))


def _write(
    sources: list[tuple[Path, Path]],
    files: list[Any],
    disks: list[_Disk],
    color: bool,
    scale: Scale | None,
    progress: bool,
) -> tuple[list[str], list[tuple[float, torch.dtype]]]:
    """Deal the images to the files; what is wrong with those that cannot be read, and of the others the brightness and
    the type of their numbers."""
    broken: list[str] = []
    seen: list[tuple[float, torch.dtype]] = []
    for folder, path in tqdm(sources, desc="preparing", unit="image", disable=not progress, dynamic_ncols=True):
        try:
            image, _, kind = read_with_range(path, color, scale)
        except ValueError as error:
            broken.append(str(error))
            continue
        name = path.name if path == folder else str(Path(folder.resolve().name) / path.relative_to(folder))
        target = len(seen) % len(files)
        _append(files[target], as_stored(image).numpy(), name)
        disks[target].check()
        seen.append((brightness(image), kind))
    return broken, seen


def _append(file: Any, pixels: np.ndarray, name: str) -> None:
    import h5py

    key = "x".join(map(str, (pixels.dtype, *pixels.shape)))
    if f"images/{key}" not in file:
        # Chunks of equal size that cover the image: nothing is stored but its pixels.
        sides = [-(-side // -(-side // CHUNK)) for side in pixels.shape[1:]]
        file.create_dataset(
            f"images/{key}",
            (0, *pixels.shape),
            pixels.dtype,
            maxshape=(None, *pixels.shape),
            chunks=(1, len(pixels), *sides),
        )
        file.create_dataset(f"names/{key}", (0,), h5py.string_dtype(), maxshape=(None,), chunks=(64,))
    for group, value in (("images", pixels), ("names", name)):
        data = file[f"{group}/{key}"]
        data.resize(len(data) + 1, axis=0)
        data[-1] = value
