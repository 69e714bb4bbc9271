"""Labelled images: what is drawn, from where they are read, and what is refused."""

import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import picture, write_picture
from unrolled.data import LabelledBatches, LabelledData, LabelledImages, LabelledSplits, drawn_digits
from unrolled.data.labelled_sources import _read_torchvision


def ramp(count=7, channels=1, height=4, width=5) -> LabelledImages:
    """Images that all differ, at every pixel."""
    images = torch.arange(count * channels * height * width).reshape(count, channels, height, width)
    return LabelledImages((images % 251 + 1).to(torch.uint8), torch.arange(count) % 3, ("a", "b", "c"))


def write_idx(path, array):
    """The format of MNIST: two zeros, the type, the number of axes, their lengths, the numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(folder, train=30, test=10):
    random = np.random.default_rng(0)
    for name, count in (("train", train), ("t10k", test)):
        images, labels = random.integers(256, size=(count, 28, 28)), np.arange(count) % 10
        write_idx(folder / f"MNIST/raw/{name}-images-idx3-ubyte", images)
        write_idx(folder / f"MNIST/raw/{name}-labels-idx1-ubyte", labels)
    return folder


def test_every_image_comes_once_in_an_epoch_with_its_label():
    data = ramp()
    batches = LabelledBatches(data, seed=3)
    drawn = [batches.batch(step, 2) for step in range(7)]
    images, labels = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    for epoch in (slice(7), slice(7, 14)):
        found = (images[epoch] * 255).round().to(torch.uint8)
        order = [int((data.images == image).flatten(1).all(1).nonzero()) for image in found]
        assert sorted(order) == list(range(7))
        assert torch.equal(labels[epoch], data.labels[order])
    assert not torch.equal(images[:7], images[7:])


@pytest.mark.parametrize("varied", [{}, {"shift": 2, "flip": True}])
def test_a_batch_depends_on_seed_and_step_alone_and_parts_make_the_whole(varied):
    batches = LabelledBatches(ramp(), 1, **varied)
    images, labels = batches.batch(5, 6)
    other = LabelledBatches(ramp(), 1, **varied)
    other.batch(2, 6)
    parts = [other.batch(5, 6, range(start, start + 3)) for start in (0, 3)]
    assert torch.equal(torch.cat([part[0] for part in parts]), images)
    assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    assert not torch.equal(LabelledBatches(ramp(), 2, **varied).batch(5, 6)[0], images)
    with pytest.raises(ValueError, match="part must be places of a batch of 6"):
        batches.batch(5, 6, range(4, 8))


def moved(image, down, right, mirrored):
    """The truth, one pixel after the other."""
    result = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                target = width - 1 - column if mirrored else column
                result[:, row, target] = image[:, row - down, column - right]
    return result


def test_images_are_moved_by_whole_pixels_and_mirrored():
    data = ramp(count=3, channels=2)
    images, labels = LabelledBatches(data, 0, shift=1, flip=True).batch(0, 120)
    found = set()
    for image, label in zip((images * 255).round().to(torch.uint8), labels, strict=True):
        ways = {
            (down, right, mirrored)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            for mirrored in (False, True)
            if torch.equal(moved(data.images[label], down, right, mirrored), image)
        }
        assert len(ways) == 1
        found |= ways
    assert len(found) == 18


def test_moments_are_those_of_all_numbers():
    data = drawn_digits("test", 40)
    values = data.images.double() / 255
    mean, std = data.moments()
    assert mean[0] == pytest.approx(float(values.mean()))
    assert std[0] == pytest.approx(float(values.std(correction=0)))
    constant = LabelledImages(torch.full((2, 1, 3, 3), 7, dtype=torch.uint8), torch.tensor([0, 1]), "ab")
    assert constant.moments()[1] == (1.0,)


def test_drawn_digits_are_always_the_same_and_can_be_told_apart():
    train, test = drawn_digits("train", 600), drawn_digits("test", 200)
    assert train.hash() == drawn_digits("train", 600).hash()
    assert torch.bincount(train.labels).tolist() == [60] * 10
    # Least squares on the pixels is far better than chance, and far from perfect.
    x, y = (data.images.flatten(1).double() / 255 for data in (train, test))
    solution = torch.linalg.solve(x.T @ x + 10 * torch.eye(784), x.T @ torch.eye(10, dtype=x.dtype)[train.labels])
    right = ((y @ solution).argmax(1) == test.labels).double().mean()
    assert 0.5 < right < 0.97


def test_held_out_images_are_drawn_by_the_seed_and_not_trained_on():
    splits = [LabelledData(hold_out=0.25).load(seed) for seed in (0, 0, 1)]
    assert splits[0].train.hash() == splits[1].train.hash() != splits[2].train.hash()
    assert (len(splits[0].train), len(splits[0].validation), len(splits[0].test)) == (1500, 500, 1000)
    rows = torch.cat([splits[0].train.images, splits[0].validation.images]).flatten(1)
    assert len(rows.unique(dim=0)) == 2000


def test_mnist_is_read_from_a_folder_and_from_where_known_sets_lie(tmp_path, monkeypatch):
    write_mnist(tmp_path / "mnist")
    splits = LabelledData("MNIST", str(tmp_path / "mnist"), hold_out=0.1).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (27, 3, 10)
    pixels = np.random.default_rng(0).integers(256, size=(30, 28, 28))
    both = torch.cat([splits.train.images, splits.validation.images])
    assert sorted(both.sum((1, 2, 3)).tolist()) == sorted(pixels.sum((1, 2)).tolist())
    monkeypatch.setenv("UNROLLED_DATA", str(tmp_path))
    assert (
        LabelledData("mnist").load().train.hash() == LabelledData("MNIST", str(tmp_path / "mnist")).load().train.hash()
    )
    in_color = LabelledData("MNIST", color=True).load()
    assert in_color.train.images.shape[1] == 3


def test_other_sets_of_torchvision_are_read_by_the_names_of_their_classes(tmp_path):
    for name in ("train", "t10k"):
        images, labels = np.random.default_rng(0).integers(256, size=(20, 28, 28)), np.arange(20) % 10
        write_idx(tmp_path / f"FashionMNIST/raw/{name}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"FashionMNIST/raw/{name}-labels-idx1-ubyte", labels)
    splits = LabelledData("FashionMNIST", str(tmp_path)).load()
    assert splits.name == "FashionMNIST"
    assert splits.train.classes[9] == "Ankle boot"


def write_pictures(folder, splits=("train", "test"), size=(12, 12)):
    for split in splits:
        for label, name in enumerate(("cat", "dog")):
            for index in range(4):
                write_picture(folder / split / name / f"{index}.png", *size, seed=10 * label + index, mode="RGB")
    return folder


def test_a_folder_of_a_folder_a_class_is_a_data_set(tmp_path):
    splits = LabelledData(str(write_pictures(tmp_path / "pets")), hold_out=0.25).load()
    assert splits.name == "pets"
    assert splits.train.classes == ("cat", "dog")
    assert splits.train.images.shape == (6, 3, 12, 12)
    assert splits.test.labels.tolist() == [0] * 4 + [1] * 4
    grey = LabelledData(str(tmp_path / "pets"), color=False, size=8).load()
    assert grey.train.images.shape[1:] == (1, 8, 8)
    write_pictures(tmp_path / "other", ["train"])
    assert LabelledData(str(tmp_path / "other")).load().test is None


def test_the_jpeg_copy_of_cifar_is_read_from_its_archive(tmp_path):
    colors = {"airplane": (200, 10, 10), "bird": (10, 200, 10)}
    with tarfile.open(tmp_path / "cifar10_jpeg.tar.gz", "w:gz") as archive:
        for split, count in (("train", 4), ("test", 2)):
            for name, color in colors.items():
                for index in range(count):
                    content = io.BytesIO()
                    Image.new("RGB", (32, 32), color).save(content, "JPEG")
                    member = tarfile.TarInfo(f"{split}/{name}/{index:04}.jpg")
                    member.size = content.tell()
                    content.seek(0)
                    archive.addfile(member, content)
        archive.addfile(tarfile.TarInfo("train/README"))  # no picture
    splits = LabelledData("CIFAR-10-JPEG", str(tmp_path), hold_out=0.25).load()
    assert splits.train.images.shape == (6, 3, 32, 32)
    for image, label in zip(splits.test.images, splits.test.labels, strict=True):
        assert (image.float().mean((1, 2)) - torch.tensor(list(colors.values())[label])).abs().max() < 3
    grey = LabelledData("CIFAR-10-JPEG", str(tmp_path), color=False).load().test
    assert abs(float(grey.images[0].float().mean()) - (0.299 * 200 + 0.701 * 10)) < 2
    # It is never taken for the original.
    with pytest.raises(ValueError, match=r"there is the JPEG copy of it, .*: data.source CIFAR-10-JPEG"):
        LabelledData("CIFAR-10", str(tmp_path)).load()


def test_the_original_cifar_is_read_too(tmp_path, monkeypatch):
    from unrolled.system.vision import import_torchvision

    cifar = import_torchvision("torchvision.datasets").CIFAR10
    monkeypatch.setattr(cifar, "_check_integrity", lambda self: True)
    monkeypatch.setattr(cifar, "_load_meta", lambda self: setattr(self, "classes", [str(n) for n in range(10)]))
    pixels = np.random.default_rng(0).integers(256, size=(10, 3, 32, 32)).astype(np.uint8)
    for name in [*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"]:
        path = tmp_path / "cifar-10-batches-py" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps({"data": pixels.reshape(10, -1), "labels": list(range(10))}))
    test = LabelledData("CIFAR-10", str(tmp_path)).load().test
    assert torch.equal(test.images, torch.from_numpy(pixels))
    assert test.labels.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "MNISTT"}, r"source must be one of drawn-digits, .*, got 'MNISTT'; near matches: MNIST"),
        ({"source": "MNIST"}, r"MNIST cannot be read from .*`unrolled data get MNIST` brings it.*data\.folder"),
        ({"source": "KMNIST"}, r"KMNIST cannot be read from .*KMNIST\(.*download=True\) may bring it"),
        ({"source": "T91"}, "T91 has no labels; it is for reconstruction"),
        ({"source": "CocoDetection"}, "does not tell training from test images"),
        ({"source": "nowhere/at/all"}, "there is no folder nowhere/at/all"),
        ({"source": "CIFAR-10-JPEG"}, r"cannot be read from .* it is an archive cifar10_jpeg.tar.gz"),
        ({"source": "MNIST", "size": 9}, "size is for folders of pictures; those of MNIST keep theirs, got 9"),
        ({"hold_out": 0.0}, r"hold_out must be in \(0, 1\), .* got 0.0"),
        ({"hold_out": 1e-5}, "hold_out must leave an image on each side, got 1e-05 of 2000 images"),
        ({"shift": -1}, "shift must be >= 0, got -1"),
        ({"size": 0}, "size must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_is_said_by_name(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        LabelledData(**settings).load()


def test_folders_that_are_no_data_sets_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"must hold a folder of pictures for each class, train/<class>/, two at least"
    ):
        LabelledData(str(tmp_path / "empty")).load()
    mixed = write_pictures(tmp_path / "mixed")
    write_picture(mixed / "train" / "dog" / "x.png", 12, 13, mode="RGB")
    with pytest.raises(
        ValueError, match=r"one size, got \(3, 12, 12\) and \(3, 12, 13\) \(.*x.png\); data.size scales"
    ):
        LabelledData(str(mixed)).load()
    more = write_pictures(tmp_path / "more")
    write_picture(more / "test" / "eel" / "x.png", 12, 12)
    with pytest.raises(ValueError, match="has classes that train has not: eel"):
        LabelledData(str(more)).load()
    write_picture(more / "train" / "eel" / "broken.png", 12, 12).write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"broken.png is"):
        LabelledData(str(more)).load()


def test_damaged_files_of_mnist_are_refused(tmp_path):
    path = write_mnist(tmp_path) / "MNIST/raw/train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="MNIST cannot be read from"):
        LabelledData("MNIST", str(tmp_path)).load()
    write_idx(path, np.arange(30) % 10 + 1)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 10\), the number of classes, got 10 at image 9"):
        LabelledData("MNIST", str(tmp_path)).load()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.zeros(2, 1, 3, 3),
            torch.tensor([0, 1]),
            r"images must be .*uint8, .* got \(2, 1, 3, 3\) of torch.float32",
        ),
        (torch.zeros(0, 1, 3, 3, dtype=torch.uint8), torch.tensor([]), "at least one"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([0]), r"a whole number for each of the 2 images"),
        (
            torch.zeros(2, 1, 3, 3, dtype=torch.uint8),
            torch.tensor([0, -1]),
            r"labels must be in \[0, 2\).* got -1 at im",
        ),
    ],
)
def test_images_and_labels_must_fit(images, labels, message):
    with pytest.raises(ValueError, match=message):
        LabelledImages(images, labels, ("a", "b"))


def test_splits_must_fit_each_other():
    with pytest.raises(ValueError, match=r"x: test must have the classes and the size of the training images"):
        LabelledSplits("x", ramp(), ramp(), ramp(width=6))


class Pairs:
    """A set of torchvision that has no arrays at hand, only pairs of a picture and its label."""

    def __init__(self, folder, split):
        self.first = {"train": 0, "test": 100}[split]

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Image.new("RGB", (5, 4), (self.first + index, 0, 0)), index % 2


class ChannelsLast:
    """One that has an array at hand, with the channels at its end."""

    def __init__(self, folder, train):
        self.data = np.stack([np.full((4, 5, 3), (index + 100 * (not train), 0, 0), np.uint8) for index in range(3)])
        self.targets = [0, 1, 0]


@pytest.mark.parametrize("make", [Pairs, ChannelsLast])
def test_sets_of_torchvision_are_read_however_they_keep_their_images(make, tmp_path):
    for split, first in (("train", 0), ("test", 100)):
        found = _read_torchvision(make, tmp_path, split, None)
        assert found.images.shape == (3, 3, 4, 5)
        assert found.images[:, 0, 0, 0].tolist() == [first, first + 1, first + 2]
        assert not found.images[:, 1:].any()
        assert found.labels.tolist() == [0, 1, 0]
        assert found.classes == ("0", "1")


def test_pictures_in_other_units_are_not_taken_for_black_ones(tmp_path):
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(2):
                levels = (4095 * picture(12, 12, 10 * label + index)[0]).round().numpy().astype(np.uint16)
                Image.fromarray(levels).save(tmp_path / split / name / f"{index}.png")
    with pytest.raises(ValueError, match=r"data: .*train: nothing in it is brighter than .* give scale"):
        LabelledData(str(tmp_path), hold_out=0.5).load()
    train = LabelledData(str(tmp_path), hold_out=0.5, scale=4095).load().train
    assert train.images.max() > 200
    with pytest.raises(ValueError, match="data: scale is for folders"):
        LabelledData("drawn-digits-of-others", scale=3).load()
    with pytest.raises(ValueError, match="data: scale must be"):
        LabelledData(str(tmp_path), scale="white")


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
def test_labels_without_a_sign(kind):
    labels = LabelledImages(np.zeros((2, 1, 3, 3), np.uint8), np.array([0, 1], kind), ["a", "b"]).labels
    assert labels.tolist() == [0, 1]
