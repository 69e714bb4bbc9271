"""Measurements as training data: what was measured, how, and of what, where that is known; batches of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unrolled.data.batches import Batches, places

Seed = tuple[int, ...]
"""What decides the random numbers of a sample: (seed, step, index)."""


class Measured(NamedTuple):
    """Measurements of a batch of images, in their own units.

    Parameters
    ----------
    y : Tensor, (batch, …)
        in the shape that the operator states.
    truth : Tensor, (batch, channel, height, width), or None
        the images, in the units of y over those of the operator.
    mask : Tensor, (batch, 1, height, width), or None
        of k-space: 1 where a frequency was sampled.
    maps : Tensor, (batch, coil, height, width), or None
        of k-space of several coils: their sensitivities, Σ|S|² at most 1.
    centered : bool
        of k-space: where the zero frequency lies.
    """

    y: Tensor
    truth: Tensor | None = None
    mask: Tensor | None = None
    maps: Tensor | None = None
    centered: bool = False


class MeasuredSamples(ABC):
    """Measurements behind one index, read when they are asked for.

    Attributes
    ----------
    kinds : list of hashable
        of every sample what it must share with the others of a batch: its shape, for example.
    """

    kinds: Sequence[Hashable]

    streams: bool = False
    """Whether samples are read from files as they are drawn."""

    @abstractmethod
    def sample(self, index: int, seed: Seed | None = None) -> Measured:
        """One sample, a batch of one.

        Parameters
        ----------
        index : int
        seed : tuple of int, optional
            decides what is drawn anew in every step of training; without it the sample is always the same.
        """

    def shown(self, index: int) -> Tensor | None:
        """The true image of a sample that reconstructions are compared with: (1, channel, height, width), in the units
        of y; the magnitude of a complex one, and perhaps only the middle of it. None: it is not known."""
        return self.sample(index).truth

    def __len__(self) -> int:
        return len(self.kinds)


class MeasuredBatches(Batches):
    """Batches of measurements as a function of (seed, step): samples of one kind, drawn with replacement.

    In every step a kind is drawn in proportion to the samples that there are of it, and then each place of the batch
    draws its sample, as a function of (seed, step, index).

    Parameters
    ----------
    samples : MeasuredSamples
        at least one.
    seed : int
    """

    def __init__(self, samples: MeasuredSamples, seed: int = 0):
        assert len(samples), "there are no samples"
        self.samples, self.seed = samples, seed

    @cached_property
    def _members(self) -> list[list[int]]:
        """The samples of every kind."""
        found: dict[Hashable, list[int]] = {}
        for index, kind in enumerate(self.samples.kinds):
            found.setdefault(kind, []).append(index)
        return list(found.values())

    def __len__(self) -> int:
        """Samples in one epoch."""
        return len(self.samples)

    def batch(self, step: int, size: int, part: range | None = None) -> Measured:  # type: ignore[override]
        """The measurements of a step; otherwise as `Batches.batch` has it."""
        some = int(np.random.default_rng((self.seed, step)).integers(len(self)))
        members = next(members for members in self._members if some in members)
        return joined([self._drawn(members, (self.seed, step, place)) for place in places(size, part)])

    def _drawn(self, members: list[int], seed: Seed) -> Measured:
        return self.samples.sample(members[int(np.random.default_rng(seed).integers(len(members)))], seed)


def check_sigma(sigma: float | None) -> None:
    """Raise ValueError unless a noise level is finite and positive, or not known."""
    if sigma is not None and not 0 < sigma < math.inf:
        raise ValueError(f"data: sigma must be a finite number > 0, or null, got {sigma!r}")


def joined(parts: Sequence[Measured]) -> Measured:
    """A batch of samples of one kind."""

    def column(tensors: Sequence[Tensor | None]) -> Tensor | None:
        given = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(given) if given else None

    y, *others = (column(tensors) for tensors in zip(*(part[:4] for part in parts), strict=True))
    assert y is not None
    truth, mask, maps = others
    return Measured(y, truth, mask, maps, parts[0].centered)
