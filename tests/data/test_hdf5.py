"""HDF5: any common layout, opened once in every process, and without a leak."""

import gc
import json
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.pairs import FULL
from tests.training.small_runs import processes_context
from unrolled.data import ImageData, ImageStore, RandomCrops, hdf5, open_images
from unrolled.data.hdf5 import hdf5_images
from unrolled.data.images import array_to_image

GREY = np.random.default_rng(0).integers(0, 256, (5, 30, 40)).astype(np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (5, 30, 40, 3)).astype(np.uint8)


def write(path, **data):
    with h5py.File(path, "w") as file:
        for key, value in data.items():
            file[key] = value
    return path


def handles(path):
    """How many descriptors of this process are of a file."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(link) == str(path)
        except FileNotFoundError:  # the listing itself
            continue
    return count


LAYOUTS = {
    "grey": (GREY, GREY / 255),
    "grey with a channel": (GREY[:, None], GREY / 255),
    "grey, channel last": (GREY[..., None], GREY / 255),
    "16 bit": (GREY.astype(np.uint16) * 257, GREY / 255),
    "float32": ((GREY / 255).astype(np.float32), GREY / 255),
    "float64": (GREY / 255, GREY / 255),
    "big-endian": ((GREY / 255).astype(">f4"), GREY / 255),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_windows_of_every_layout(tmp_path, name):
    stored, truth = LAYOUTS[name]
    images = open_images(write(tmp_path / "a.h5", stack=stored))
    store = ImageStore(images, cache_mib=0)
    assert [image.shape for image in images] == [(1, 30, 40)] * 5
    np.testing.assert_allclose(torch.stack([*store])[:, 0].numpy(), truth, atol=1e-7)
    window = images[3].read(slice(4, 10), slice(33, 40))
    assert torch.equal(window, images[3].read()[:, 4:10, 33:40])


@pytest.mark.parametrize("channels_last", [True, False])
def test_color_and_its_luma_are_those_of_image_files(tmp_path, channels_last):
    path = write(tmp_path / "a.h5", rgb=COLOR if channels_last else np.moveaxis(COLOR, -1, 1))
    for color in (True, False):
        store = ImageStore(open_images(path, color=color))
        for image, pixels in zip(store, COLOR, strict=True):
            assert torch.equal(image, array_to_image(pixels, color))
    grey = ImageStore(hdf5_images([write(tmp_path / "b.h5", grey=GREY)], color=True))
    assert torch.equal(grey[2], array_to_image(GREY[2], color=True))


def test_the_key_chooses_among_several(tmp_path):
    path = write(tmp_path / "a.h5", first=GREY, second=255 - GREY, labels=np.arange(5))
    with pytest.raises(ValueError, match=r"a\.h5: give the key .* it holds first \(5, 30, 40\) uint8, labels"):
        open_images(path)
    assert torch.equal(open_images(path, key="/second")[1].read()[0], torch.from_numpy(255 - GREY[1]))
    training, validation = ImageData([str(path)], crop=20, hold_out=2, key="first").load(10)
    assert (len(training), len(validation)) == (3, 2)


def test_a_folder_of_files_is_one_set(tmp_path):
    write(tmp_path / "a.h5", images=GREY)
    write(tmp_path / "b.hdf5", images=GREY[:2])
    (tmp_path / ".half-written.h5").write_bytes(b"")
    assert len(open_images(tmp_path)) == 7
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.raises(ValueError, match="image files and HDF5 files"):
        open_images(tmp_path)


def test_what_is_wrong_with_a_file_is_said_when_it_is_opened(tmp_path):
    whole = write(tmp_path / "whole.h5", images=GREY)
    (tmp_path / "short.h5").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "text.h5").write_text("hello")
    write(tmp_path / "flat.h5", images=GREY.ravel())
    write(tmp_path / "deep.h5", images=GREY[:, None, None])
    write(tmp_path / "seven.h5", images=np.zeros((5, 7, 30, 40), np.uint8))
    write(tmp_path / "none.h5", images=GREY[:0])
    write(tmp_path / "complex.h5", images=GREY.astype(np.complex64))
    write(tmp_path / "empty.h5")
    for name, message in {
        "missing": "there is no file",
        "short": "cut short",
        "text": "not an HDF5 file",
        "flat": "must be .* is \\(6000,\\)",
        "deep": "must be .* is \\(5, 1, 1, 30, 40\\)",
        "seven": "must be .* is \\(5, 7, 30, 40\\)",
        "none": "none of them 0",
        "complex": r"must be in \[0, 1\]",
        "empty": "no data set 'images'; it holds nothing",
    }.items():
        with pytest.raises(ValueError, match=rf"{name}\.h5.*{message}|{message}.*{name}\.h5"):
            hdf5_images([tmp_path / f"{name}.h5"], key="images")[0].read()
    with pytest.raises(ValueError, match=r"whole\.h5 has no data set 'x'; it holds images \(5, 30, 40\) uint8"):
        open_images(whole, key="x")


def test_what_was_never_written_or_lies_elsewhere_is_refused(tmp_path):
    whole = write(tmp_path / "whole.h5", images=GREY)
    layout = h5py.VirtualLayout((5, 30, 40), np.uint8)
    layout[:] = h5py.VirtualSource(whole, "images", (5, 30, 40))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("images", layout)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("images", (5, 30, 40), np.uint8, external=[(str(whole), 0, 6000)])
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("images", (10**9, 30, 40), np.uint8, chunks=(1, 30, 40))
    for name, message in {
        "virtual": "lies in other files",
        "external": "lies in other files",
        "huge": "claims 1,200,000,000,000 bytes of pixels, but 0 were written",
    }.items():
        with pytest.raises(ValueError, match=rf"{name}\.h5: 'images' {message}"):
            open_images(tmp_path / f"{name}.h5")


def test_compressed_files_are_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=GREY, compression="gzip", chunks=(2, 30, 40))
        file.create_dataset("blank", data=np.zeros((9, 300, 400), np.uint8), compression="gzip", compression_opts=9)
    np.testing.assert_array_equal(open_images(tmp_path / "a.h5", key="images")[4].read()[0].numpy(), GREY[4])
    assert not open_images(tmp_path / "a.h5", key="blank")[8].read().any()


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (7.0, r"must be in \[0, 1\]")])
def test_bad_values_are_refused_with_file_key_and_image(tmp_path, value, message):
    bad = (GREY / 255).astype(np.float32)
    bad[3, 9, 9] = value
    path = write(tmp_path / "bad.h5", images=bad)
    with pytest.raises(ValueError, match=rf"bad\.h5: image 3 of 'images': .*{message}"):
        ImageStore(open_images(path))


def test_a_file_that_vanishes_is_named(tmp_path):
    images = open_images(write(tmp_path / "a.h5", images=GREY))
    (tmp_path / "a.h5").unlink()
    with pytest.raises(ValueError, match=r"no file .*a\.h5"):
        images[0].read()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # newer Pythons warn that torch has threads
def test_every_worker_of_a_loader_opens_the_file_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5", images=np.repeat(GREY, 20, axis=0))
    log = tmp_path / "log"
    open_file = hdf5.open_file

    def noted(path):
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        return open_file(path)

    store = ImageStore(open_images(path), cache_mib=0)
    monkeypatch.setattr(hdf5, "open_file", noted)
    assert torch.equal(store[7], torch.from_numpy(GREY[0] / 255).float()[None])  # open here, before the workers start
    loader = DataLoader(store, batch_size=10, num_workers=2, multiprocessing_context="fork")
    drawn = torch.cat([*loader])
    np.testing.assert_array_equal(drawn[:, 0].numpy(), np.repeat(GREY, 20, axis=0).astype(np.float32) / 255)
    processes = log.read_text().split()
    assert len(processes) == len(set(processes)) == 3
    assert processes[0] == str(os.getpid())
    assert torch.equal(store[99], drawn[99])  # the parent's handle has survived its children


def test_files_are_opened_once_closed_again_and_never_pickled(tmp_path):
    path = write(tmp_path / "a.h5", images=GREY)
    store = ImageStore(open_images(path), cache_mib=0)
    assert handles(path) == 0
    for _ in range(3):
        before = [*store]
    assert handles(path) == 1
    copy = pickle.loads(pickle.dumps(store))
    assert handles(path) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, copy, strict=True))
    del store, copy
    gc.collect()
    assert handles(path) == 0


def test_no_more_files_are_open_than_the_limit(tmp_path):
    paths = [write(tmp_path / f"{index}.h5", images=GREY + index) for index in range(6)]
    images = hdf5_images(paths)
    images[0].files.limit = 2
    for turn in range(2):
        for index, image in enumerate(images):
            assert torch.equal(image.read()[0], torch.from_numpy(GREY[index % 5] + index // 5)), turn
            assert sum(map(handles, paths)) <= 2


def resident() -> float:
    """The memory of this process, in MiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def growth_over_crops(path, steps, found):
    """Write by how many MiB the memory grows beyond the cache, without one and with one."""
    RandomCrops(ImageStore(open_images(path)[:1]), crop=64).batch(0, 10)  # imports, buffers
    grown = []
    for cache in (0, 8):
        before = resident()
        crops = RandomCrops(ImageStore(open_images(path), cache_mib=cache), crop=64)
        for step in range(steps):
            crops.batch(step, 20)
        grown.append(resident() - before - cache)
    found.write_text(json.dumps(grown))


