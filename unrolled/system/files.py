"""Files that are never half-written."""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TEMPORARY = ".partial-"


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
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside the target, renamed to it when the block ends well and removed when it does not.

    The file is on the disk before it is renamed, so that a power failure leaves the old file or the new one.

    Raises
    ------
    ValueError
        if the target cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; give them the permissions that a plain open would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        reach_the_disk(temporary)
        temporary.replace(path)
        reach_the_disk(path.parent)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, facts: Any, indent: int = 2) -> None:
    """Write facts of plain values as JSON; numbers that are not finite, which JSON has not, become null.

    Raises
    ------
    ValueError
        if the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(finite(facts), indent=indent, allow_nan=False) + "\n")


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


def remove_temporary(folder: Path) -> None:
    """Remove what killed processes left of files they were writing. Only for a folder that nobody else writes to."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise ValueError if a file cannot be written: before the work whose result it is to hold."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        # Where the system has files without a name, a kill leaves nothing behind.
        with tempfile.TemporaryFile(dir=path.parent, prefix=TEMPORARY):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from error
