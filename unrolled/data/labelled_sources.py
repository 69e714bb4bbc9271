"""Where labelled images come from: torchvision's data sets, folders, an archive of JPEG, or drawn on the spot."""

import difflib
import gzip
import inspect
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from unrolled.data.digits import drawn_digits
from unrolled.data.images import array_to_image, check_scans, list_images, read_image
from unrolled.data.known import HOME, KnownData, find_known, known_sets
from unrolled.data.labelled import LabelledImages, LabelledSplits
from unrolled.data.stores import FileImage, check_bright
from unrolled.system.claims import check_claim
from unrolled.system.scalars import PlainNumbers
from unrolled.system.scales import Scale, as_scale
from unrolled.system.vision import import_torchvision

DRAWN, JPEG = "drawn-digits", "CIFAR-10-JPEG"
ARCHIVE = "cifar10_jpeg.tar.gz"

TAKEN = 10
"""Bytes that each pixel of its pictures takes while they are read: in color, decoded, copied and stacked."""


@dataclass
class LabelledData(PlainNumbers):
    """Labelled images to train on, and how they are varied.

    Parameters
    ----------
    source : str
        MNIST, CIFAR-10, CIFAR-10-JPEG (a copy that is slightly lossy), the name of any class of torchvision.datasets
        with images and labels (FashionMNIST …), or a folder with train/<class>/*.jpg and, if there are any,
        test/<class>/*.jpg; "drawn-digits" are made on the spot.
    folder : str or None
        where a data set that has a name lies; by default datasets/<name>, or $UNROLLED_DATA/<name>.
    color : bool or None
        three channels, or one: the luma; by default what the data set has, and three for folders.
    size : int or None
        pictures in folders are scaled to size × size pixels; needed if they are of several sizes.
    hold_out : float in (0, 1)
        the share of the training images that is held out for validation, drawn by the seed.
    shift : int
        training images are moved by up to so many pixels, at random.
    flip : bool
        training images are mirrored left to right, at random.
    scale : float, (black, white), "max" or a percentile such as "99.5%", optional
        what white is in pictures of folders, see `read_image`; all are kept as bytes.
    """

    source: str = "drawn-digits"
    folder: str | None = None
    color: bool | None = None
    size: int | None = None
    hold_out: float = 0.1
    shift: int = 0
    flip: bool = False
    scale: float | tuple[float, float] | str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.hold_out < 1:
            raise ValueError(f"data: hold_out must be in (0, 1), a share of the training images, got {self.hold_out!r}")
        if self.shift < 0:
            raise ValueError(f"data: shift must be >= 0, got {self.shift!r}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"data: size must be >= 1, got {self.size!r}")
        self.scale = as_scale("data", self.scale)

    def load(self, seed: int = 0) -> LabelledSplits:
        """Read all images into memory.

        Parameters
        ----------
        seed : int
            draws the images to hold out.

        Raises
        ------
        ValueError
            if there is no such data set, it is not where it should be or not whole, or images are of several sizes.
        """
        folder = None if self.folder is None else Path(self.folder)
        name, train, test = read_labelled(self.source, folder, self.color, self.size, self.scale)
        held = round(self.hold_out * len(train))
        if not 0 < held < len(train):
            raise ValueError(
                f"data: hold_out must leave an image on each side, got {self.hold_out!r} of {len(train)} images"
            )
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(train)))
        return LabelledSplits(name, train[order[held:].sort().values], train[order[:held].sort().values], test)


