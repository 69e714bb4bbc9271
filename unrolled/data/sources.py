"""Where training images come from: folders or the embedded images, and which of them are held out."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from unrolled.data.embedded import embedded_images
from unrolled.data.images import read_images

EMBEDDED = "embedded"
VALIDATION_SIDE = 264
"""Validation images are cut to at most this many pixels a side, so that validating stays a small part of training."""


@dataclass
class ImageData:
    """Images to train on.

    Parameters
    ----------
    train : list of str
        folders of images (subfolders too); "embedded" stands for the images that ship inside scikit-image.
    validation : str or None
        a folder of images to validate on, or "embedded"; by default some of the training images are held out.
    hold_out : int
        how many training images are held out, drawn by the seed, if validation is not given; the embedded images
        have a split of their own.
    crop : int
        side of the random training crops in pixels: several blocks, so that the network learns to remove block edges.
    """

    train: list[str] = field(default_factory=lambda: [EMBEDDED])
    validation: str | None = None
    hold_out: int = 8
    crop: int = 66

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("data: train must name at least one folder")
        if self.crop < 1:
            raise ValueError(f"data: crop must be >= 1, got {self.crop!r}")
        if self.hold_out < 1:
            raise ValueError(f"data: hold_out must be >= 1, got {self.hold_out!r}")

    def load(self, multiple: int = 1, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
        """Read the images.

        Parameters
        ----------
        multiple : int
            the sides of validation images, and the crop, are multiples of this.
        seed : int
            draws the images to hold out.

        Returns
        -------
        training, validation : list of Tensor, each (1, height, width) in [0, 1]

        Raises
        ------
        ValueError
            if a folder holds no images, the crop is not such a multiple, or too few images are left.
        """
        if self.crop % multiple:
            raise ValueError(f"data: crop must be a multiple of {multiple} for this operator, got {self.crop}")
        training: list[Tensor] = []
        validation: list[Tensor] = []
        folders = [folder for folder in self.train if folder != EMBEDDED]
        for folder in folders:
            training += read_images(folder)
        if self.validation is None and folders:
            if self.hold_out >= len(training):
                raise ValueError(f"data: hold_out must be below the {len(training)} images found, got {self.hold_out}")
            held = set(np.random.default_rng(seed).permutation(len(training))[: self.hold_out].tolist())
            validation = [image for index, image in enumerate(training) if index in held]
            training = [image for index, image in enumerate(training) if index not in held]
        elif self.validation not in (None, EMBEDDED):
            validation = read_images(self.validation)
        if EMBEDDED in self.train:
            training += embedded_images("train").values()
        if self.validation == EMBEDDED or not validation:
            validation += embedded_images("validation").values()
        return large_enough(training, self.crop), cut(validation, multiple)


def large_enough(images: Sequence[Tensor], crop: int) -> list[Tensor]:
    """The images that a crop fits on; a warning tells how many do not, an error that none does."""
    kept = [image for image in images if min(image.shape[-2:]) >= crop]
    if not kept:
        raise ValueError(f"data: all {len(images)} training images are smaller than the crop of {crop}")
    if len(kept) < len(images):
        warnings.warn(f"{len(images) - len(kept)} training images smaller than {crop} are left out", stacklevel=3)
    return kept


def cut(images: Sequence[Tensor], multiple: int, side: int = VALIDATION_SIDE) -> list[Tensor]:
    """The centres of the images, with sides that are multiples of a number and at most `side`."""
    centres = []
    for image in images:
        size = [min(length, max(side, multiple)) // multiple * multiple for length in image.shape[-2:]]
        if 0 in size:
            raise ValueError(f"data: an image of {tuple(image.shape)} is smaller than one block of {multiple}")
        top, left = ((length - kept) // 2 for length, kept in zip(image.shape[-2:], size, strict=True))
        centres.append(image[:, top : top + size[0], left : left + size[1]])
    return centres
