"""What the recipe in a file may make: not many more modules and numbers than the file holds."""

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

SPARE_PARAMETERS = 1_000_000
SPARE_BUFFERS = 2**28
"""Numbers that are drawn anew and do not travel, such as masks; operators draw no more."""
SPARE_MODULES = 2_000
"""Modules, parameters and buffers; each takes time to make."""


@contextmanager
def at_most(tensors: dict[str, Tensor]) -> Iterator[None]:
    """While a recipe is followed, refuse what the file cannot hold, before time and memory are spent on it.

    The arguments in a recipe may be anything: a whole number may be a width or a seed. So what is made is counted, not
    what is asked for: the modules, parameters and buffers as they are registered, the numbers in them, and the numbers
    of each tensor before PyTorch computes it. There is room to spare, for a network may make parameters that it
    replaces, and modules without any; what fits exactly is seen when the tensors are filled in.

    What is made of neither modules nor tensors cannot be counted: a list of 10⁹ numbers, an array of NumPy. A class
    that makes such things of its arguments checks them itself.

    Parameters
    ----------
    tensors : dict of Tensor
        those of the file.

    Raises
    ------
    ValueError
        in the block, from the registration or the allocation that goes too far.
    """
    numbers = sum(tensor.numel() for tensor in tensors.values())
    left = {
        "modules": max(20 * len(tensors), SPARE_MODULES),
        "parameters": max(10 * numbers, SPARE_PARAMETERS),
        "buffers": max(10 * numbers, SPARE_BUFFERS),
    }
    largest, thread = max(left.values()), threading.get_ident()

    def refusal(what: str) -> ValueError:
        return ValueError(f"it asks for many more {what} than the {numbers:,} numbers in the file")

    def count(module: nn.Module, name: str, part: nn.Module | Tensor | None) -> None:
        if part is None or threading.get_ident() != thread:  # the hooks are those of all threads
            return
        left["modules"] -= 1
        if isinstance(part, Tensor):
            left["parameters" if isinstance(part, nn.Parameter) else "buffers"] -= part.numel()
        for what, remaining in left.items():
            if remaining < 0:
                raise refusal(what)

    with ExitStack() as stack:
        for register in (
            registration.register_module_module_registration_hook,
            registration.register_module_parameter_registration_hook,
            registration.register_module_buffer_registration_hook,
        ):
            handle = register(count)
            stack.callback(handle.remove)
        stack.enter_context(_SmallTensors(largest, refusal("parameters")))
        yield


class _SmallTensors(TorchDispatchMode):
    """Refuse an operation whose result has more numbers than a limit."""

    def __init__(self, largest: int, refusal: ValueError):
        super().__init__()
        self.largest, self.refusal = largest, refusal

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled while a recipe is followed, and to skip the compiler is to import it

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # What is written in place is there already; and most results are seen to be small without a closer look.
        if not function._schema.is_mutable and _bound(function, args, kwargs) > self.largest:
            for result in tree_leaves(self._without_memory(function, args, kwargs)):
                if isinstance(result, Tensor) and result.numel() > self.largest:
                    raise self.refusal
        return function(*args, **kwargs)

    def _without_memory(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result on the device `meta`, where tensors have shapes and no memory; None if that cannot be told."""
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
        replaced = {"device": torch.device("meta"), "generator": None}
        known = {argument.name for argument in function._schema.arguments} & {*replaced}
        try:
            return function(*args, **{**kwargs, **{name: replaced[name] for name in known}})
        except RuntimeError as error:
            if "overflow" in str(error):  # more numbers than 64 bits can count
                raise self.refusal from error
            return None


def _bound(function: Any, args: Any, kwargs: dict[str, Any]) -> float:
    """No fewer numbers than the result has: the product of the sizes of all inputs, and of what could be a size.

    That holds of all that multiplies, joins, repeats or pads; pointwise operations broadcast. Without tensors among the
    inputs it is the square, for `eye(n)`; and `arange` has no bound unless it counts in whole numbers.
    """
    if torch.Tag.pointwise in function.tags:
        shapes = [reversed(leaf.shape) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        return math.prod(max(sizes) for sizes in zip_longest(*shapes, fillvalue=1))
    kinds = {argument.name: str(argument.type) for argument in function._schema.arguments}
    values = {**dict(zip(kinds, args, strict=False)), **kwargs}
    leaves = [(kinds[name], leaf) for name, value in values.items() for leaf in tree_leaves(value)]
    tensors = [max(leaf.numel(), 1) for _, leaf in leaves if isinstance(leaf, Tensor)]
    sizes = [abs(leaf) + 2 for kind, leaf in leaves if kind != "number" and type(leaf) in (int, float)]
    if tensors:
        return math.prod(tensors) * math.prod(sizes)
    counts = sizes or [abs(leaf) + 2 if type(leaf) is int else math.inf for kind, leaf in leaves if kind == "number"]
    return math.prod(counts) ** 2
