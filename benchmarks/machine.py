"""What the machine can do, measured, and what a computation asks of it."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from unrolled.system.devices import synchronize


def interleaved(runs: dict[str, Callable[[], Any]], device: torch.device, rounds: int) -> dict[str, dict[str, float]]:
    """Time several things in turn, so that all of them meet the same disturbances.

    Returns
    -------
    dict
        per name "median", "low" and "high" (the quartiles), in seconds
    """
    return {name: quartiles(values) for name, values in in_turn(runs, device, rounds).items()}


def in_turn(runs: dict[str, Callable[[], Any]], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """As `interleaved`, but the seconds of every round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # allocations and kernel choices
        run()
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            synchronize(device)
            began = time.perf_counter()
            run()
            synchronize(device)
            times[name].append(time.perf_counter() - began)
    return times


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """The median, and the quartiles below and above it."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"low": low, "median": median, "high": high}


def peak_resident() -> int:
    """The most memory that this process has had so far, in bytes (Linux).

    Not `ru_maxrss`, which a child process inherits from the process that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def ceilings(device: torch.device) -> dict[str, float]:
    """Measured: FLOP/s of a large matrix product in each precision, and bytes/s of a copy, read and written."""
    n = 2048 if device.type == "cpu" else 8192
    found = {}
    for kind in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(n, n, device=device).to(kind) for _ in range(2))
        found[str(kind).removeprefix("torch.")] = 2 * n**3 / _fastest(lambda a=a, b=b: a @ b, device)
    source = torch.zeros(2**26, device=device)
    target = torch.zeros_like(source)
    found["bytes"] = 2 * source.numel() * 4 / _fastest(lambda: target.copy_(source), device)
    return found


def _fastest(run: Callable[[], Any], device: torch.device) -> float:
    times = []
    for _ in range(8):
        synchronize(device)
        began = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)


class Demand(TorchDispatchMode):
    """Counts what the operations inside ask for: arithmetic, and bytes if each reads and writes its tensors once.

    `bound` is the time that they need at least on a machine with given ceilings, operation by operation: the larger of
    the time for its arithmetic and the time for its bytes. Caches can beat the bytes, so the bound is one of a machine
    without caches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[float, float, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs or {})), _tensors(out)
        in_place = func._schema.is_mutable
        storages = {tensor.untyped_storage().data_ptr() for tensor in given}
        if made and (in_place or any(tensor.untyped_storage().data_ptr() not in storages for tensor in made)):
            moved = sum(tensor.numel() * tensor.element_size() for tensor in (*given, *made))
            count = flop_registry.get(func.overloadpacket)
            arithmetic = float(count(*args, **(kwargs or {}), out_val=out)) if count else 0.0
            self.operations.append((arithmetic, float(moved), str(made[0].dtype).removeprefix("torch.")))
        return out

    @property
    def arithmetic(self) -> float:
        """FLOP in all."""
        return sum(operation[0] for operation in self.operations)

    @property
    def traffic(self) -> float:
        """Bytes in all."""
        return sum(operation[1] for operation in self.operations)

    def bound(self, machine: dict[str, float]) -> float:
        """The least time, in seconds."""
        return sum(
            max(arithmetic / machine.get(kind, machine["float32"]), moved / machine["bytes"])
            for arithmetic, moved, kind in self.operations
        )


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
