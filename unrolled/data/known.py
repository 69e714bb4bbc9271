"""Known data sets: what each is, whose, under which licence, of which files, and where they are found."""

import gzip
import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from unrolled.system.files import replacing

HOME = "UNROLLED_DATA"
"""The environment variable that names the folder of the data sets; by default `datasets`, where one works."""

State = Literal["ok", "ok, no hash is known", "missing", "altered"]


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split.

    Parameters
    ----------
    files : list of str
        paths below the folder of the set; {001..400} stands for numbers, * for anything.
    images : int
        how many images they hold.
    count : int or None
        how many files a pattern with * stands for.
    key : str or None
        of the images in HDF5 files.
    """

    files: list[str]
    images: int
    count: int | None = None
    key: str | None = None


@dataclass(frozen=True)
class Copy:
    """One form in which a data set is passed on.

    Parameters
    ----------
    title : str
    splits : dict of SplitFiles
    hashes : dict of str
        "sha256:…" or "md5:…" of files, where they are known.
    """

    title: str
    splits: dict[str, SplitFiles]
    hashes: dict[str, str] = field(default_factory=dict)

    def files(self, split: str) -> list[str]:
        """The paths and patterns of a split, numbers written out."""
        return [name for pattern in self.splits[split].files for name in expand(pattern)]


@dataclass(frozen=True)
class Download:
    """One file to fetch.

    Parameters
    ----------
    url : str
    hash : str
        "sha256:…" or "md5:…".
    file : str
        where it is put, below the folder of the set.
    unpack : {"gzip", "tar"} or None
        what is done with it then, in the folder where it lies.
    """

    url: str
    hash: str
    file: str
    unpack: Literal["gzip", "tar"] | None = None


@dataclass(frozen=True)
class KnownData:
    """A known data set, as its manifest `datasets/<name>.yaml` describes it.

    Parameters
    ----------
    name, title : str
    task : str
        what it is used for.
    shape : str
        sizes and channels of its images.
    source : str
        the home page.
    licence : str
        what its authors say, or that they say nothing.
    citation : str
    by_hand : str
        how to get it without `unrolled data get`.
    copies : list of Copy
        the first is the one that `get` brings and training reads.
    downloads : list of Download
    """

    name: str
    title: str
    task: str
    shape: str
    source: str
    licence: str
    citation: str
    by_hand: str
    copies: list[Copy]
    downloads: list[Download] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where it lies if nothing else is said: below `$UNROLLED_DATA`, or `datasets` in the current folder."""
        return Path(os.environ.get(HOME) or "datasets").expanduser() / self.name.lower()

    @property
    def splits(self) -> dict[str, SplitFiles]:
        """Of the first copy."""
        return self.copies[0].splits

    def split_files(self, split: str) -> tuple[list[Path], str | None]:
        """The files of a split in the set's folder, and the key of the images in them.

        HDF5 files that are named after the split (`train.h5`, `train-1-of-4.h5` …), as `unrolled data prepare` writes
        them, come before the original files.

        Raises
        ------
        ValueError
            if the set has no such split, or files of it are missing.
        """
        if split not in self.splits:
            raise ValueError(f"data: {self.name} has no images for {split!r}, only for {', '.join(self.splits)}")
        prepared = [*self.folder.glob(f"{split}.h5"), *sorted(self.folder.glob(f"{split}-*-of-*.h5"))]
        if prepared:
            return prepared, None
        found = [(name, sorted(self.folder.glob(name))) for name in self.copies[0].files(split)]
        missing = [name for name, paths in found if not paths]
        if missing:
            raise ValueError(
                f"data: {self.name} is not in {self.folder}, or not whole ({missing[0]} is missing); "
                f"`unrolled data get {self.name}` brings it or says how, or give the folder where it lies"
            )
        return [path for _, paths in found for path in paths], self.splits[split].key

    def present(self, folder: Path) -> bool:
        """Whether all files of a copy lie in a folder; their contents are not looked at."""
        return any(
            all(
                len(list(folder.glob(name))) >= (files.count or 1)
                for split, files in copy.splits.items()
                for name in copy.files(split)
            )
            for copy in self.copies
        )

    def check(self, folder: Path) -> tuple[Copy, dict[str, State]]:
        """Compare a folder with what is known.

        Returns
        -------
        copy, states : Copy and dict of str
            the copy of which most is there, and of each of its files whether it is.
        """
        present = [
            sum(any(folder.glob(name)) for split in copy.splits for name in copy.files(split)) for copy in self.copies
        ]
        copy = self.copies[present.index(max(present))]
        return copy, {name: state for split in copy.splits for name, state in _states(copy, split, folder)}

    def get(self, folder: Path, progress: bool = True) -> None:
        """Download the set, check it, unpack it. What is there already is not fetched again, nor replaced.

        Raises
        ------
        ValueError
            if it cannot be downloaded by a command, the network fails, or a file, there or fetched, is not what it
            should be.
        """
        states = self.check(folder)[1]
        if all(state.startswith("ok") for state in states.values()):
            return
        if not self.downloads:
            raise ValueError(
                f"{self.name} has no download that a command may fetch. {self.by_hand} Its home is {self.source}. "
                f"Then `unrolled data check {self.name} --folder DIR` looks through the folder"
            )
        here = [
            (each.file, _state(folder / each.file, each.hash))
            for each in self.downloads
            if (folder / each.file).exists()
        ]
        for file, state in [*states.items(), *here]:
            if state == "altered":
                raise ValueError(
                    f"{self.name}: {folder / file} is not the file that is known here; move it away, or choose another "
                    "folder"
                )
        for download in self.downloads:
            self._fetch(download, folder, progress)

    def _fetch(self, download: Download, folder: Path, progress: bool) -> None:
        import pooch

        target = folder / download.file
        pooch.get_logger().setLevel("WARNING")
        try:
            pooch.retrieve(download.url, download.hash, target.name, target.parent, progressbar=progress)
            _unpack(target, download.unpack)
        except (OSError, EOFError, tarfile.TarError) as error:  # those of requests are OSErrors too
            raise ValueError(
                f"{self.name}: cannot download {download.url}: {error}\n"
                f"Without a network: get {target.name} elsewhere (home page: {self.source}), put it at "
                f"DIR/{download.file}, and `unrolled data get {self.name} --folder DIR` checks and unpacks it"
            ) from error
        except ValueError as error:
            raise ValueError(f"{self.name}: {download.url} is not the file that is known here: {error}") from error