def read_labelled(
    source: str,
    folder: Path | None = None,
    color: bool | None = None,
    size: int | None = None,
    scale: Scale | None = None,
) -> tuple[str, LabelledImages, LabelledImages | None]:
    """The name, the training images and the test images of a source; see `LabelledData`.

    Raises
    ------
    ValueError
        if there is no such source, or it cannot be read.
    """
    if source == DRAWN:
        return source, _colored(drawn_digits("train"), color), _colored(drawn_digits("test"), color)
    known = find_known("CIFAR-10" if source == JPEG else source)
    if os.sep in source or (known is None and Path(source).is_dir()):
        return Path(source).name, *_read_folder(Path(source), color, size, scale)
    if scale is not None:
        raise ValueError(f"data: scale is for folders of pictures; those of {source} have theirs, got {scale!r}")
    if size is not None:
        raise ValueError(f"data: size is for folders of pictures; those of {source} keep theirs, got {size!r}")
    if known is not None and known.task != "classification":
        raise ValueError(f"data: {known.name} has no labels; it is for {known.task}")
    home = Path(os.environ.get(HOME) or "datasets").expanduser()
    place = folder or (home / source.lower() if known is None else known.folder)
    if source == JPEG:
        train, test = _read_archive(place)
    else:
        name = source if known is None else known.name.replace("-", "")
        datasets = import_torchvision("torchvision.datasets")
        if not (inspect.isclass(getattr(datasets, name, None)) and name in datasets.__all__):
            raise ValueError(_unknown(source, datasets.__all__))
        train, test = (_read_torchvision(getattr(datasets, name), place, split, known) for split in ("train", "test"))
    return source, _colored(train, color), _colored(test, color)


def _unknown(source: str, classes: Iterable[str]) -> str:
    named = [DRAWN, JPEG, *(known.name for known in known_sets() if known.task == "classification")]
    near = difflib.get_close_matches(source, sorted({*named, *classes}), n=3)
    hint = f"; near matches: {', '.join(near)}" if near else ""
    return (
        f"data: source must be one of {', '.join(named)}, a class of torchvision.datasets or a folder with "
        f"train/<class>/ in it, got {source!r}{hint}"
    )


def _read_torchvision(make: Callable[..., Any], folder: Path, split: str, known: KnownData | None) -> LabelledImages:
    name, accepted = getattr(make, "__name__", ""), inspect.signature(make).parameters
    if "train" in accepted:
        which: dict[str, Any] = {"train": split == "train"}
    elif "split" in accepted:
        which = {"split": split}
    else:
        raise ValueError(f"data: torchvision.datasets.{name} does not tell training from test images")
    try:
        data = make(str(folder), **which)
        classes = getattr(data, "classes", None)
        images, labels = _arrays(data)
    except Exception as error:  # each of its classes has errors of its own
        brings = (
            f"`unrolled data get {known.name}` brings it or says how"
            if known is not None
            else f"torchvision.datasets.{name}({str(folder)!r}, download=True) may bring it"
        )
        problem = str(error).partition("\n")[0].partition(" You can use")[0].rstrip(".") or type(error).__name__
        if known is not None and known.name == "CIFAR-10" and (folder / ARCHIVE).exists():
            brings = f"there is the JPEG copy of it, which is another data set: data.source {JPEG}"
        raise ValueError(
            f"data: {name} cannot be read from {folder} ({problem}); {brings}, or give the folder where it lies: "
            "data.folder"
        ) from error
    names = [str(name) for name in classes or range(int(labels.max()) + 1)]
    return LabelledImages(images, labels, names)


def _arrays(data: Any) -> tuple[Tensor, Tensor]:
    """Images (n, channel, height, width) and labels of a data set of torchvision; at once if it has them at hand."""
    pixels, labels = getattr(data, "data", None), getattr(data, "targets", getattr(data, "labels", None))
    if isinstance(pixels, (Tensor, np.ndarray)) and labels is not None and len(labels) == len(pixels):
        images = torch.as_tensor(pixels)
        if images.ndim == 3:
            images = images.unsqueeze(1)
        elif images.shape[1] not in (1, 3):
            images = images.movedim(-1, 1)
        return images.contiguous(), torch.as_tensor(np.asarray(labels))
    samples = [data[index] for index in range(len(data))]
    stack = _stacked((array_to_image(np.asarray(image), np.ndim(image) == 3), f"image {index}")
                     for index, (image, _) in enumerate(samples))  # fmt: skip
    return stack, torch.tensor([int(label) for _, label in samples])


