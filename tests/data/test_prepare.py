import h5py
import numpy as np
import pytest
import tifffile
import torch

from tests.helpers import write_picture
from unrolled.data import ImageStore, list_images, open_images, prepare_images, read_image
from unrolled.data.hdf5 import hdf5_images
from unrolled.data.images import read_with_range

SIZES = [(30, 40), (30, 40), (300, 520), (64, 64), (30, 40)]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    for index, size in enumerate(SIZES):
        write_picture(folder / "sub" / f"{index}.png", *size, seed=index, mode="RGB")
    tifffile.imwrite(folder / "deep.tif", (np.arange(1200).reshape(30, 40) * 50).astype(np.uint16))
    return folder


def by_name(store_file):
    """Every image of a prepared file, read without any of the package's code."""
    with h5py.File(store_file) as file:
        return {
            name.decode(): image
            for key in file["images"]
            for name, image in zip(file["names"][key][:], file["images"][key][:], strict=True)
        }


@pytest.mark.parametrize("color", [False, True])
def test_a_prepared_file_holds_the_images_exactly(folder, tmp_path, color):
    (path,), skipped = prepare_images([folder], tmp_path / "set.h5", color=color, licence="© mine", progress=False)
    assert skipped == []
    found = by_name(path)
    assert set(found) == {"photos/deep.tif", *(f"photos/sub/{index}.png" for index in range(5))}
    for name, pixels in found.items():
        truth = read_image(folder.parent / name, color).numpy()
        assert pixels.dtype == (np.float32 if "deep" in name else np.uint8)
        np.testing.assert_array_equal(pixels.astype(np.float32) / (1 if "deep" in name else 255), truth)
    with h5py.File(path) as file:
        assert (file.attrs["format"], file.attrs["format_version"]) == (b"unrolled images", 1)
        assert (file.attrs["licence"].decode(), file.attrs["color"]) == ("© mine", color)
    stored = sum(pixels.nbytes for pixels in found.values())
    assert path.stat().st_size < stored + 60_000


def test_what_was_prepared_is_read_as_the_folder_is(folder, tmp_path):
    (path,), _ = prepare_images([folder], tmp_path / "set.h5", progress=False)
    key = lambda image: (tuple(image.shape), float(image.sum()))  # noqa: E731
    read = sorted(ImageStore(open_images(path)), key=key)
    for image, truth in zip(read, sorted(map(read_image, list_images(folder)), key=key), strict=True):
        assert torch.equal(image, truth)


def test_shards_share_the_images_and_belong_together(folder, tmp_path):
    out = tmp_path / "out" / "set.h5"
    paths, _ = prepare_images([folder], out, shards=3, progress=False)
    assert [path.name for path in paths] == ["set-1-of-3.h5", "set-2-of-3.h5", "set-3-of-3.h5"]
    assert sorted(len(by_name(path)) for path in paths) == [2, 2, 2]
    assert len(open_images(out.parent)) == 6
    paths[1].unlink()
    with pytest.raises(ValueError, match=r"of the 3 shards of .*set only these are there: \[1, 3\]"):
        open_images(out.parent)


def test_nothing_is_replaced_unless_forced(folder, tmp_path):
    paths, _ = prepare_images([folder], tmp_path / "set.h5", shards=2, progress=False)
    before = paths[0].read_bytes()
    for shards in (1, 2, 3):
        with pytest.raises(ValueError, match=r"set-\d-of-2\.h5 exists already; .* --force"):
            prepare_images([folder], tmp_path / "set.h5", shards=shards, progress=False)
    assert paths[0].read_bytes() == before
    prepare_images([folder / "sub"], tmp_path / "set.h5", force=True, progress=False)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["set.h5"]
    assert len(by_name(tmp_path / "set.h5")) == 5


def test_all_broken_images_are_named_and_nothing_is_left(folder, tmp_path):
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    out = tmp_path / "out" / "set.h5"
    with pytest.raises(ValueError, match=r"(?s)2 of 8 images cannot be read.*empty\.png.*text\.jpg"):
        prepare_images([folder], out, progress=False)
    assert list(out.parent.iterdir()) == []
    (path,), skipped = prepare_images([folder], out, skip_broken=True, progress=False)
    assert len(by_name(path)) == 6
    assert ["empty.png" in skipped[0], "text.jpg" in skipped[1]] == [True, True]


