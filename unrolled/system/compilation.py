"""Functions that are compiled where they can be, and functions that stay outside of compiled graphs."""

import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch")
"""Where the errors of a failed compilation are from."""


class Compiled(Generic[P, R]):
    """A function as one graph of torch.compile, or as it is where no such graph can be made.

    Compilation fails without a C++ compiler, for code that depends on data, and after too many shapes. Then the
    function runs eagerly from there on, with a warning of one line. Compiled code is kept in the user's cache folder
    (`TORCHINDUCTOR_CACHE_DIR`), so the next process compiles in a fraction of the time.

    Parameters
    ----------
    function : callable
    name : str
        what is compiled, for the warning.
    """

    def __init__(self, function: Callable[P, R], name: str):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unrolled" / "compiled"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
        self.function, self.name = function, name
        self.graph: Callable[P, R] | None = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.graph is not None:
            try:
                return self.graph(*args, **kwargs)
            except Exception as error:
                if not any(kind.__module__.startswith(COMPILERS) for kind in type(error).__mro__):
                    raise
                self.graph = None
                reason = next((line for line in str(error).splitlines() if line.strip()), "") or type(error).__name__
                warnings.warn(f"{self.name} cannot be compiled and runs without: {reason.strip():.200}", stacklevel=2)
        return self.function(*args, **kwargs)


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
