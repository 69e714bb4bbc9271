"""The state of a training run, in two files: the last checkpoint and the one before it."""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from unrolled.system.files import replacing

LAST, PREVIOUS = "last.pt", "previous.pt"
FORMAT = 2
CHECKSUM = 64
"""Bytes of the checksum, which stands at the end of the file as the comment of its zip archive."""


class Checkpoints:
    """`last.pt` and `previous.pt` of a folder: whatever happens, one of them is whole.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self.last, self.previous = folder / LAST, folder / PREVIOUS
        self.last_is_whole = False

    def exist(self) -> bool:
        """Whether there is anything to resume from."""
        return self.last.exists() or self.previous.exists()

    def size(self) -> int:
        """Bytes that they take."""
        return sum(path.stat().st_size for path in (self.last, self.previous) if path.exists())

    def save(self, state: dict[str, Any]) -> None:
        """Write the last checkpoint; the one that was the last becomes the previous one.

        Raises
        ------
        ValueError
            if it cannot be written; what was there stays.
        """
        # A damaged one must not push out the one before.
        with replacing(self.last, self.previous if self.last_is_whole else None) as temporary:
            write_checkpoint(temporary, state)
        self.last_is_whole = True

    def load(self) -> dict[str, Any]:
        """Read the last checkpoint, or, if that is damaged, with a warning the one before.

        Raises
        ------
        ValueError
            if neither can be read.
        """
        problems = []
        for path in (self.last, self.previous):
            try:
                state = load_checkpoint(path)
            except ValueError as error:
                problems.append(str(error))
                continue
            self.last_is_whole = path == self.last
            if problems:
                warnings.warn(f"{problems[0]}; going on from {path.name}, step {state['step']}", stacklevel=2)
            return state
        raise ValueError("; ".join(problems))


def to_resume(folder: Path, resume: bool) -> bool:
    """Whether a run goes on from a checkpoint: if it should and there is one. A warning tells if there is none.

    A job that is queued again and again can so be told to resume from the first time on.
    """
    exist = Checkpoints(folder).exist()
    if resume and not exist:
        warnings.warn(f"resume: {folder} holds no checkpoint yet; starting at the beginning", stacklevel=3)
    return resume and exist


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that carries a checksum of itself."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    content = buffer.getbuffer()[:-2]  # an archive ends with the length of its comment
    length = CHECKSUM.to_bytes(2, "little")
    with open(path, "wb") as file:
        for part in (content, length, _checksum(content, length)):
            file.write(part)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are unpickled.

    Raises
    ------
    ValueError
        if there is none, a single bit of it changed, or it is not a checkpoint of this format.
    """
    if not path.is_file():
        raise ValueError(f"resume: there is no checkpoint {path}")
    try:
        content = memoryview(path.read_bytes())
        if _checksum(content[:-CHECKSUM]) != content[-CHECKSUM:]:
            raise ValueError("its checksum does not fit")
        if any(member.compress_type != zipfile.ZIP_STORED for member in zipfile.ZipFile(io.BytesIO(content)).filelist):
            raise ValueError("it is packed, which no checkpoint is")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle anything may come
        raise ValueError(f"resume: {path} is damaged or not a checkpoint: {error}") from error
    if not isinstance(state, dict) or "step" not in state:
        raise ValueError(f"resume: {path} is not a checkpoint of this project")
    if state.get("format") != FORMAT:
        raise ValueError(f"resume: {path} has format {state.get('format')!r}, this version reads {FORMAT}")
    return state


def _checksum(*parts: memoryview | bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()