def _states(copy: Copy, split: str, folder: Path) -> Iterator[tuple[str, State]]:
    for name in copy.files(split):
        paths = sorted(folder.glob(name))
        wanted = copy.splits[split].count if "*" in name else 1
        if not paths or len(paths) < (wanted or 1):
            yield (f"{name} ({len(paths)} of {wanted or 'some'} files)" if "*" in name else name), "missing"
        for path in paths:
            relative = path.relative_to(folder).as_posix()
            yield relative, _state(path, copy.hashes.get(relative))


def _state(path: Path, known: str | None) -> State:
    if known is None:
        return "ok, no hash is known" if path.stat().st_size else "altered"
    algorithm, digest = known.split(":")
    with open(path, "rb") as file:
        return "ok" if hashlib.file_digest(file, algorithm).hexdigest() == digest else "altered"


def _unpack(path: Path, how: str | None) -> None:
    """Unpack a file beside itself; what is there already stays as it is."""
    if how == "gzip" and not path.with_suffix("").exists():
        with gzip.open(path) as packed, replacing(path.with_suffix("")) as temporary, open(temporary, "wb") as file:
            shutil.copyfileobj(packed, file)
    elif how == "tar":
        with tarfile.open(path) as archive:
            # The first releases of Python 3.11 have no filter yet; what is unpacked has been checked by its hash.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            new = [member for member in archive if member.isdir() or not (path.parent / member.name).exists()]
            archive.extractall(path.parent, new)


def expand(pattern: str) -> list[str]:
    """A pattern with its numbers written out.

    >>> expand("a{08..10}.png")
    ['a08.png', 'a09.png', 'a10.png']
    """
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]


def known_sets() -> list[KnownData]:
    """All known data sets, by name."""
    return [read_manifest(path) for path in sorted(manifests().glob("*.yaml"))]


def find_known(name: str) -> KnownData | None:
    """The known data set of a name, in capitals or not, with hyphens or without."""
    wanted = _plain(name)
    for path in manifests().glob("*.yaml"):
        if _plain(path.stem) == wanted:
            return read_manifest(path)
    return None


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def manifests() -> Path:
    """The folder of the manifests: of an installation, or of a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "datasets"
    return shipped if shipped.is_dir() else package.parent / "datasets"


@cache
def read_manifest(path: Path) -> KnownData:
    """Read a manifest.

    Raises
    ------
    ValueError
        for an unknown, missing or mistyped entry; for a file that is not named after its set.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(KnownData)
    try:
        known: Any = KnownData(**parser.instantiate(parser.parse_path(path)).as_dict())
    except (ArgumentError, TypeError) as error:
        raise ValueError(f"manifest: {path}: {error}") from error
    if known.name.lower() != path.stem:
        raise ValueError(f"manifest: {path} describes {known.name!r}; it must be named {known.name.lower()}.yaml")
    return known