def test_interrupted_it_leaves_nothing(folder, tmp_path, monkeypatch):
    def interrupt(path, color, scale):
        if path.name == "3.png":
            raise KeyboardInterrupt
        return read_with_range(path, color)

    monkeypatch.setattr("unrolled.data.prepare.read_with_range", interrupt)
    out = tmp_path / "out" / "set.h5"
    with pytest.raises(KeyboardInterrupt):
        prepare_images([folder], out, shards=2, progress=False)
    assert list(out.parent.iterdir()) == []


def test_what_cannot_be_is_refused(folder, tmp_path):
    for out, options, message in [
        ("set.zip", {}, r"out must end in \.h5, \.hdf5 or \.tar, got .*set\.zip"),
        ("set.h5", {"shards": 0}, "shards must be between 1 and the number of images, 6, got 0"),
        ("set.h5", {"shards": 7}, "got 7"),
        ("photos/deep.tif/set.h5", {}, "cannot write"),
    ]:
        with pytest.raises(ValueError, match=message):
            prepare_images([folder], tmp_path / out, progress=False, **options)
    with pytest.raises(ValueError, match="no folder"):
        prepare_images([tmp_path / "nowhere"], tmp_path / "set.h5")


def test_a_format_of_the_future_is_refused(folder, tmp_path):
    (path,), _ = prepare_images([folder], tmp_path / "set.h5", progress=False)
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(ValueError, match="version 2 of the format, this release reads version 1"):
        hdf5_images([path])


def test_of_a_set_in_other_shards_nothing_is_left(folder, tmp_path):
    prepare_images([folder], tmp_path / "set.h5", shards=3, progress=False)
    (path,), _ = prepare_images([folder], tmp_path / "set.h5", force=True, progress=False)
    assert [each.name for each in tmp_path.glob("*.h5")] == ["set.h5"] == [path.name]


def test_of_what_was_prepared_no_set_is_chosen(folder, tmp_path):
    (path,), _ = prepare_images([folder], tmp_path / "set.h5", progress=False)
    with pytest.raises(ValueError, match="all its images in one set; key must be left out, got 'images'"):
        hdf5_images([path], key="images")


def test_a_single_folder_is_one_folder_and_not_its_letters(tmp_path):
    write_picture(tmp_path / "in" / "a.png")
    paths, _ = prepare_images(str(tmp_path / "in"), tmp_path / "out.h5", progress=False)
    assert len(open_images(paths[0])) == 1
    with pytest.raises(ValueError, match="shards must be a whole number"):
        prepare_images(tmp_path / "in", tmp_path / "other.h5", shards=1.5, progress=False)
    for wrong in (5, None, np.zeros((3, 3))):
        with pytest.raises(ValueError, match="image: must be the name of a file"):
            read_image(wrong)


def test_a_set_that_is_dark_but_for_black_images_is_refused(tmp_path):
    levels = np.arange(1200).reshape(30, 40)
    for name, factor in {"a": 0, "b": 3, "c": 1}.items():  # 12 bits in 16, after a black one
        tifffile.imwrite(tmp_path / f"{name}.tif", (levels * factor).astype(np.uint16))
    out = tmp_path / "set.h5"
    with pytest.raises(ValueError, match=r"prepare: nothing in it is brighter than 0\.0549 of white"):
        prepare_images([tmp_path], out, progress=False)
    assert not out.exists()
    prepare_images([tmp_path / "a.tif"], out, progress=False)
    prepare_images([tmp_path], out, scale=4095, force=True, progress=False)
    write_picture(tmp_path / "d.png")
    prepare_images([tmp_path / "b.tif", tmp_path / "d.png"], out, force=True, progress=False)


def test_force_replaces_only_what_was_prepared(folder, tmp_path):
    own = tmp_path / "set-a-of-b.h5", tmp_path / "set-1-of-9.h5"
    own[0].write_bytes(b"mine")
    prepare_images([folder], tmp_path / "set.h5", force=True, progress=False)
    with h5py.File(own[1], "w") as file:
        file["mine"] = 1
    before = own[1].read_bytes()
    with pytest.raises(ValueError, match=r"set-1-of-9\.h5 is no file of prepared images; move it away"):
        prepare_images([folder], tmp_path / "set.h5", force=True, progress=False)
    assert [path.read_bytes() for path in own] == [b"mine", before]
