"""Which samples are held out of training, drawn by a seed."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def held_out(items: Sequence[Item], number: int, seed: int) -> tuple[list[Item], list[Item]]:
    """So many items that are held out, and the others, both in their order."""
    held = set(np.random.default_rng(seed).permutation(len(items))[:number].tolist())
    return (
        [item for index, item in enumerate(items) if index in held],
        [item for index, item in enumerate(items) if index not in held],
    )
