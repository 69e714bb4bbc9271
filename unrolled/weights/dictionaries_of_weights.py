"""For which dictionary weights are."""

import math
from pathlib import Path
from typing import Any

from torch import nn

from unrolled.networks import DictionaryNetwork
from unrolled.networks.dictionaries import FINGERPRINT, PAIRS, kept_fingerprint, same_dictionary
from unrolled.operators import LinearOperator


def keep_dictionary(path: Path, card: dict[str, Any], network: nn.Module, operator: LinearOperator) -> None:
    """Tell a network that is made for one dictionary which it is, by the card of its weights.

    Raises
    ------
    ValueError
        if the operator has another, or the card does not tell it by numbers.
    """
    if not isinstance(network, DictionaryNetwork) or "dictionary" not in card:
        return
    told = card["dictionary"]
    numbers = isinstance(told, list) and len(told) == 2 * PAIRS and all(isinstance(one, float) for one in told)
    if not numbers or not all(map(math.isfinite, told)):
        raise ValueError(f"weights: {path} does not tell its dictionary by {2 * PAIRS} numbers, got {told!r:.200}")
    operator.__dict__.pop(FINGERPRINT, None)  # its matrix may have come from the file
    if not same_dictionary(kept_fingerprint(operator), told):
        raise ValueError(
            f"weights: {path} is made for another dictionary than that of the {type(operator).__name__}; train others"
        )
    network.fingerprint = tuple(told)