def test_memory_stays_flat_over_thousands_of_crops(tmp_path):
    path = write(tmp_path / "large.h5", images=np.random.default_rng(0).integers(0, 256, (96, 512, 512), np.uint8))
    process = processes_context().Process(  # one that has nothing but what it has imported
        target=growth_over_crops, args=(path, 2000 if FULL else 30, tmp_path / "grown.json")
    )
    process.start()
    process.join(600)
    assert process.exitcode == 0
    grown = json.loads((tmp_path / "grown.json").read_text())
    assert len(grown) == 2
    assert all(mebibytes < 6 for mebibytes in grown), grown


def test_crops_of_a_file_are_those_of_the_same_images_in_memory(tmp_path):
    store = ImageStore(open_images(write(tmp_path / "a.h5", images=GREY)), cache_mib=0)
    tensors = [torch.from_numpy(image).float()[None] / 255 for image in GREY]
    assert torch.equal(RandomCrops(store, 16, 4).batch(9, 20), RandomCrops(tensors, 16, 4).batch(9, 20))


def test_a_damaged_part_of_a_file_is_named_when_it_is_read(tmp_path):
    path = tmp_path / "a.h5"
    pixels = np.random.default_rng(0).integers(256, size=(2, 40, 40), dtype=np.uint8)
    with h5py.File(path, "w") as file:
        chunk = file.create_dataset("images", data=pixels, chunks=(1, 40, 40), compression="gzip").id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + 40] = bytes(40)
    path.write_bytes(content)
    first, second = hdf5_images([path])
    np.testing.assert_array_equal(first.read()[0].numpy(), pixels[0])
    with pytest.raises(ValueError, match=r"a\.h5: 'images' cannot be read at 1"):
        second.read()


