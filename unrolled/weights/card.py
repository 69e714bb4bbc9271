"""Files of weights: safetensors with a card, checked as they are read."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from unrolled.system.files import replacing

FORMAT = 1
SHIPPED = Path(__file__).parent / "zoo"
CLASSIFIER = "classifier"
"""What the card of a classifier calls itself."""


def write(path: str | Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"card": json.dumps(card)})


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and tensors, which must be those that the card was made for."""
    card, tensors = read_card(path), _read_tensors(path)
    if card.get("sha256") != hash_of(tensors):
        raise ValueError(f"weights: {path} was altered: its tensors are not those its card was made for")
    return card, tensors


def read_card(name_or_file: str | Path) -> dict[str, Any]:
    """The card of weights: recipe of network and operator, training config, data, licence, PSNR, hash."""
    path = find(name_or_file)
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get("card", "null")
        card = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"weights: {path} has a card that cannot be read: {error}") from error
    except Exception as error:  # the reader has errors of its own, and what is in the file may raise others
        raise ValueError(f"weights: {path} is cut short or not a safetensors file: {error}") from error
    reconstructs = isinstance(card, dict) and all(isinstance(card.get(name), dict) for name in ("network", "operator"))
    if not reconstructs and not (isinstance(card, dict) and card.get("kind") == CLASSIFIER and "network" in card):
        raise ValueError(f"weights: {path} is a safetensors file, but not of a network of this project")
    if card.get("format") != FORMAT:
        raise ValueError(f"weights: {path} has format {card.get('format')!r}, this version reads {FORMAT}")
    return card


def record(name_or_file: str | Path, facts: dict[str, Any]) -> None:
    """Add facts to the card of a weights file; dictionaries in it are merged. The tensors stay as they are.

    Raises
    ------
    ValueError
        if the file cannot be read or written.
    """
    path = find(name_or_file)
    card, tensors = read_card(path), _read_tensors(path)
    for key, value in facts.items():
        before = card.get(key)
        card[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    write(path, tensors, card)


def find(name_or_file: str | Path) -> Path:
    """The file of weights: a path, or the name of shipped weights."""
    path = Path(name_or_file)
    if os.path.isfile(path):
        return path
    shipped = SHIPPED / f"{name_or_file}.safetensors"
    if path.name == str(name_or_file) and os.path.isfile(shipped):
        return shipped
    raise ValueError(f"weights: {name_or_file} is neither a file nor among the shipped weights: {', '.join(names())}")


def names() -> list[str]:
    """The names of the shipped weights."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # as above
        raise ValueError(f"weights: {path} cannot be read: {error}") from error


def tensors_of(**modules: nn.Module) -> dict[str, Tensor]:
    return {
        f"{prefix}.{key}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


@contextmanager
def at_most(numbers: int, recipe: Any) -> Iterator[None]:
    """While a recipe is followed: refuse parameters that the file cannot hold, before memory is filled with them.

    With room to spare, for a network may make parameters that it replaces; what fits exactly is seen later.
    """
    reason = f"it asks for many more parameters than the {numbers:,} numbers in the file"
    if _largest(recipe) > max(numbers, 10_000):  # phases and features are fewer than what they are made of
        raise ValueError(reason)
    thread, left = threading.get_ident(), max(10 * numbers, 1_000_000)

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and threading.get_ident() == thread:
            left -= parameter.numel()
            if left < 0:
                raise ValueError(reason)

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _largest(value: Any) -> int:
    """The largest whole number anywhere in a recipe."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) else 0


def fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    for key, own in model.state_dict().items():
        if key in tensors and not torch.can_cast(tensors[key].dtype, own.dtype):
            raise ValueError(f"{key} must be {own.dtype}, got {tensors[key].dtype}")
    model.load_state_dict(tensors)
    for key, own in model.state_dict().items():
        if not bool(torch.isfinite(own).all()):
            raise ValueError(f"{key} holds NaN or inf")


def hash_of(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
