"""Weights that several phases share, once in a state_dict."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def copies(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of tensors that stand in a module more than once: each with that under which it stands first."""
    first: dict[int, str] = {}
    for tensors in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, tensor in tensors:
            if first.setdefault(id(tensor), name) != name:
                yield name, first[id(tensor)]


def leave_out_copies(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    """After a state_dict was made: take away what stands in it already under another name."""
    for name, _ in copies(module):
        state.pop(prefix + name, None)


def put_copies_back(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    """Before a state_dict is loaded: what was left out is what stands under the first name."""
    for name, first in copies(module):
        if prefix + first in state:
            state[prefix + name] = state[prefix + first]
