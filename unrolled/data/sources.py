"""Where training images come from: folders, HDF5 files or embedded images, and which of them are held out."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from torch import Tensor

from unrolled.data.augmentation import Augmentation
from unrolled.data.crops import Crop, crop_sides, crop_text
from unrolled.data.embedded import Split, embedded_images
from unrolled.data.hdf5 import hdf5_images, list_hdf5
from unrolled.data.holding_out import held_out
from unrolled.data.images import SUFFIXES, list_images
from unrolled.data.known import find_known
from unrolled.data.stores import (
    CACHE_MIB,
    FileImage,
    ImageStore,
    MemoryImage,
    StoredImage,
    check_bright,
    to_float,
)
from unrolled.data.volumes import is_medical, whole_volumes
from unrolled.system.files import one_or_several
from unrolled.system.scalars import PlainNumbers
from unrolled.system.scales import Scale, as_scale

EMBEDDED = "embedded"
VALIDATION_SIDE = 264
"""Validation images are cut to at most this many pixels a side, so that validating stays a small part of training."""


OnError = Literal["stop", "skip"]


def is_index(source: str) -> bool:
    """Whether a source is an index of shards."""
    return str(source).lower().endswith(".json")


class TrainingData:
    """What a config states as `data`: images, or measurements."""


@dataclass
class ImageData(TrainingData, PlainNumbers):
    """Images to train on.

    Parameters
    ----------
    train : list of str
        folders of images (subfolders too), HDF5 files or folders of them, names of known data sets (`unrolled data
        list`); "embedded" stands for the images that ship inside scikit-image. Or one index of shards (.json), a file
        or an address, see `ShardBatches`.
    validation : str or None
        images to validate on, given like one of train; by default some of the training images are held out.
    hold_out : int
        how many training images are held out, drawn by the seed, if validation is not given; the embedded images
        have a split of their own, and of shards they are the first ones of the last shard, which is not trained on.
    crop : int or (height, width) or None
        of the random training crops, in pixels: several blocks, so that the network learns to remove block edges. By
        default of the size that the operator measures if there is only one, otherwise squares of 66.
    cache_mib : int
        the most memory for decoded training images, in MiB; what does not fit is read again each time it is drawn,
        which is slow for image files: `unrolled data prepare` turns them into HDF5, of which a crop alone is read.
    key : str or None
        of the images in HDF5 files of your own; not needed if there is only one data set that can be images.
    smallest : float in (0, 1]
        training images are shrunk at random by factors of `smallest` to 1.
    frame : bool
        put images that are smaller than the crop into black frames, instead of leaving them out.
    scale : float, (black, white), "max", a percentile such as "99.5%", or "hu", optional
        what white is in the numbers of the files, for training and validation; "max" is each image's own largest
        magnitude, "hu" are Hounsfield units, of which air is black and 3071 white. By default what the type says: 255
        of bytes, 65535 of 16 bits, 1 of floating point.
    orientations : bool
        training crops come in random orientations, by quarter turns and reflections.
    intensity : (low, high), 0 < low <= high
        training crops are multiplied by a number that is drawn evenly from here.
    bias_field : float >= 0
        training crops are multiplied by smooth random fields with values in [e^−b, 1], b up to this, as receiver coils
        shade images of magnetic resonance.
    on_error : "stop" or "skip"
        of shards: whether training stops at what cannot be read, or takes others in its place.
    disk_mib : int
        of shards at an address: the most that their copies on this machine take, in MiB.
    """

    train: list[str] = field(default_factory=lambda: [EMBEDDED])
    validation: str | None = None
    hold_out: int = 8
    crop: Crop | None = None
    cache_mib: int = CACHE_MIB
    key: str | None = None
    smallest: float = 1.0
    frame: bool = False
    scale: float | tuple[float, float] | str | None = None
    orientations: bool = True
    intensity: tuple[float, float] = (1.0, 1.0)
    bias_field: float = 0.0
    on_error: OnError = "stop"
    disk_mib: int = 10_240

    def __post_init__(self) -> None:
        self.train = one_or_several(self.train)
        if not self.train:
            raise ValueError("data: train must name at least one folder")
        crop_sides(self.crop)  # it names a crop that is no size
        if self.hold_out < 1:
            raise ValueError(f"data: hold_out must be >= 1, got {self.hold_out!r}")
        for name in ("cache_mib", "disk_mib"):
            if getattr(self, name) < 0:
                raise ValueError(f"data: {name} must be >= 0, got {getattr(self, name)!r}")
        if self.on_error not in get_args(OnError):
            raise ValueError(f"data: on_error must be 'stop' or 'skip', got {self.on_error!r}")
        if any(map(is_index, self.train)) and len(self.train) > 1:
            raise ValueError(f"data: an index of shards must be the only source of training images, got {self.train}")
        if not 0 < self.smallest <= 1:
            raise ValueError(f"data: smallest must be in (0, 1], got {self.smallest!r}")
        self.scale = as_scale("data", self.scale)
        _ = self.augmentation  # which names what it cannot do

    @property
    def in_shards(self) -> bool:
        """Whether the training images lie in shards."""
        return is_index(self.train[0])

    @property
    def augmentation(self) -> Augmentation:
        """How training crops are varied."""
        return Augmentation(self.orientations, self.intensity, self.bias_field)

    def load(
        self, multiple: int = 1, seed: int = 0, size: tuple[int, int] | None = None
    ) -> tuple[ImageStore, list[Tensor]]:
        """Open the images, and read those that fit into the cache.

        Parameters
        ----------
        multiple : int
            the sides of validation images, and the crop, are multiples of this.
        seed : int
            draws the images to hold out.
        size : (height, width), optional
            of validation images and crops, for an operator that measures only those.

        Returns
        -------
        training, validation : ImageStore and list of Tensor, of images (1, height, width) with white at 1

        Raises
        ------
        ValueError
            if a folder holds no images, the crop is not of such a size, or too few images are left.
        """
        crop = crop_sides(self.crop, multiple, size)
        training: list[StoredImage] = []
        validation: list[StoredImage] = []
        sources = [source for source in self.train if source != EMBEDDED]
        for source in sources:
            training += open_images(source, "train", self.key, scale=self.scale)
        if self.validation is not None:
            validation += open_images(self.validation, "validation", self.key, scale=self.scale)
        elif sources:
            if self.hold_out >= len(training):
                raise ValueError(f"data: hold_out must be below the {len(training)} images found, got {self.hold_out}")
            validation, training = held_out(training, self.hold_out, seed)
        if EMBEDDED in self.train:
            training += open_images(EMBEDDED, "train")
        if not validation:
            validation += open_images(EMBEDDED, "validation")
        height, width = (math.ceil(side / self.smallest) for side in crop)
        kept = training if self.frame else large_enough(training, (height, width))
        store = ImageStore(kept, self.cache_mib)
        check_bright(validation, "validation")
        return store, cut((to_float(image.read()) for image in validation), multiple, exactly=size)


def open_images(
    source: str | Path,
    split: Split = "train",
    key: str | None = None,
    color: bool = False,
    scale: Scale | None = None,
) -> list[StoredImage]:
    """The images of a source, not yet read.

    Parameters
    ----------
    source : str or Path
        a folder of images, of HDF5 files or of volumes (NIfTI, DICOM), a file of one of them, the name of a known data
        set, or "embedded".
    split : str
        of a known data set and of the embedded images.
    key : str, optional
        of the images in HDF5 files; see `hdf5_images`.
    color : bool
        as in `read_image`.
    scale : Scale, optional
        likewise; embedded images have their own.

    Returns
    -------
    list of StoredImage, each (1 or 3, height, width)

    Raises
    ------
    ValueError
        if there is no such source, or it holds no images, or both image files and HDF5 files.
    """
    if source == EMBEDDED:
        return [MemoryImage(image) for image in embedded_images(split, color).values()]
    path = Path(source)
    known = None if path.exists() else find_known(str(source))
    if known is not None:
        paths, known_key = known.split_files(split)
        return _open_files(paths, known_key if key is None else key, color, scale)
    if path.is_dir() and (hdf5 := list_hdf5(path)):
        if any(file.suffix.lower() in SUFFIXES for file in path.rglob("*")):
            raise ValueError(f"images: {path} holds image files and HDF5 files; name the one or the other")
        return hdf5_images(hdf5, key, color, scale)
    if is_medical(path):
        return [image for volume in whole_volumes(path, color, scale) for image in volume.images]
    return _open_files(list_images(path), key, color, scale)


def _open_files(paths: Sequence[Path], key: str | None, color: bool, scale: Scale | None) -> list[StoredImage]:
    hdf5 = [path for path in paths if list_hdf5(path)]
    images: list[StoredImage] = [FileImage(path, color, scale) for path in paths if not list_hdf5(path)]
    return images + hdf5_images(hdf5, key, color, scale)


Shaped = TypeVar("Shaped", Tensor, StoredImage)


def large_enough(images: Sequence[Shaped], crop: tuple[int, int]) -> list[Shaped]:
    """The images that a crop (height, width) fits on; a warning tells how many do not, an error that none does."""
    kept = [image for image in images if image.shape[-2] >= crop[0] and image.shape[-1] >= crop[1]]
    size = crop_text(crop)
    if not kept:
        raise ValueError(f"data: all {len(images)} training images are smaller than the crop of {size}")
    if len(kept) < len(images):
        warnings.warn(f"{len(images) - len(kept)} training images smaller than {size} are left out", stacklevel=3)
    return kept


def cut(
    images: Iterable[Tensor], multiple: int, side: int = VALIDATION_SIDE, exactly: tuple[int, int] | None = None
) -> list[Tensor]:
    """The centres of the images, with sides that are multiples of a number and at most `side`, or exactly as given."""
    centres = []
    for image in images:
        size = [min(length, max(side, multiple)) // multiple * multiple for length in image.shape[-2:]]
        if 0 in size:
            raise ValueError(f"data: an image of {tuple(image.shape)} is smaller than one block of {multiple}")
        if exactly is not None:
            size = list(exactly)
            if image.shape[-2] < size[0] or image.shape[-1] < size[1]:
                raise ValueError(f"data: a validation image of {tuple(image.shape)} is smaller than {exactly}")
        top, left = ((length - kept) // 2 for length, kept in zip(image.shape[-2:], size, strict=True))
        centres.append(image[:, top : top + size[0], left : left + size[1]])
    return centres
