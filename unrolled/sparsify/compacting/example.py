"""Running a model on an example, and on noise in its place."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from unrolled.system.arraylike import as_tensor, is_floating, kind_like
from unrolled.system.devices import seed_generators

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional ones, and those by keyword."""


def arguments_of(example: Any, model: nn.Module) -> Arguments:
    """Positional arguments, which a tuple has, and those by keyword, of a dict; anything else is the only argument.

    Arrays of NumPy become tensors where the model is; those of floating point in its precision.
    """
    like = next((parameter for parameter in model.parameters() if is_floating(parameter)), torch.empty(0))

    def taken(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        tensor = as_tensor("example", leaf)
        return tensor.to(like.device, kind_like(tensor, like.real.dtype) if is_floating(tensor) else tensor.dtype)

    arguments = tree_map(taken, example)
    if isinstance(arguments, tuple):
        return arguments, {}
    if isinstance(arguments, dict):
        return (), arguments
    return (arguments,), {}


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


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model; of tensors that it keeps from a run, which have a history, of their values alone.

    Raises
    ------
    ValueError
        if that is not possible.
    """
    kept = [leaf for module in model.modules() for leaf in tree_leaves(module.__dict__) if isinstance(leaf, Tensor)]
    values = {id(leaf): leaf.detach().clone() for leaf in kept if not leaf.is_leaf}
    try:
        return copy.deepcopy(model, values)
    except Exception as error:
        raise ValueError(f"compact: {type(model).__name__} cannot be copied: {error}") from error


def example_and_noise(example: Any, model: nn.Module) -> list[Arguments]:
    """The example, and noise in place of its floating-point numbers."""

    def noise(leaf: Any) -> Any:
        floating = isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
        return torch.randn_like(leaf) if floating else leaf

    seed_generators(0)
    arguments = arguments_of(example, model)
    return [arguments, tree_map(noise, arguments)]


def in_float64(leaf: Any) -> Any:
    """A tensor of floating-point numbers in double precision; anything else as it is."""
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


@torch.no_grad()
def outputs_of(model: nn.Module, inputs: Arguments, seed: int = 0) -> list[Tensor]:
    """All tensors that a model returns, without gradient."""
    positional, keywords = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)
    seed_generators(seed)
    output = model(*positional, **keywords)
    return [leaf.clone() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def agree(wanted: list[Tensor], given: list[Tensor], tolerance: float) -> bool:
    """Whether outputs are the same up to a part of their size."""
    if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in given]:
        return False
    for a, b in zip(wanted, given, strict=True):
        finite = a[a.isfinite()].abs()
        size = float(finite.max()) if finite.numel() else 0.0
        if not torch.allclose(a, b, rtol=0.0, atol=tolerance * size + tolerance**2, equal_nan=True):
            return False
    return True
