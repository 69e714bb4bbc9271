"""Files that are never half-written, and never written over what is not the writer's own.

Whatever this project writes or deletes, it does by these rules:

- A file that is named as an output is replaced as a whole, when its successor is complete. It is refused if it is an
  input too, if it is read-only, and if it is a link, a pipe, a device or a folder.
- A file that is not named is replaced only if its contents show that it was written by the same command before.
- A run begins only in a folder without results of another run, and writes there only as long as it holds the folder.
- What is deleted is of the same command, known by its contents, or a temporary file whose writer has ended.
"""

import errno
import glob
import json
import math
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TEMPORARY = ".partial-"

_guards: dict[tuple[Path, int], Callable[[], None]] = {}


def as_path(what: str, value: Any) -> Path:
    """The path of a file or folder.

    Raises
    ------
    ValueError
        for what is no name.
    """
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise ValueError(f"{what}: must be the name of a file, got a {type(value).__name__}")
    return Path(value)


def one_or_several(names: Any) -> Any:
    """The names of files or folders as a list, also of a single one, whose letters are no names."""
    return [str(names)] if isinstance(names, (str, os.PathLike)) else names


@contextmanager
def replacing(path: str | Path, previous: Path | None = None) -> Iterator[Path]:
    """A temporary file beside the target, renamed to it when the block ends well and removed when it does not.

    The file is on the disk before it is renamed, so that a power failure leaves the old file or the new one. If the
    process is killed the temporary file stays, until the same target is written again.

    Parameters
    ----------
    path : str or Path
    previous : Path, optional
        what the file that was at the target is renamed to.

    Raises
    ------
    ValueError
        if the target cannot be written.
    """
    path = Path(path)
    try:
        _check_target(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error
    temporary = Path(name)
    try:
        if sys.platform == "win32":
            os.close(handle)  # a file that is open cannot be renamed there
        else:
            with suppress(OSError):  # without locks, what is abandoned cannot be told from what is being written
                lock(handle)
        yield temporary
        # mkstemp makes files private; give them the permissions that a plain open would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        reach_the_disk(temporary)
        _check_target(path)
        if previous is not None:
            with suppress(FileNotFoundError):
                path.replace(previous)
        temporary.replace(path)
        reach_the_disk(path.parent)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(handle)


def write_json(path: str | Path, facts: Any, indent: int = 2) -> None:
    """Write facts of plain values as JSON; numbers that are not finite, which JSON has not, become null.

    Raises
    ------
    ValueError
        if the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(finite(facts), indent=indent, allow_nan=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file, whole or not at all, and wait until it is on the disk.

    Raises
    ------
    ValueError
        if it cannot be written.
    """
    try:
        _check_target(path)
        handle = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        size = os.fstat(handle).st_size
        try:
            with open(handle, "w", closefd=False) as file:
                file.write(line + "\n")
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
        finally:
            os.close(handle)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error


def finite(facts: Any) -> Any:
    """Plain values with None for every number that is not finite: the PSNR of equal images, a loss that is NaN."""
    if isinstance(facts, float):
        return facts if math.isfinite(facts) else None
    if isinstance(facts, dict):
        return {name: finite(fact) for name, fact in facts.items()}
    return [finite(fact) for fact in facts] if isinstance(facts, (list, tuple)) else facts


def reach_the_disk(path: Path) -> None:
    """Wait until what was written to a file, or renamed in a folder, would survive a power failure."""
    if path.is_dir():
        with suppress(OSError):  # not every system or file system can do it for folders
            _synchronise(path, os.O_RDONLY)
    else:
        _synchronise(path, os.O_RDWR)


def _synchronise(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(handle: int) -> None:
    """Lock an open file for its holder alone, until he closes it or ends.

    Raises
    ------
    BlockingIOError
        if another holds it.
    OSError
        if the file system has no locks.
    """
    if sys.platform == "win32":
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # a locked byte cannot be read: take one beyond what is written
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(str(error)) from error
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of a target whose writers were killed: those that nobody has locked."""
    if sys.platform == "win32":
        return
    pattern = f"{TEMPORARY}{glob.escape(path.stem)}-*{glob.escape(path.suffix)}"
    for other in path.parent.glob(pattern):
        with suppress(OSError):
            handle = open_regular(other, os.O_RDWR)
            try:
                lock(handle)
                other.unlink(missing_ok=True)
            finally:
                os.close(handle)


def remove_temporary(folder: Path) -> None:
    """Remove what killed processes left of files they were writing. Only for a folder that nobody else writes to."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink(missing_ok=True)


@contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """While the block lasts, call a function before this thread writes a file in a folder (a resolved path)."""
    here = folder, threading.get_ident()
    _guards[here] = check
    try:
        yield
    finally:
        del _guards[here]


def _check_target(path: Path) -> None:
    """Raise OSError, or what the guard of its folder raises, if a file must not be written."""
    check_regular(path)
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError("it is read-only")
    if guard := _guards.get((path.parent.resolve(), threading.get_ident())):
        guard()


def check_regular(path: Path) -> None:
    """Raise OSError if there is something at a path that is not a plain file."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}
        raise OSError(f"it is {kinds.get(stat.S_IFMT(mode), 'a device or socket')}, not a file")


def open_regular(path: Path, flags: int) -> int:
    """The handle of a plain file; what else is there is neither followed nor waited for.

    Raises
    ------
    OSError
        if it is not a plain file, or cannot be opened.
    """
    check_regular(path)
    handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # it took the place of another just now
        os.close(handle)
        raise OSError("it is not a file")
    return handle


def check_writable(path: str | Path, *inputs: str | Path | None) -> None:
    """Raise ValueError if a file cannot be written, or is one of the inputs: before the work whose result it holds.

    Nothing is left behind but the file's folder, not even by a kill.
    """
    path = Path(path)
    try:
        for source in inputs:
            with suppress(FileNotFoundError):
                if source is not None and os.path.samefile(path, source):
                    raise ValueError(f"cannot write {path}: it is an input")
        _check_target(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _try_to_write(path.parent)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error


def _try_to_write(folder: Path) -> None:
    """Raise OSError if no file can be made in a folder. The file that is tried has no name, so that none can stay."""
    if hasattr(os, "O_TMPFILE"):
        try:
            os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # of file systems, and of systems, without it
                raise
        else:
            return
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} is read-only")
