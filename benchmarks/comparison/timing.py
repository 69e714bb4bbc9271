"""What a step of training costs: processor time and memory, measured in a process that does nothing else."""

import ctypes
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import peak_resident
from unrolled.training import TrainingOptions
from unrolled.training.optimizers import make_optimizer
from unrolled.training.tasks.task import Task

WARM_UP, TIMED = 2, 10
"""Steps: the first ones also pay for allocations and the choice of kernels."""

ENOUGH = 20.0
"""Seconds after which fewer steps will do, three at least: trials of learning rates are timed again."""


def cost_of_a_step(task: Task, options: TrainingOptions) -> dict[str, Any]:
    """Train a few steps, and tell what each took.

    Returns
    -------
    dict
        "seconds" of the processor, the median of the timed steps; "mib", by which memory was at most larger than before
        the first step; "finite", whether all losses were numbers
    """
    task.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task.model.train()
    optimizer = make_optimizer(options, task.model, [])
    task.batch(0, options.batch)
    forget_peak()
    before, times, finite = resident(), list[float](), True
    for step in range(WARM_UP + TIMED):
        if sum(times) > ENOUGH and step >= WARM_UP + 3:
            break
        began = time.process_time()
        batch = task.batch(step, options.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            loss = task.loss(task.model, batch, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(task.model.parameters()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.process_time() - began)
        finite = finite and bool(torch.isfinite(loss))
    seconds = statistics.median(times[WARM_UP:])
    return {"seconds": seconds, "mib": (peak_resident() - before) / 2**20, "finite": finite}


def resident() -> int:
    """The memory that this process has, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def forget_peak() -> None:
    """Give freed memory back to the system, and let the peak of this process's memory begin anew (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)  # otherwise steps would take what loading has left, which nobody would count
    Path("/proc/self/clear_refs").write_text("5")
