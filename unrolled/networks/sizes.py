"""How large a network may be that a recipe asks for."""

from typing import Any

LARGEST_SIZE = 10_000
"""Phases, feature maps, the side of a window, and iterations inside of a network, at most."""


def check_sizes(owner: str, **sizes: Any) -> None:
    """Raise ValueError, with the name of the owner and of the argument, unless a network can have these sizes.

    They also come from files of strangers: without a limit, a list of 10⁹ phases would fill memory, and as many
    iterations would never end.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE:
            raise ValueError(f"{owner}: {name} must be a whole number in 1 … {LARGEST_SIZE:,}, got {size!r}")
