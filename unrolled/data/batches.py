"""Training batches as a function of (seed, step): the same after a resume, whatever came before."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate


class Batches(ABC):
    """What training draws from: the batch of any step, with no memory of other steps."""

    @abstractmethod
    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        """The images of a step.

        Parameters
        ----------
        step : int
        size : int
            of the whole batch, over all processes that train together.
        part : range, optional
            draw only these places of the batch, as one of several processes does; by default all, range(size).

        Returns
        -------
        Tensor, (len(part), channel, height, width), float32 in [0, 1]
            `batch(step, size)[part]`, whatever the other places are.

        Raises
        ------
        ValueError
            if a place lies outside of the batch.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Samples in one epoch."""


def places(size: int, part: range | None) -> range:
    """The places of a batch that are to be drawn: all, or a checked part."""
    if part is None:
        return range(size)
    if not part or min(part) < 0 or max(part) >= size:
        raise ValueError(f"batch: part must be places of a batch of {size}, at least one, got {part}")
    return part


class RandomCrops(Batches):
    """Square crops of images at random places, flipped and rotated at random.

    Images are kept as bytes, and drawn in proportion to the number of crops that fit on them side by side.

    Parameters
    ----------
    images : list of Tensor, each (channel, height, width) in [0, 1]
    crop : int
        side of the crops in pixels. A network that is to remove block artefacts needs crops of several blocks.
    seed : int

    Raises
    ------
    ValueError
        if there is no image, or one is smaller than the crop.
    """

    def __init__(self, images: Sequence[Tensor], crop: int, seed: int = 0):
        if not images:
            raise ValueError("RandomCrops: needs at least one image")
        for image in images:
            if min(image.shape[-2:]) < crop:
                raise ValueError(f"RandomCrops: an image of {tuple(image.shape)} is smaller than the crop of {crop}")
        self.images = [(image * 255).round().to(torch.uint8) for image in images]
        self.crop, self.seed = crop, seed
        area = np.array([image.shape[-2] * image.shape[-1] for image in images], dtype=np.float64)
        self.probability = area / area.sum()
        self.length = max(1, int(area.sum() / crop**2))

    def __len__(self) -> int:
        return self.length

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        return torch.stack([self.sample(step, index) for index in places(size, part)]).float() / 255

    def sample(self, step: int, index: int) -> Tensor:
        """One crop, (channel, crop, crop), uint8: a function of (seed, step, index)."""
        random = np.random.default_rng((self.seed, step, index))
        image = self.images[random.choice(len(self.images), p=self.probability)]
        top, left = (int(random.integers(side - self.crop + 1)) for side in image.shape[-2:])
        patch = image[:, top : top + self.crop, left : left + self.crop]
        patch = torch.rot90(patch, int(random.integers(4)), dims=(-2, -1))
        return patch.flip(-1) if random.integers(2) else patch


class DatasetBatches(Batches):
    """Batches from any map-style data set of image tensors, shuffled anew in every epoch.

    Parameters
    ----------
    dataset : Dataset with `__len__`, of tensors (channel, height, width), all of one shape
    seed : int
    """

    def __init__(self, dataset: Dataset[Tensor], seed: int = 0):
        self.dataset, self.seed = dataset, seed
        if len(self) == 0:
            raise ValueError("DatasetBatches: the data set is empty")

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        positions = [step * size + place for place in places(size, part)]
        return default_collate([self.dataset[self._order(at // len(self))[at % len(self)]] for at in positions])

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._permutation = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self))
        return self._permutation