def test_other_types_of_numbers_are_read_with_a_scale(tmp_path):
    hounsfield = (GREY.astype(np.int16) - 100) * 8
    path = write(tmp_path / "ct.h5", hu=hounsfield)
    with pytest.raises(ValueError, match=r"'hu' must be .* is int16, whose white is not known; give scale"):
        open_images(path)
    above = hounsfield + 1024
    for numbers, scale, expected in [
        (hounsfield, (-1024, 1240), above / 2264),
        (above, "max", above / above.max((1, 2), keepdims=True)),
    ]:
        path = write(tmp_path / f"{scale}.h5", hu=numbers)
        images = open_images(path, scale=scale)
        np.testing.assert_allclose(torch.stack([image.read()[0] for image in images]), expected, atol=1e-6)
        # A window has the scale of its image, read before or after it.
        windows = [image.read(slice(3, 9), slice(0, 5))[0] for image in open_images(path, scale=scale)]
        np.testing.assert_allclose(torch.stack(windows), expected[:, 3:9, :5], atol=1e-6)


def test_complex_numbers_keep_their_phase(tmp_path):
    wave = (GREY / 255 * np.exp(1j * GREY / 50)).astype(np.complex64)
    pairs = np.rec.fromarrays([wave.real, wave.imag], names="real, imag")
    for name, numbers in {"complex": wave, "pairs": pairs, "double": wave.astype(np.complex128)}.items():
        (image, *_) = images = open_images(write(tmp_path / f"{name}.h5", images=numbers))
        assert image.is_complex
        np.testing.assert_allclose(torch.stack([each.read()[0] for each in images]), wave, atol=1e-6)
    large = open_images(write(tmp_path / "large.h5", images=190 * wave), scale=190)
    np.testing.assert_allclose(large[2].read()[0], wave[2], atol=1e-6)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got .*; give scale"):
        open_images(tmp_path / "large.h5")[2].read()


def test_the_units_of_scanners_are_not_taken_for_black_images(tmp_path):
    path = write(tmp_path / "volume.h5", reconstruction_rss=(3e-4 * GREY / 255).astype(np.float32))
    with pytest.raises(ValueError, match=r"images: nothing in it is brighter than 0\.0003 of white.*give scale"):
        ImageData([str(path)], crop=20, hold_out=2).load(10)
    training, validation = ImageData([str(path)], crop=20, hold_out=2, scale="max").load(10)
    assert max(float(image.max()) for image in (*training, *validation)) == pytest.approx(1)


@pytest.mark.parametrize(("kind", "white"), [(">u2", 65535), (bool, 1)])
def test_types_that_state_white_in_any_order_of_bytes(tmp_path, kind, white):
    numbers = np.arange(24).reshape(1, 4, 6) % 2 * white
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = numbers.astype(kind)
    np.testing.assert_array_equal(ImageStore(open_images(tmp_path / "a.h5"))[0], numbers / white)
