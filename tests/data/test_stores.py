import os

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from tests.helpers import picture, write_picture
from unrolled.data import ImageStore, RandomCrops, read_image
from unrolled.data.cropping import shrunk
from unrolled.data.stores import FileImage, MemoryImage, as_stored, to_float

KIB_40 = 200  # a side whose bytes are about 40 KiB


@pytest.fixture
def folder(tmp_path):
    for index in range(40):
        write_picture(tmp_path / f"{index:02}.png", KIB_40, KIB_40, seed=index)
    return tmp_path


def files(folder):
    return [FileImage(path) for path in sorted(folder.glob("*"))]


def in_memory(store):
    return [image for image in store.images if isinstance(image, MemoryImage)]


@pytest.mark.parametrize("mib", [0, 1, 64])
def test_the_cache_keeps_to_its_budget_and_changes_no_pixel(folder, mib):
    store = ImageStore(files(folder), cache_mib=mib)
    held = sum(image.pixels.nbytes for image in in_memory(store))
    assert held <= mib * 2**20
    assert len(in_memory(store)) == {0: 0, 1: 2**20 // KIB_40**2, 64: 40}[mib]
    assert store.streams == (mib < 64)
    for path, image in zip(sorted(folder.glob("*")), store, strict=True):
        assert torch.equal(image, read_image(path))
    assert torch.equal(RandomCrops(store, 33).batch(2, 8), RandomCrops([*store], 33).batch(2, 8))


def test_what_eight_bits_cannot_hold_is_kept_as_float_and_counted_so(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (600, 600)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep)  # 350 KiB in bytes, 1.4 MiB in floats
    tifffile.imwrite(tmp_path / "float.tif", deep[:400, :400].astype(np.float32) / 65535)
    store = ImageStore(files(tmp_path), cache_mib=1)
    np.testing.assert_allclose(store[0][0].numpy(), deep / 65535, atol=1e-7)
    np.testing.assert_array_equal(store[1][0].numpy(), deep[:400, :400].astype(np.float32) / 65535)
    assert [isinstance(image, MemoryImage) for image in store.images] == [False, True]


def test_bytes_are_kept_only_where_they_are_exact():
    levels = torch.arange(256, dtype=torch.float32).view(1, 16, 16) / 255
    assert as_stored(levels).dtype == torch.uint8
    assert torch.equal(to_float(as_stored(levels)), levels)
    for other in (levels + 1e-6, levels * 2, -levels, torch.full((1, 2, 2), 0.5)):
        assert torch.equal(as_stored(other), other)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_sizes_are_those_of_the_decoded_image(tmp_path, suffix, orientation):
    picture = Image.fromarray(np.zeros((30, 40), np.uint8))
    exif = picture.getexif()
    if orientation is not None:
        exif[0x0112] = orientation
    picture.save(tmp_path / f"a.{suffix}", exif=exif)
    (image,) = files(tmp_path)
    assert image.shape == image.read().shape
    assert sorted(image.shape) == [1, 30, 40]


def test_sizes_come_from_headers(tmp_path, monkeypatch):
    write_picture(tmp_path / "a.png", 30, 40)
    monkeypatch.setattr("unrolled.data.stores.read_image", None)
    assert files(tmp_path)[0].shape == (1, 30, 40)


def test_headers_are_read_of_regular_files_of_known_formats_alone(tmp_path):
    Image.new("L", (40, 30)).save(tmp_path / "script.png", format="EPS")
    os.mkfifo(tmp_path / "pipe.png")  # it would wait forever
    for name, message in {"script": "not an image of a known format", "pipe": "is not a regular file"}.items():
        with pytest.raises(ValueError, match=rf"{name}\.png.* {message}"):
            _ = FileImage(tmp_path / f"{name}.png").shape


def test_broken_files_are_named_when_they_are_opened_not_when_they_are_drawn(folder):
    (folder / "07.png").write_bytes((folder / "07.png").read_bytes()[:200])
    (folder / "zz.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"07\.png is broken"):
        ImageStore(files(folder))
    (folder / "07.png").unlink()
    with pytest.raises(ValueError, match=r"zz\.png is not an image"):
        ImageStore(files(folder), cache_mib=0)


def test_a_file_that_changes_its_size_is_refused(folder):
    store = ImageStore(files(folder), cache_mib=0)
    write_picture(folder / "00.png", 50, 60)
    with pytest.raises(ValueError, match=r"00\.png was of \(1, 200, 200\)"):
        store[0]


def test_a_negative_budget_is_refused():
    with pytest.raises(ValueError, match="cache_mib must be >= 0, got -1"):
        ImageStore([picture(20, 20)], cache_mib=-1)


def test_a_spread_of_images_reaches_over_the_store():
    store = ImageStore([torch.full((1, 10, 10), index / 255) for index in range(100)])
    assert len(store.spread()) == 100
    shown = [round(float(image[0, 0, 0] * 255)) for image in store.spread(pixels=1000)]
    assert len(shown) == 10
    assert shown == list(range(0, 100, 10))


def test_complex_images_keep_their_phase():
    image = torch.polar(picture(20, 24), 3 * picture(20, 24, 1))
    store = ImageStore([image, image.to(torch.complex128).numpy()])
    for kept in store:
        assert kept.dtype == torch.complex64
        torch.testing.assert_close(kept, image)
    crop = RandomCrops(store, 10, smallest=0.5).batch(0, 3)
    assert crop.dtype == torch.complex64
    assert crop.imag.abs().max() > 0.1
    with pytest.raises(ValueError, match="must all be real, or all complex"):
        ImageStore([image, picture(20, 24)])


def test_shrinking_a_complex_image_shrinks_both_parts():
    real, imaginary = picture(20, 24, 0) - 0.5, picture(20, 24, 1) - 0.5
    small = shrunk(torch.complex(real, imaginary), [10, 12])
    for part, whole in ((small.real, real), (small.imag, imaginary)):
        resized = torch.nn.functional.interpolate(whole[None], (10, 12), mode="bicubic", antialias=True)[0]
        torch.testing.assert_close(part, resized)


def test_a_set_may_have_dark_images_but_not_be_dark():
    dark = [3e-4 * picture(20, 24, seed) for seed in range(3)]
    with pytest.raises(ValueError, match=r"images: nothing in it is brighter than .*give scale"):
        ImageStore(dark)
    ImageStore([*dark, picture(20, 24)])
    ImageStore([torch.zeros(1, 20, 24)])
    store = ImageStore(dark, scale="max")
    for image, original in zip(store, dark, strict=True):
        torch.testing.assert_close(image, original / original.max())


def test_bytes_and_floats_of_one_image_are_one():
    levels = (picture(20, 24) * 255).round()
    kept = ImageStore([levels.to(torch.uint8), levels / 255, levels[0].numpy().astype(np.uint8), levels / 255])
    assert all(torch.equal(image, kept[0]) for image in kept)
    assert all(image.pixels.dtype == torch.uint8 for image in kept.images)
    with pytest.raises(ValueError, match=r"image 1: values must be in \[0, 1\], got .* to 2"):
        ImageStore([levels / 255, levels])


@pytest.mark.parametrize("orientation", [0, 1, 6, 8, 9, 255, 1000])
def test_a_picture_is_turned_alike_when_it_is_measured_and_when_it_is_read(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    expected = (1, 30, 20) if orientation in (6, 8) else (1, 20, 30)
    image = FileImage(tmp_path / "a.jpg")
    assert image.shape == image.read().shape == expected
