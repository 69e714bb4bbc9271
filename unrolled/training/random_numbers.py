"""Random numbers of a run: a function of its seed and of the step, whatever came before."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from unrolled.system.devices import seed_generators
from unrolled.training import distributed

EVERY_PROCESS = 2**31
"""Stands for the number of a process where all of them draw the same."""


def seed_step(seed: int, step: int, together: bool = False) -> None:
    """Seed torch for a step: every process draws other numbers, or, together, all of them the same."""
    drawer = EVERY_PROCESS if together else distributed.rank()
    words = np.random.SeedSequence((seed, step, drawer)).generate_state(1, np.uint64)
    seed_generators(int(words[0]))


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers, on the CPU and on this device, as they were before the block."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
