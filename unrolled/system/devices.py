"""Devices by name, full precision and seeds on each, and copies that nobody waits for."""

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
    """A context without autocast on the device of x, for what leaves the range or the precision of 16 bits.

    Programs are exported without autocast, and have no trace of it: such contexts in one another around a loop cannot
    be written into a file.
    """
    if x.device.type == "meta" or torch.compiler.is_exporting():
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def in_double(x: Tensor) -> Tensor:
    """Numbers in double precision, on their device; on the CPU if it has none, as MPS."""
    x = x.cpu() if x.device.type == "mps" else x
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def seed_generators(seed: int) -> None:
    """`torch.manual_seed`, which takes a hundred times as long where there is no device but the CPU to be seeded."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was asked to do."""
    if device.type not in ("cpu", "meta"):
        torch.accelerator.synchronize(device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; the host does not wait until it is there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # from other memory, copies are waited for if they are large
    return tensor.to(device, non_blocking=True)


class Sent:
    """Numbers on their way from a device to the host, which does not wait for them before it wants to read them."""

    def __init__(self, numbers: Tensor):
        self.copy = numbers.to("cpu", non_blocking=True)  # into pinned memory
        self.arrived = torch.cuda.current_stream(numbers.device).record_event() if numbers.is_cuda else None

    def read(self) -> list[float]:
        """The numbers. Whatever the device was asked to do after they were sent is not waited for."""
        if self.arrived is not None:
            self.arrived.synchronize()
        found: list[float] = self.copy.tolist()
        return found
