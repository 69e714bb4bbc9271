"""Training batches as a function of (seed, step): the same after a resume, whatever came before."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from unrolled.data.augmentation import Augmentation
from unrolled.data.crops import Crop, crop_sides, crop_text
from unrolled.data.stores import ImageStore, MemoryImage, check_bright, to_float
from unrolled.data.unit_images import as_single, to_unit
from unrolled.system.scales import OUTSIDE, Scale, as_scale

LOOKED_AT = 16
"""Items of a data set of one's own that are looked at before training, at most: they may be slow to make."""


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
        Tensor, (len(part), channel, height, width), float32 or complex64 with white at 1
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
    """Crops of images at random places, in random orientations unless the augmentation says otherwise.

    Square crops come in all eight orientations, by quarter turns and a reflection. Others keep their sides: they come
    in four orientations, by half turns and a reflection. Images are drawn in proportion to their area.

    Parameters
    ----------
    images : ImageStore, or list of images, each (channel, height, width) or (height, width)
        see `ImageStore`.
    crop : int or (height, width)
        of the crops, in pixels. A network that is to remove block artefacts needs crops of several blocks.
    seed : int
    smallest : float in (0, 1]
        images are shrunk at random by factors of `smallest` to 1, so that what is in them comes in several sizes.
    frame : bool
        images that are smaller than the crop, or become so, are put into black frames, at random places.
    augmentation : Augmentation, optional
        how crops are varied; by default by their orientation alone.

    Raises
    ------
    ValueError
        if there is no image, the crop is not a size, or an image is smaller than the crop, or may become so, and is
        not to be framed.
    """

    def __init__(
        self,
        images: ImageStore | Sequence[Any],
        crop: Crop,
        seed: int = 0,
        smallest: float = 1.0,
        frame: bool = False,
        augmentation: Augmentation | None = None,
    ):
        self.augmentation = Augmentation() if augmentation is None else augmentation
        self.store = images if isinstance(images, ImageStore) else ImageStore(images)
        if not self.store.images:
            raise ValueError("RandomCrops: needs at least one image")
        if not 0 < smallest <= 1:
            raise ValueError(f"RandomCrops: smallest must be in (0, 1], got {smallest!r}")
        self.crop, self.seed, self.smallest, self.frame = crop_sides(crop), seed, smallest, frame
        for image in [] if frame else self.store.images:
            if any(side * smallest < wanted for side, wanted in zip(image.shape[-2:], self.crop, strict=True)):
                shrunk = "" if smallest == 1 else f", shrunk by {smallest},"
                raise ValueError(
                    f"RandomCrops: an image of {tuple(image.shape)}{shrunk} is smaller than the crop of "
                    f"{crop_text(self.crop)}"
                )
        area = np.array([height * width for _, height, width in (image.shape for image in self.store.images)], float)
        self.distribution = (area / area.sum()).cumsum()
        self.distribution /= self.distribution[-1]
        self.length = max(1, int(area.sum() / math.prod(self.crop)))

    def __len__(self) -> int:
        return self.length

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        return torch.stack([to_float(self.sample(step, index)) for index in places(size, part)])

    def sample(self, step: int, index: int) -> Tensor:
        """One crop, (channel, height, width), as it is stored unless its numbers are varied.

        It is a function of (seed, step, index).
        """
        random = np.random.default_rng((self.seed, step, index))
        image = self.store.images[int(self.distribution.searchsorted(random.random(), side="right"))]
        scale = 1.0 if self.smallest == 1 else random.uniform(self.smallest, 1)
        reach = [min(side, math.ceil(wanted / scale)) for side, wanted in zip(image.shape[-2:], self.crop, strict=True)]
        top, left = (int(random.integers(side - part + 1)) for side, part in zip(image.shape[-2:], reach, strict=True))
        patch = image.read(slice(top, top + reach[0]), slice(left, left + reach[1]))
        if scale < 1:
            size = [max(1, min(side, round(scale * part))) for side, part in zip(self.crop, reach, strict=True)]
            patch = shrunk(to_float(patch), size)
        if self.frame:
            patch = self._framed(patch, random)
        return self.augmentation.vary(patch, random)

    def _framed(self, patch: Tensor, random: np.random.Generator) -> Tensor:
        """The patch in a black frame of the crop's size, at a random place."""
        down, across = (side - part for side, part in zip(self.crop, patch.shape[-2:], strict=True))
        top, left = int(random.integers(down + 1)), int(random.integers(across + 1))
        return F.pad(patch, (left, across - left, top, down - top))


