"""Functions that are compiled where they can be, and functions that stay outside of compiled graphs."""

import functools
import os
import re
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
        while self.graph is not None:
            try:
                return self.graph(*args, **kwargs)
            except Exception as error:
                if not any(kind.__module__.startswith(COMPILERS) for kind in type(error).__mro__):
                    raise
                if _removed_half_a_library(error):
                    continue
                self.graph = None
                cause = error.__cause__ or error
                reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
                warnings.warn(f"{self.name} cannot be compiled and runs without: {reason:.200}", stacklevel=2)
        return self.function(*args, **kwargs)


def _removed_half_a_library(error: Exception) -> bool:
    """Whether an error is of a library in the cache that a killed linker has left, which is gone now.

    Else every later process would find it and could not load it.
    """
    found = re.search(r"(/\S+\.so): file too short", str(error))
    library = Path(found[1]) if found else None
    if library is None or not library.is_relative_to(os.environ["TORCHINDUCTOR_CACHE_DIR"]) or not library.is_file():
        return False
    library.unlink()
    torch.compiler.reset()
    return True


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
