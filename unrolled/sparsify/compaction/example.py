"""Running a model on an example."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def arguments_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional arguments, which a tuple has, and those by keyword, of a dict; anything else is the only argument."""
    if isinstance(example, tuple):
        return example, {}
    if isinstance(example, dict):
        return (), example
    return (example,), {}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """While it lasts, all parts of a model are in evaluation mode; then each is as it was."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
