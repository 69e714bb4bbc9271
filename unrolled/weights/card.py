"""Files of weights: safetensors with a card, checked as they are read."""

import json
import math
import os
import reprlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrolled.system.files import as_path, replacing
from unrolled.weights.tensors import hash_of

FORMAT = 1
SHIPPED = Path(__file__).parent / "zoo"
CLASSIFIER = "classifier"
"""What the card of a classifier calls itself."""


def write(path: str | Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write tensors and their card.

    Raises
    ------
    ValueError
        if the file cannot be written, or a fact of the card is not a plain value.
    """
    for name, fact in card.items():
        try:
            json.dumps(fact)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"card: {name} must be of plain values (text, numbers, lists, dictionaries), got "
                f"{reprlib.repr(fact)}: {error}"
            ) from error
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"card": json.dumps(card)})
        except SafetensorError as error:  # also of a disk that is full
            raise ValueError(f"cannot write {path}: {error}") from error


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


def normalizes(card: dict[str, Any]) -> bool:
    """Whether a network was trained with its operator divided by "norm"; earlier ones took operators as they are.

    Raises
    ------
    ValueError
        if that is no norm.
    """
    norm = card.get("norm", 1.0)
    if not isinstance(norm, (int, float)) or isinstance(norm, bool) or not 0 < norm < math.inf:
        raise ValueError(f"weights: the norm in their card must be a finite number > 0, got {norm!r}")
    return "norm" in card


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
    path = as_path("weights", name_or_file)
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
