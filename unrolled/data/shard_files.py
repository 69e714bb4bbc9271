"""Shards brought here: from any store that fsspec knows, into a folder that never grows beyond a bound."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from unrolled.system.files import replacing

PART = 2**20
TRIES, PAUSE = 4, 1.0
"""How often a shard is asked for, and the seconds before the second time; they double from then on."""

TIMEOUT = 60.0
"""Seconds without a byte, after which a server counts as silent."""


def is_address(source: str) -> bool:
    """Whether a source is the address of a store and not a path."""
    return "://" in source


def cache_folder() -> Path:
    """Where shards of other machines are kept, for all programs of a user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unrolled" / "shards"


@contextmanager
def opened(source: str) -> Iterator[BinaryIO]:
    """A file here, or at an address, for reading from its beginning to its end.

    Raises
    ------
    ValueError
        if it is not there, or the store does not answer.
    """
    if not is_address(source):
        if not os.path.isfile(source):
            raise ValueError(f"there is no file {source}")
        with open(source, "rb") as file:
            yield file
        return
    try:
        import fsspec
    except ImportError as error:
        raise ValueError(f"{source}: needs fsspec: pip install 'unrolled[shards]'") from error
    how: dict[str, Any] = {}
    if source.startswith(("http://", "https://")):
        try:
            from aiohttp import ClientTimeout
        except ImportError as error:
            raise ValueError(f"{source}: needs aiohttp: pip install 'unrolled[shards]'") from error
        # As a stream: one request, whatever the server knows of ranges.
        how = {
            "block_size": 0,
            "client_kwargs": {"timeout": ClientTimeout(total=None, sock_read=TIMEOUT, sock_connect=TIMEOUT)},
        }
    try:
        with fsspec.open(source, "rb", **how) as file:
            yield file
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # every store has errors of its own
        raise ValueError(f"{source}: {error or type(error).__name__}") from error


def read_small(source: str, most: int) -> bytes:
    """A file of at most so many bytes, here or at an address."""
    with opened(source) as file:
        parts, size = [], 0
        while part := file.read(PART):
            parts.append(part)
            size += len(part)
            if size > most:
                raise ValueError(f"is larger than {most:,} bytes")
    return b"".join(parts)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardCache:
    """Shards as files here: those of this machine where they are, others copied when they are first needed.

    Copies are named by their hash, so several processes and data sets share them. Those that were not used for longest
    are removed when there are more bytes than allowed, but never one that this process reads.

    Parameters
    ----------
    root : str
        the folder, or the address, that shards' names are relative to.
    mib : int
        the most that copies take, in MiB.
    folder : Path, optional
        where copies are kept; by default the user's cache.
    """

    def __init__(self, root: str, mib: int, folder: Path | None = None):
        self.root, self.bytes = root.rstrip("/"), mib * 2**20
        self.folder = cache_folder() if folder is None else folder
        self._started()

    def _started(self) -> None:
        self._lock, self._process = threading.Lock(), os.getpid()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="shards")
        self._coming: dict[str, Future[Path]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "bytes": self.bytes, "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._started()

    def ask_for(self, name: str, size: int, sha256: str) -> None:
        """Let a shard be brought here in a thread, if it is not here yet; problems are left to `path`."""
        self._future(name, size, sha256)

    def path(self, name: str, size: int, sha256: str) -> Path:
        """Where a shard lies, once it is here and its hash was found right.

        Raises
        ------
        ValueError
            if it cannot be had, or is not the shard of the index.
        """
        return self._future(name, size, sha256).result()

    def forget(self, name: str) -> None:
        """This process does not read a shard any more."""
        with self._lock:
            self._coming.pop(name, None)

    def _future(self, name: str, size: int, sha256: str) -> "Future[Path]":
        if self._process != os.getpid():  # threads do not cross a fork
            self._started()
        with self._lock:
            if name not in self._coming:
                self._coming[name] = self._threads.submit(self._bring, name, size, sha256)
            return self._coming[name]

    def _bring(self, name: str, size: int, sha256: str) -> Path:
        source = f"{self.root}/{name}"
        if not is_address(source):
            path = Path(source)
            if not path.is_file():
                raise ValueError(f"shard {source}: there is no such file")
            _check(source, path.stat().st_size, size, digest_of(path), sha256)
            return path
        target = self.folder / f"{sha256}{Path(name).suffix}"
        if target.is_file() and target.stat().st_size == size and digest_of(target) == sha256:
            os.utime(target)
            return target
        self._make_room(size)
        for attempt in range(TRIES):
            try:
                with replacing(target) as temporary:
                    _copy(source, temporary, size, sha256)
                return target
            except ValueError as error:
                if attempt == TRIES - 1:
                    raise ValueError(f"shard {source} cannot be had, tried {TRIES} times: {error}") from error
                time.sleep(PAUSE * 2**attempt)
        raise AssertionError

    def _make_room(self, size: int) -> None:
        with self._lock:
            used = {future.result().name for future in self._coming.values() if _is_there(future)}
        copies = [path for path in self.folder.glob("*") if len(path.stem) == 64] if self.folder.is_dir() else []
        known = []
        for path in copies:
            with suppress(OSError):  # another process may remove it just now
                found = path.stat()
                known.append((found.st_mtime, found.st_size, path))
        left = sum(length for _, length, _ in known) + size - self.bytes
        for _, length, path in sorted(known):
            if left <= 0:
                break
            if path.name not in used:
                path.unlink(missing_ok=True)
                left -= length


def _is_there(future: "Future[Path]") -> bool:
    return future.done() and future.exception() is None


def _copy(source: str, target: Path, size: int, sha256: str) -> None:
    digest, length = hashlib.sha256(), 0
    with opened(source) as stream, open(target, "wb") as file:
        while part := stream.read(PART):
            length += len(part)
            if length > size:
                break
            digest.update(part)
            file.write(part)
    _check(source, length, size, digest.hexdigest(), sha256)


def _check(source: str, length: int, size: int, found: str, sha256: str) -> None:
    if length != size:
        raise ValueError(
            f"shard {source}: has {'more' if length > size else f'{length:,}'} bytes, the index says {size:,}"
        )
    if found != sha256:
        raise ValueError(f"shard {source}: is not the file that the index was made of, its hash is another")
