"""Devices by name, and full precision and seeds on each."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def torch_device(name: str) -> torch.device:
    """The device of a name; "auto" is the GPU if there is one.

    Raises
    ------
    ValueError
        if there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {name!r} is not usable here: {error}") from error
    return device


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast on the device of x, for what leaves the range or the precision of 16 bits."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


def seed_generators(seed: int) -> None:
    """`torch.manual_seed`, which takes a hundred times as long where there is no device but the CPU to be seeded."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
