"""Whether a compiled loss is worth its compilation on this machine: both forms are timed on one batch."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.system.compilation import Compiled
from unrolled.system.devices import synchronize
from unrolled.training.tasks.task import LossOfModel

ROUNDS = 3
PAYS = 0.9
"""A compiled step must take at most this part of an eager one."""


def compiled_is_faster(
    eager: LossOfModel,
    compiled: Compiled[[nn.Module, Any, int], Tensor],
    model: nn.Module,
    batch: Any,
    step: int,
    parameters: Sequence[nn.Parameter],
    autocast: Callable[[], AbstractContextManager[Any]],
) -> bool:
    """Time forward and backward of the loss in both forms, in turns; the quickest of each counts.

    What is faster depends on processor and network: of EPGN eager code was 1.4 times as fast as compiled code on a
    processor with matrix units, of ISTA-Net+ .85 times (docs/performance.md). Gradients are not accumulated; running
    statistics of norms do change.
    """

    def seconds(loss_of: LossOfModel) -> float:
        began = time.perf_counter()
        with autocast():
            loss = loss_of(model, batch, step)
        torch.autograd.grad(loss, parameters, allow_unused=True)
        synchronize(loss.device)
        return time.perf_counter() - began

    forms: dict[str, LossOfModel] = {"eager": eager, "compiled": compiled}
    for form in forms.values():  # which compiles, and lets libraries choose their kernels
        seconds(form)
    if compiled.graph is None:
        return False
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, form in forms.items():
            times[name].append(seconds(form))
    return min(times["compiled"]) <= PAYS * min(times["eager"])