def shrunk(image: Tensor, size: list[int]) -> Tensor:
    """An image (channel, height, width), real or complex, by bicubic interpolation; real ones do not overshoot."""
    if image.is_complex():
        parts = torch.cat([image.real, image.imag])
        real, imaginary = F.interpolate(parts[None], size, mode="bicubic", antialias=True)[0].chunk(2)
        return torch.complex(real, imaginary)
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    return F.interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(low, high)


class Prefetch(Batches):
    """The same batches, the next one being drawn in a thread while the present one is trained on.

    For images that are read from files as they are drawn. All drawing happens in that one thread. Where the batch of a
    step is asked for in parts, which part follows which is learned in the first steps.

    Parameters
    ----------
    batches : Batches
    """

    def __init__(self, batches: Batches):
        self.batches = batches
        self.following: dict[range | None, tuple[int, range | None]] = {}
        self.last: tuple[int, range | None] | None = None
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self.next: tuple[tuple[int, int, range | None], Future[Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        if self.next is None or self.next[0] != (step, size, part):
            self.next = None
            drawn = self.thread.submit(self.batches.batch, step, size, part)
        else:
            drawn = self.next[1]
        batch = drawn.result()
        if self.last is not None:
            self.following[self.last[1]] = step - self.last[0], part
        self.last = step, part
        ahead, other = self.following.get(part, (1, part))
        expected = max(0, step + ahead), size, other
        self.next = expected, self.thread.submit(self.batches.batch, *expected)
        return batch


class DatasetBatches(Batches):
    """Batches from any map-style data set of images, shuffled anew in every epoch.

    Parameters
    ----------
    dataset : Dataset with `__len__`
        of images (channel, height, width) or (height, width) of one size, tensors, arrays or pictures of Pillow; of
        pairs (image, label) the image is taken.
    seed : int
    scale : Scale, optional
        what white is, see `unrolled.data.unit_images.to_unit`.

    Raises
    ------
    ValueError
        for what has no items by number, is empty, or holds no images; some items are looked at.
    """

    def __init__(self, dataset: Any, seed: int = 0, scale: Scale | None = None):
        if isinstance(dataset, DataLoader):
            raise ValueError(
                "dataset: batches are drawn here, as a function of seed and step, so give the data set of the "
                "DataLoader (loader.dataset), and the batch size as training.batch"
            )
        if isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        ):
            raise ValueError(
                f"dataset: must have items by number (__getitem__ and __len__), so that a run can be resumed at any "
                f"step, got {type(dataset).__name__}; write what it yields into files, or give a list"
            )
        self.dataset, self.seed, self.scale = dataset, seed, as_scale("dataset", scale)
        if len(self) == 0:
            raise ValueError("DatasetBatches: the data set is empty")
        check_bright(
            [MemoryImage(self._item(index), scale, f"dataset: item {index}") for index in self._some()], "dataset"
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        positions = [step * size + place for place in places(size, part)]
        images = [self._image(int(self._order(at // len(self))[at % len(self)])) for at in positions]
        shapes = {tuple(image.shape) for image in images}
        if len(shapes) > 1:
            raise ValueError(f"dataset: images must be of one size, got {sorted(shapes)}; crop them, or give a list")
        return torch.stack(images)

    def _some(self) -> range:
        return range(0, len(self), -(-len(self) // LOOKED_AT))

    def _item(self, index: int) -> Any:
        """The image of an item, as the data set has it."""
        try:
            item = self.dataset[index]
        except Exception as error:
            raise ValueError(f"dataset: item {index} cannot be read: {error or type(error).__name__}") from error
        if isinstance(item, (tuple, list)) and item and not isinstance(item[0], (int, float, list)):
            item = item[0]
        return item

    def _image(self, index: int) -> Tensor:
        # In the midst of a run an interpolation's overshoot is no reason to stop.
        image, _ = to_unit(f"dataset: item {index}", self._item(index), self.scale, within=OUTSIDE)
        return as_single(image)

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._permutation = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self))
        return self._permutation