def _read_folder(
    folder: Path, color: bool | None, size: int | None, scale: Scale | None
) -> tuple[LabelledImages, LabelledImages | None]:
    if not folder.is_dir():
        raise ValueError(f"data: there is no folder {folder}")
    classes = sorted(path.name for path in folder.glob("train/*") if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(f"data: {folder} must hold a folder of pictures for each class, train/<class>/, two at least")

    def read(split: str) -> LabelledImages:
        unknown = {path.name for path in (folder / split).iterdir() if path.is_dir()} - set(classes)
        if unknown:
            raise ValueError(f"data: {folder / split} has classes that train has not: {', '.join(sorted(unknown))}")
        files = [
            (path, label)
            for label, name in enumerate(classes)
            if split == "train" or (folder / split / name).is_dir()
            for path in list_images(folder / split / name)
        ]
        check_bright([FileImage(path, scale=scale) for path, _ in files], f"data: {folder / split}")
        pictures = ((_scaled(read_image(path, color is not False, scale), size), str(path)) for path, _ in files)
        return LabelledImages(_stacked(pictures), torch.tensor([label for _, label in files]), classes)

    return read("train"), read("test") if (folder / "test").is_dir() else None


def _read_archive(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """The pictures train/<class>/*.jpg and test/<class>/*.jpg of the archive of JPEG."""
    path = folder / ARCHIVE if folder.is_dir() else folder
    found: dict[str, list[tuple[np.ndarray, str]]] = {"train": [], "test": []}
    try:
        made = 0
        with tarfile.open(fileobj=_unpacked(path)) as archive:
            for member in archive:
                parts = Path(member.name).parts
                if len(parts) != 3 or parts[0] not in found or not member.isfile():
                    continue
                made += member.size  # of sparse ones more than is there
                check_claim("its pictures", made, path.stat().st_size)
                content = archive.extractfile(member)
                assert content is not None
                stream = io.BytesIO(content.read())
                with Image.open(stream, formats=["JPEG"]) as picture:
                    made += TAKEN * picture.width * picture.height
                    check_claim("its pictures", made, path.stat().st_size)
                    check_scans(picture, stream)
                    found[parts[0]].append((np.asarray(picture.convert("RGB")), parts[1]))
        classes = sorted({name for _, name in found["train"]})
        train, test = (
            LabelledImages(
                torch.from_numpy(np.stack([picture for picture, _ in samples])).movedim(-1, 1).contiguous(),
                torch.tensor([classes.index(name) for _, name in samples]),
                classes,
            )
            for samples in found.values()
        )
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise ValueError(
            f"data: {JPEG} cannot be read from {path} ({error}); it is an archive {ARCHIVE} of train/<class>/*.jpg and "
            "test/<class>/*.jpg; give the folder where it lies: data.folder"
        ) from error
    return train, test


def _unpacked(path: Path) -> io.BytesIO:
    """What is in a file of gzip, as far as it may ask for; in memory, for headers in it may state any size."""
    unpacked, length = io.BytesIO(), path.stat().st_size
    with gzip.open(path) as packed:
        while piece := packed.read(2**20):
            check_claim("its content", 2 * (unpacked.tell() + len(piece)), length)
            unpacked.write(piece)
    unpacked.seek(0)
    return unpacked


def _scaled(image: Tensor, size: int | None) -> Tensor:
    if size is None:
        return image
    return functional.interpolate(image.unsqueeze(0), (size, size), mode="bilinear", antialias=True)[0]


def _stacked(pictures: Iterable[tuple[Tensor, str]]) -> Tensor:
    """Images in [0, 1], each (channel, height, width), with where they come from, as one tensor of uint8."""
    stack: list[Tensor] = []
    for image, place in pictures:
        if stack and image.shape != stack[0].shape:
            raise ValueError(
                f"data: images must be of one size, got {tuple(stack[0].shape)} and {tuple(image.shape)} ({place}); "
                "data.size scales the pictures of a folder"
            )
        stack.append((image.clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.stack(stack)


def _colored(data: LabelledImages, color: bool | None) -> LabelledImages:
    channels = data.images.shape[1]
    if color is None or color == (channels == 3):
        return data
    if color:
        return LabelledImages(data.images.expand(-1, 3, -1, -1).contiguous(), data.labels, data.classes)
    red, green, blue = data.images.int().unbind(1)
    luma = ((299 * red + 587 * green + 114 * blue + 500) // 1000).to(torch.uint8)
    return LabelledImages(luma.unsqueeze(1), data.labels, data.classes)
