"""Functions that stay outside of compiled graphs."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def outside_graphs(function: Callable[P, R]) -> Callable[P, R]:
    """Let torch.compile break its graph at a function and call it as it is.

    `torch.compiler.disable` does so too, but loads the compiler when the function is defined, which doubles the time
    that an import takes. Here it is loaded only where something is compiled.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)
        return function(*args, **kwargs)

    return call
