"""What the recipe in a file may make: bounded by what the file holds."""

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
from torch.utils.flop_counter import flop_registry

from unrolled.system.claims import Allowance, affordable, within

META = torch.device("meta")

LARGEST_NUMBER = 16
"""Bytes of a complex number in double precision."""

SPARE_PARAMETERS = 1_000_000
SPARE_MODULES = 2_000
"""Modules, parameters and buffers; each takes time to make."""

FLOPS = 100
"""Multiplications and additions, in products of matrices and convolutions, that take as long as computing a number."""

OVERHEAD = 8000
"""Numbers that are computed in the time that it takes to call an operation."""


@contextmanager
def at_most(tensors: dict[str, Tensor], length: int, memory_mib: int | None = None) -> Iterator[None]:
    """While a recipe is followed, refuse what its file may not ask for, before time and memory are spent on it.

    The arguments in a recipe may be anything: a whole number may be a width or a seed. So what is made is counted, not
    what is asked for: the modules and parameters as they are registered, and the memory and work of every operation
    before PyTorch computes it. There is room to spare, for a network may make parameters that it replaces, and an
    operator may be drawn from few numbers; what fits exactly is seen when the tensors are filled in.

    What is made of neither modules nor tensors cannot be counted: a list of 10⁹ numbers, an array of NumPy. A class
    that makes such things of its arguments checks them itself, or says so by `unrolled.system.claims.announce`.

    Parameters
    ----------
    tensors : dict of Tensor
        those of the file.
    length : int
        of the file, in bytes.
    memory_mib : int, optional
        memory that may be taken, in MiB, instead of what a file of this length may ask for.

    Raises
    ------
    ValueError
        in the block, from the registration or the operation that goes too far.
    """
    if memory_mib is not None and memory_mib < 1:
        raise ValueError(f"weights: memory_mib must be >= 1, got {memory_mib!r}")
    numbers = sum(tensor.numel() for tensor in tensors.values())
    left = {"modules": max(20 * len(tensors), SPARE_MODULES), "parameters": max(10 * numbers, SPARE_PARAMETERS)}
    allowance = Allowance(affordable(length) if memory_mib is None else memory_mib * 2**20, "memory_mib allows more")
    thread = threading.get_ident()

    def count(module: nn.Module, name: str, part: nn.Module | Tensor | None) -> None:
        if part is None or threading.get_ident() != thread:  # the hooks are those of all threads
            return
        left["modules"] -= 1
        if isinstance(part, nn.Parameter):
            left["parameters"] -= part.numel()
        for what, remaining in left.items():
            if remaining < 0:
                raise ValueError(f"it asks for many more {what} than the {numbers:,} numbers in the file")

    with ExitStack() as stack:
        for register in (
            registration.register_module_module_registration_hook,
            registration.register_module_parameter_registration_hook,
            registration.register_module_buffer_registration_hook,
        ):
            handle = register(count)
            stack.callback(handle.remove)
        stack.enter_context(within(allowance))
        stack.enter_context(_Counted(allowance))
        yield


class _Counted(TorchDispatchMode):
    """Ask an allowance before every operation, and count what it computes and how much memory that holds."""

    def __init__(self, allowance: Allowance):
        super().__init__()
        self.allowance = allowance

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled while a recipe is followed, and to skip the compiler is to import it

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, allowance, in_place = kwargs or {}, self.allowance, function._schema.is_mutable
        given = _tensors((*args, *kwargs.values()))
        if kwargs.get("device") == META or any(tensor.is_meta for tensor in given):
            allowance.spend(OVERHEAD)
            return function(*args, **kwargs)
        work = 0.0
        # What is written in place is there already; and most results are seen to be small without a closer look.
        if not in_place and LARGEST_NUMBER * _bound(function, given, args, kwargs) > allowance.spare:
            memory, work = self._estimate(function, args, kwargs)
            allowance.check(memory, work)
        results = function(*args, **kwargs)
        new = _new(results, given)
        allowance.spend(OVERHEAD + max(work, sum(tensor.numel() for tensor in (given[:1] if in_place else new))))
        for tensor in new:
            storage = tensor.untyped_storage()
            allowance.hold(storage, storage.nbytes())
        return results

    def _estimate(self, function: Any, args: Any, kwargs: dict[str, Any]) -> tuple[float, float]:
        """Memory and work, found on the device `meta`, where tensors have shapes and no memory; 0 if it has no way."""
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to(META), (args, kwargs))
        replaced = {"device": META, "generator": None}
        known = {argument.name for argument in function._schema.arguments} & {*replaced}
        kwargs |= {name: replaced[name] for name in known}
        try:
            results = function(*args, **kwargs)
        except RuntimeError as error:
            return (math.inf, math.inf) if "overflow" in str(error) else (0, 0)  # more numbers than 64 bits can count
        made = _new(results, _tensors((*args, *kwargs.values())))
        work = sum(tensor.numel() for tensor in made)
        if function.overloadpacket in flop_registry:
            work += flop_registry[function.overloadpacket](*args, **kwargs, out_val=results) / FLOPS
        return sum(tensor.untyped_storage().nbytes() for tensor in made), work


def _tensors(values: Any) -> list[Tensor]:
    """The tensors among arguments or results, which may be in lists."""
    found: list[Tensor] = []
    for value in values if isinstance(values, (tuple, list)) else (values,):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += _tensors(value)
    return found


def _new(results: Any, given: list[Tensor]) -> list[Tensor]:
    """The tensors among results that have memory of their own."""
    made = _tensors(results)
    known = {tensor.untyped_storage()._cdata for tensor in given} if made else ()
    return [tensor for tensor in made if tensor.untyped_storage()._cdata not in known]


def _bound(function: Any, given: list[Tensor], args: Any, kwargs: dict[str, Any]) -> float:
    """No fewer numbers than the result has: the product of the sizes of all inputs, and of what could be a size.

    That holds of all that multiplies, joins, repeats or pads; pointwise operations broadcast. Without tensors among the
    inputs it is the square, for `eye(n)`; and `arange` has no bound unless it counts in whole numbers.
    """
    if torch.Tag.pointwise in function.tags:
        shapes = [reversed(tensor.shape) for tensor in given]
        return math.prod(max(sizes) for sizes in zip_longest(*shapes, fillvalue=1))
    kinds = {argument.name: str(argument.type) for argument in function._schema.arguments}
    values = {**dict(zip(kinds, args, strict=False)), **kwargs}
    leaves = [(kinds[name], leaf) for name, value in values.items() for leaf in tree_leaves(value)]
    sizes = [abs(leaf) + 2 for kind, leaf in leaves if kind != "number" and type(leaf) in (int, float)]
    if given:
        return math.prod(max(tensor.numel(), 1) for tensor in given) * math.prod(sizes)
    counts = sizes or [abs(leaf) + 2 if type(leaf) is int else math.inf for kind, leaf in leaves if kind == "number"]
    return math.prod(counts) ** 2
