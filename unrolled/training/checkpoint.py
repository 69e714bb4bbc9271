"""The state of a training run, in one file."""

from pathlib import Path
from typing import Any

import torch

from unrolled.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint beside its target and rename it, so that a stop at any moment leaves a whole file."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are unpickled.

    Raises
    ------
    ValueError
        if there is none, or it is damaged or not a checkpoint.
    """
    if not path.is_file():
        raise ValueError(f"resume: there is no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle anything may come
        raise ValueError(f"resume: {path} is damaged or not a checkpoint: {error}") from error
    if not isinstance(state, dict) or "step" not in state:
        raise ValueError(f"resume: {path} is not a checkpoint of this project")
    return state
