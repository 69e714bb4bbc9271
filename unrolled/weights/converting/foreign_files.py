"""State dictionaries of other programs: files of `torch.save`, old and new, and safetensors, read without their code.

`torch.load(weights_only=True)` runs nothing that a pickle asks for, but believes it about sizes. So before it is called
the pickle is looked through: what it claims of numbers is compared with the length of the file.
"""

import hashlib
import io
import pickletools
import re
import reprlib
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from unrolled.system.claims import affordable
from unrolled.system.files import as_path
from unrolled.weights.limits import LARGEST_NUMBER

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "params_ema", "params")
"""Names under which programs keep the state dictionary beside an optimizer and the like."""

PREFIX = "module."
"""What DataParallel puts before every name."""

MOST_LAYERS = 4
"""Of dictionaries around the state dictionary."""


@dataclass(frozen=True)
class ForeignWeights:
    """The tensors of a file, by their names there.

    Attributes
    ----------
    name : str
        of the file, without its folder.
    length, sha256
        of the file, the length in bytes.
    tensors : dict of Tensor
        without what other programs wrap around them: "state_dict", "module.".
    """

    name: str
    length: int
    sha256: str
    tensors: dict[str, Tensor]


def read_foreign(path: str | Path) -> ForeignWeights:
    """Read the state dictionary of a file; nothing in it is executed.

    Parameters
    ----------
    path : str or Path
        whatever its ending: what is inside is looked at.

    Raises
    ------
    ValueError
        if there is no such file, it holds no state dictionary, needs code to be read, or claims more than it holds.
    """
    path = as_path("weights", path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"weights: {path} cannot be read: {error.strerror}") from error
    held = _read_safetensors(path, content) if _is_safetensors(content) else _read_pickle(path, content)
    return ForeignWeights(path.name, len(content), hashlib.sha256(content).hexdigest(), _state_in(path, held))


def _is_safetensors(content: bytes) -> bool:
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content)


def _read_safetensors(path: Path, content: bytes) -> Any:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # the reader has errors of its own
        raise ValueError(f"weights: {path} is cut short or not a safetensors file: {error}") from error


def _read_pickle(path: Path, content: bytes) -> Any:
    length = len(content)
    try:
        for pickles, count in _pickles(content):
            if LARGEST_NUMBER * (claimed := _numbers_claimed(pickles, count)) > affordable(length):
                raise ValueError(f"it claims {claimed:,} numbers, in {length:,} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of types that are going out of use
            # Without memory first: views may claim more than the numbers that they are of.
            shown = _tensors(torch.load(io.BytesIO(content), map_location="meta", weights_only=True))
            if sum(
                {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in shown}.values()
            ) > (length) or sum(tensor.numel() * tensor.itemsize for tensor in shown) > affordable(length):
                raise ValueError(f"its tensors are larger than the file, of {length:,} bytes")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle anything may come
        raise ValueError(f"weights: {path} {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if found := re.search(r"(?:GLOBAL|class|global|instance) (?:of )?'?([\w.]+\.\w+)", text):
        return (
            f"needs code of another program to be read, {found[1][:100]}, which is not run; there save the state "
            "dictionary alone, torch.save(model.state_dict(), file)"
        )
    if "Unsupported operand" in text or isinstance(error, (EOFError, KeyError)):
        return "is no file of torch.save, nor of safetensors"
    return f"holds no weights that can be read: {text[-300:] or type(error).__name__}"


def _pickles(content: bytes) -> Iterator[tuple[bytes, int]]:
    """The pickles of a file whose claims are to be looked at: bytes that begin with so many.

    Raises
    ------
    ValueError
        for archives that are packed, which torch's are not.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        yield content, 5  # magic number, version, facts of the system, the object, and the names of its storages
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.filelist):
            raise ValueError("it is packed, which files of torch.save are not")
        for member in archive.filelist:
            if member.filename.rpartition("/")[2].endswith(".pkl"):
                yield archive.read(member), 1


def _numbers_claimed(content: bytes, pickles: int) -> int:
    """How many numbers the storages of so many pickles claim to have, in all; what follows them is not looked at.

    A storage is ("storage", type, key, place, count), in older files with None behind it.

    Raises
    ------
    ValueError
        for one that is written in another way than torch's, so that its count would not be seen.
    """
    stream, claimed = io.BytesIO(content), 0
    for _ in range(pickles):
        before: list[tuple[str, Any]] = []
        for operation, argument, _ in _operations(stream):
            if operation in ("BINPUT", "LONG_BINPUT", "MEMOIZE", "PUT"):
                continue
            if operation in ("BINPERSID", "PERSID"):
                last = [name for name, _ in before]
                name, count = before[-3 if last[-2:-1] == ["NONE"] else -2] if len(before) > 2 else ("", None)
                if "UNICODE" in name:  # the source of a whole module, which will be refused
                    count = 0
                if operation == "PERSID" or last[-1:] != ["TUPLE"] or not isinstance(count, int) or count < 0:
                    raise ValueError("its storages are not written as torch does")
                claimed += count
            before = [*before[-2:], (operation, argument)]
    return claimed


def _operations(stream: io.BytesIO) -> Iterator[tuple[str, Any, Any]]:
    """The operations of the next pickle, as far as it is one."""
    try:
        for operation, argument, place in pickletools.genops(stream):
            yield operation.name, argument, place
    except Exception:  # not a pickle from here on; whether that matters, torch finds
        return


def _tensors(held: Any) -> list[Tensor]:
    """The tensors in dictionaries and lists, not by recursion."""
    found, left, seen = [], [held], set()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, (list, tuple, set)):
            left += value
    return found


def _state_in(path: Path, held: Any) -> dict[str, Tensor]:
    """The state dictionary among what a file holds."""
    for _ in range(MOST_LAYERS):
        if not isinstance(held, Mapping):
            break
        state = {key: value for key, value in held.items() if isinstance(key, str) and isinstance(value, Tensor)}
        if state and len(state) == len(held):
            break
        inside = [held[name] for name in WRAPPERS if isinstance(held.get(name), Mapping)]
        if not inside:
            break
        held = inside[0]
    if not isinstance(held, Mapping) or not held:
        raise ValueError(f"weights: {path} holds no state dictionary, names and tensors, but {_short(held)}")
    for key, value in held.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"weights: {path} holds no state dictionary, names and tensors: {_short(key)} is {_short(value)}"
            )
    tensors = dict(held)
    while all(key.startswith(PREFIX) and len(key) > len(PREFIX) for key in tensors):
        tensors = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or not tensor.device.type == "cpu":
            raise ValueError(f"weights: {path}: {reprlib.repr(key)} is no plain tensor")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"weights: {path}: {reprlib.repr(key)} holds NaN or inf")
    return {key: tensor.detach() for key, tensor in tensors.items()}


def _short(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, (Tensor, Mapping)) else reprlib.repr(value)
