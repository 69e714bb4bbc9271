"""Labelled images: kept as bytes on the device that trains, drawn as a function of (seed, step)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unrolled.data.batches import places
from unrolled.system.arraylike import as_tensor
from unrolled.system.devices import send


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of one size, each with the number of its class.

    Parameters
    ----------
    images : Tensor or array, (n, channel, height, width), uint8
    labels : Tensor, array or list, (n,), integers in [0, number of classes)
    classes : sequence of str
        their names.

    Raises
    ------
    ValueError
        if shapes or types do not fit, there is no image, or a label is outside of the classes.
    """

    images: Tensor
    labels: Tensor
    classes: Sequence[str]

    def __post_init__(self) -> None:
        images, labels = as_tensor("labelled images", self.images), as_tensor("labels", self.labels)
        if images.ndim != 4 or images.dtype != torch.uint8 or not len(images):
            raise ValueError(
                "labelled images: images must be (n, channel, height, width) of uint8, at least one, got "
                f"{tuple(images.shape)} of {images.dtype}"
            )
        if labels.shape != images.shape[:1] or labels.dtype.is_floating_point or labels.dtype.is_complex:
            raise ValueError(
                f"labelled images: labels must be a whole number for each of the {len(images)} images, got "
                f"{tuple(labels.shape)} of {labels.dtype}"
            )
        labels = labels.long()  # unsigned ones cannot be compared
        outside = (labels < 0) | (labels >= len(self.classes))
        if outside.any():
            index = int(outside.nonzero()[0])
            raise ValueError(
                f"labelled images: labels must be in [0, {len(self.classes)}), the number of classes, got "
                f"{int(labels[index])} at image {index}"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "classes", tuple(self.classes))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: Tensor) -> "LabelledImages":
        """Some of them, by their positions."""
        return LabelledImages(self.images[chosen], self.labels[chosen], self.classes)

    def to(self, device: torch.device) -> "LabelledImages":
        """The same on a device."""
        return LabelledImages(self.images.to(device), self.labels.to(device), self.classes)

    def hash(self) -> str:
        """A hash of images and labels."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, of values in [0, 1]; of a constant channel 1 as the latter."""
        means, deviations = [], []
        levels = torch.arange(256, dtype=torch.float64) / 255
        for channel in self.images.unbind(1):
            share = torch.bincount(channel.flatten(), minlength=256).cpu().double() / channel.numel()
            mean = float((share * levels).sum())
            means.append(mean)
            deviations.append(float((share * (levels - mean) ** 2).sum().sqrt()) or 1.0)
        return tuple(means), tuple(deviations)


class LabelledBatches:
    """Batches of labelled images, shuffled anew in every epoch, shifted and mirrored at random.

    What a step draws is a function of (seed, step) and the size of the batch, with no memory of other steps.

    Parameters
    ----------
    data : LabelledImages
    seed : int
    shift : int
        an image moves by up to so many pixels, up or down and left or right; what comes in is black.
    flip : bool
        whether every other image, at random, is mirrored left to right.
    """

    def __init__(self, data: LabelledImages, seed: int = 0, shift: int = 0, flip: bool = False):
        self.data, self.seed, self.shift, self.flip = data, seed, shift, flip

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, step: int, size: int, part: range | None = None) -> tuple[Tensor, Tensor]:
        """The images and labels of a step, on the device of the data.

        Parameters
        ----------
        step : int
        size : int
            of the whole batch, over all processes that train together.
        part : range, optional
            only these places of the batch; by default all.

        Returns
        -------
        images, labels : Tensor, (len(part), channel, height, width), float32 in [0, 1], and (len(part),)
        """
        own = np.asarray(places(size, part))
        positions = step * size + own
        order = np.empty_like(positions)
        for epoch in np.unique(positions // len(self)):
            inside = positions // len(self) == epoch
            order[inside] = self._order(int(epoch))[positions[inside] % len(self)]
        chosen = send(torch.from_numpy(order), self.data.labels.device)
        images = self.data.images[chosen]
        if self.shift or self.flip:
            random = np.random.default_rng((self.seed, 1, step))
            down, right = random.integers(-self.shift, self.shift, (2, size), endpoint=True)[:, own]
            mirrored = self.flip & random.integers(2, size=size)[own]
            images = _moved(images, self.shift, down, right, mirrored)
        return images.float().div_(255), self.data.labels[chosen]

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self))
        return self._permutation


def _moved(images: Tensor, shift: int, down: np.ndarray, right: np.ndarray, mirrored: np.ndarray) -> Tensor:
    """Each image moved by its own number of pixels, |·| ≤ shift, then mirrored where that is 1."""
    height, width = images.shape[-2:]
    rows = np.arange(height) + (shift - down)[:, None]
    columns = np.where(mirrored[:, None], np.arange(width)[::-1], np.arange(width)) + (shift - right)[:, None]
    row, column = (send(torch.from_numpy(index), images.device) for index in (rows, columns))
    padded = functional.pad(images, (shift, shift, shift, shift))
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[each, :, row[:, :, None], column[:, None, :]].movedim(-1, 1).contiguous()


@dataclass(frozen=True)
class LabelledSplits:
    """A labelled data set.

    Parameters
    ----------
    name : str
        with which copy it is, where there are several.
    train, validation : LabelledImages
        what is held out for validation is not among the former.
    test : LabelledImages or None
        for the last figure only.
    """

    name: str
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages | None

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            other = getattr(self, name)
            if other is not None and (other.classes, other.images.shape[1:]) != (
                self.train.classes,
                self.train.images.shape[1:],
            ):
                raise ValueError(
                    f"data: {self.name}: {name} must have the classes and the size of the training images, "
                    f"{len(self.train.classes)} and {tuple(self.train.images.shape[1:])}, got {len(other.classes)} and "
                    f"{tuple(other.images.shape[1:])}"
                )
