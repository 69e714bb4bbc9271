"""One run a folder: a lock that the system frees when its process ends, however it ends."""

import errno
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from unrolled.system.files import guarded, lock, open_regular
from unrolled.training.distributed import on_first

NAME = "run.lock"
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
LONGEST = 1000
"""Bytes of what a lock may say."""

TRIES = 100
"""How often a lock may be removed by the run before while it is being taken."""

_held: set[tuple[Path, int]] = set()
"""Folders, each with the thread that holds it."""


class FolderLost(ValueError):
    """A run no longer holds its folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder; inside, the same thread may hold it again. Of several processes the first one holds it for all.

    As long as it is held, nothing is written into the folder unless its lock is still that of this run.

    Raises
    ------
    ValueError
        if another run holds it, with its process, machine and start; or if the folder cannot be written.
    """
    with ExitStack() as held:
        on_first(lambda: held.enter_context(_locked(folder.resolve())))
        yield


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder now."""
    with suppress(OSError):
        handle = os.open(folder / NAME, os.O_RDWR)
        try:
            lock(handle)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    here = folder, threading.get_ident()
    if here in _held:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mine = _Lock(folder / NAME)
    except OSError as error:
        raise ValueError(f"cannot write {folder / NAME}: {error}") from error
    _held.add(here)
    try:
        with guarded(folder, mine.check):
            yield
    finally:
        _held.remove(here)
        mine.release()


class _Lock:
    """A lock that is held, and the file that says by whom.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ValueError
        if another run holds it, or the file is not a lock.
    OSError
        if the file cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self.text = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        for _ in range(TRIES):
            self.handle = open_regular(path, os.O_RDWR | os.O_CREAT)
            try:
                self._take()
                if self._is_there():
                    self._sign()
                    return
            except BaseException:
                os.close(self.handle)
                raise
            os.close(self.handle)  # the run before removed it after it had been opened here
        raise OSError("it is removed again and again")

    def _take(self) -> None:
        try:
            lock(self.handle)
        except BlockingIOError as error:
            holder = self._read().strip() or "just started"
            raise ValueError(f"folder: {self.path.parent} is in use by another run ({holder})") from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            warnings.warn(
                f"{self.path.parent} is on a file system without locks: start only one run in it", stacklevel=2
            )
        said = self._read()
        if said and not said.startswith("process "):
            raise ValueError(f"folder: {self.path} is not the lock of a run; remove it, or choose another folder")

    def _sign(self) -> None:
        try:
            os.ftruncate(self.handle, 0)
            os.lseek(self.handle, 0, os.SEEK_SET)
            os.write(self.handle, self.text.encode())
        except OSError:
            self.path.unlink()
            raise

    def _read(self) -> str:
        os.lseek(self.handle, 0, os.SEEK_SET)
        return os.read(self.handle, LONGEST).decode(errors="replace")

    def _is_there(self) -> bool:
        """Whether the file that is open here is the one at the path, and not one of a folder that was made anew."""
        try:
            return os.path.samestat(os.fstat(self.handle), self.path.lstat())
        except FileNotFoundError:
            return False

    def _is_mine(self) -> bool:
        # What it says matters where there are no locks: another run may have taken the same file.
        return self._is_there() and self._read() == self.text

    def check(self) -> None:
        """Raise FolderLost if the lock was removed, or is that of another run."""
        if not self._is_mine():
            raise FolderLost(
                f"folder: {self.path.parent} is no longer held by this run, for {NAME} was removed or is that of "
                "another run"
            )

    def release(self) -> None:
        """Let go of the folder; a lock of another run stays."""
        with suppress(OSError):  # Windows does not remove a file that is open
            if self._is_mine():
                self.path.unlink()
        os.close(self.handle)
