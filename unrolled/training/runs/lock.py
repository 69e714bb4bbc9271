"""One run a folder: a lock that the system frees when its process ends, however it ends."""

import errno
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from unrolled.training.distributed import on_first

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = "run.lock"
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_held: dict[Path, int] = {}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder; inside, the same thread may hold it again. Of several processes the first one holds it for all.

    Raises
    ------
    ValueError
        if another run holds it, with its process, machine and start; or if the folder cannot be written.
    """
    with ExitStack() as held:
        on_first(lambda: held.enter_context(_locked(folder.resolve())))
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if _held.get(folder) == threading.get_ident():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _open_locked(folder / NAME)
    except OSError as error:
        raise ValueError(f"cannot write {folder / NAME}: {error}") from error
    _held[folder] = threading.get_ident()
    try:
        yield
    finally:
        del _held[folder]
        with suppress(OSError):  # Windows does not remove a file that is open
            (folder / NAME).unlink()
        file.close()


def _open_locked(path: Path) -> IO[str]:
    while True:
        file = open(path, "a+")  # noqa: SIM115 - closed by the run that holds it
        try:
            _lock(file)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "just started"
            file.close()
            raise ValueError(f"folder: {path.parent} is in use by another run ({holder})") from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            warnings.warn(f"{path.parent} is on a file system without locks: start only one run in it", stacklevel=2)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # the run before removed it after we had opened it
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    file.flush()
    return file


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        file.seek(1 << 30)  # a locked byte cannot be read: take one beyond what is written
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(str(error)) from error
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
