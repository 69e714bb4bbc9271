"""Training data in shards: files, indices, caches, and what is drawn of them."""

import io
import json
import tarfile
import warnings

import numpy as np
import pytest
import torch

from tests.helpers import write_picture
from tests.http_server import serving
from unrolled.cli import main
from unrolled.data import ImageData, prepare_images, read_image, shard_batches, shard_files
from unrolled.data.augmentation import Augmentation
from unrolled.data.cropping import Cropping
from unrolled.data.shard_batches import ShardBatches, sharded_data
from unrolled.data.shard_files import ShardCache
from unrolled.data.shard_index import Shard, images_of, read_index, write_index
from unrolled.data.stores import to_float
from unrolled.data.tar_images import images_in_tar

SIDE = 12
STILL = Cropping((SIDE, SIDE), augmentation=Augmentation(orientations=False))
"""The whole of every image of the tests, as it is."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images as three shards."""
    home = tmp_path_factory.mktemp("shards")
    for number in range(10):
        write_picture(home / "images" / f"{number}.png", SIDE, SIDE, seed=number)
    prepare_images([home / "images"], home / "set.tar", shards=3, progress=False)
    return home


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(shard_files, "PAUSE", 0.0)


@pytest.fixture
def served(folder):
    with serving({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}) as server:
        yield server


def batches(root, cache=None, **changes):
    shards = read_index(f"{root}/set.json")
    return ShardBatches(shards, ShardCache(str(root), 10, cache), STILL, **changes)


def originals(folder):
    return [read_image(folder / "images" / f"{number}.png") for number in range(10)]


def test_shards_hold_the_files_as_they_are(folder):
    shards = read_index(folder / "set.json")
    assert [shard.images for shard in shards] == [3, 3, 4]
    found = [to_float(image.read()) for shard in shards for image in images_of(folder / shard.name)]
    assert all(torch.equal(image, original) for image, original in zip(found, originals(folder), strict=True))


@pytest.mark.parametrize("size", [1, 3, 10])
def test_an_epoch_has_every_image_once(folder, size):
    own = batches(folder)
    for epoch in range(2):
        steps = range(epoch * (10 // size), (epoch + 1) * (10 // size))
        drawn = torch.cat([own.batch(step, size) for step in steps])
        numbers = [next(n for n, image in enumerate(originals(folder)) if torch.equal(image, each)) for each in drawn]
        assert len(set(numbers)) == len(numbers) == 10 // size * size
    assert numbers != sorted(numbers)


def test_places_read_few_shards_in_few_pieces(monkeypatch):
    monkeypatch.setattr(shard_batches, "WINDOW", 50)
    shards = [Shard(f"{number}.tar", 1, 100, "0" * 64) for number in range(40)]
    own = ShardBatches(shards, ShardCache("nowhere", 1), STILL)
    for place in (0, 7):
        read = [own.locate(step, 8, place)[0] for step in range(500)]
        assert len(set(read)) <= 6  # 500 images of shards of 100, with what is left at both ends
        assert all(len(set(read[start : start + 50])) <= 2 for start in range(0, 500, 50))  # windows
    everywhere = {own.locate(step, 8, place) for step in range(500) for place in range(8)}
    assert len(everywhere) == 4000


def test_parts_and_steps_do_not_depend_on_what_was_drawn_before(folder):
    whole = [batches(folder, seed=3).batch(step, 4) for step in range(5)]
    again = batches(folder, seed=3)
    for step in (4, 0, 2):
        assert torch.equal(again.batch(step, 4, range(2, 4)), whole[step][2:])
        assert torch.equal(again.batch(step, 4, range(2)), whole[step][:2])
    assert not torch.equal(batches(folder, seed=4).batch(0, 4), whole[0])


def test_an_address_gives_what_a_folder_gives(folder, served, tmp_path):
    far = batches(served.url("x").removesuffix("/x"), tmp_path)
    near = batches(folder)
    assert all(torch.equal(far.batch(step, 5), near.batch(step, 5)) for step in range(4))
    asked = [path for path in served.asked if path.endswith(".tar")]
    assert len(asked) == len(set(asked)) == 3
    assert len(list(tmp_path.iterdir())) == 3


def test_copies_stay_within_their_bound_and_are_made_again(folder, served, tmp_path):
    shards = read_index(folder / "set.json")
    cache = ShardCache(served.url("x").removesuffix("/x"), 0, tmp_path)
    for shard in (*shards, shards[0]):
        assert cache.path(shard.name, shard.bytes, shard.sha256).stat().st_size == shard.bytes
        cache.forget(shard.name)
        assert len(list(tmp_path.iterdir())) == 1
    assert len([path for path in served.asked if path.endswith(".tar")]) == 4


def harm(how, folder, harmed):
    """A copy of the shards of which the second is not what it was."""
    for path in folder.glob("set*"):
        (harmed / path.name).write_bytes(path.read_bytes())
    (path,) = harmed.glob("*2-of*.tar")
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    return harmed


@pytest.mark.parametrize(
    ("how", "said"),
    [("missing", "there is no such file"), ("cut", "the index says"), ("altered", "its hash is another")],
)
def test_a_broken_shard_is_named_or_skipped(how, said, folder, tmp_path):
    harmed = harm(how, folder, tmp_path)
    with pytest.raises(ValueError, match=rf"set-000002-of-000003.tar, image \d: .*{said}.*on_error: skip"):
        [batches(harmed).batch(step, 5) for step in range(2)]
    skipping = batches(harmed, on_error="skip")
    with pytest.warns(UserWarning, match="set-000002-of-000003.tar, .*others are taken") as warned:
        drawn = [skipping.batch(step, 5) for step in range(2)]
    assert len(warned) == 1
    others = batches(harmed, on_error="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(torch.equal(others.batch(step, 5), drawn[step]) for step in (1, 0))
    good = [image for number, image in enumerate(originals(folder)) if number not in (3, 4, 5)]
    assert all(any(torch.equal(each, image) for image in good) for batch in drawn for each in batch)


def test_a_server_that_hangs_up_is_asked_again_and_then_named(served, tmp_path):
    shard = read_index(served.url("set.json"))[0]
    cache = ShardCache(served.url("cut"), 10, tmp_path)
    with pytest.raises(ValueError, match=r"000001-of-000003.tar cannot be had, tried 4 times"):
        cache.path(shard.name, shard.bytes, shard.sha256)
    assert len(served.asked) == 5
    assert not list(tmp_path.iterdir())


def test_images_that_are_too_small_are_named_or_framed(folder):
    own = batches(folder)
    own.cropping = Cropping((SIDE + 1, SIDE))
    with pytest.raises(ValueError, match="is smaller than the crop of 13×12"):
        own.batch(0, 2)
    own.cropping = Cropping((SIDE + 1, SIDE), frame=True)
    assert own.batch(0, 2).shape == (2, 1, SIDE + 1, SIDE)


ENTRY = {"name": "a.tar", "bytes": 1, "images": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "../a.tar"}, "name must be a path below"),
        ({"name": "/a.tar"}, "name must be a path below"),
        ({"name": "http://other/a.tar"}, "name must be a path below"),
        ({"name": "x/../../a.tar"}, "name must be a path below"),
        ({"images": -1}, "images must be a whole number > 0"),
        ({"bytes": 1.5}, "bytes must be a whole number > 0"),
        ({"sha256": "x"}, "sha256 must be 64"),
        ({"more": 1}, "more"),
    ],
)
def test_an_index_that_cannot_be_is_refused(change, said, tmp_path):
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"format": "unrolled shards", "version": 1, "shards": [ENTRY | change]}))
    with pytest.raises(ValueError, match=f"set.json: shard 0: .*{said}"):
        read_index(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "unrolled shards", "version": 9, "shards": []}', "[" * 100_000]
)
def test_what_is_no_index_is_refused(text, tmp_path):
    path = tmp_path / "set.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"shards: .*set\.json"):
        read_index(path)


def tar_of(path, *members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_only_images_in_a_tar_file_are_read_and_no_links(folder, tmp_path):
    image, link = tarfile.TarInfo("a/b.png"), tarfile.TarInfo("c.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    content = (folder / "images" / "1.png").read_bytes()
    path = tar_of(tmp_path / "x.tar", (image, content), (tarfile.TarInfo("b.json"), b"{}"), (link, b""))
    (found,) = images_in_tar(path)
    assert torch.equal(to_float(found.read()), originals(folder)[1])
    assert not (tmp_path / "a").exists()


def test_tar_files_that_cannot_be_read_are_named(folder, tmp_path):
    content = np.random.default_rng(0).bytes(5000)
    good = tar_of(tmp_path / "good.tar", (tarfile.TarInfo("b.png"), content))
    (tmp_path / "cut.tar").write_bytes(good.read_bytes()[:3000])
    (tmp_path / "noise.tar").write_bytes(content)
    tar_of(tmp_path / "packed.tar", (tarfile.TarInfo("b.png"), content), mode="w:gz")
    tar_of(tmp_path / "text.tar", (tarfile.TarInfo("b.txt"), content))
    said = {"cut": "is cut short", "noise": "", "packed": "", "text": "holds no images", "nowhere": "there is no file"}
    for name, reason in said.items():
        with pytest.raises(ValueError, match=rf"{name}\.tar.*{reason}|{reason}.*{name}\.tar"):
            images_in_tar(tmp_path / f"{name}.tar")
    with pytest.raises(ValueError, match=r"good\.tar, member 0 is not an image"):
        images_in_tar(good)[0].read()


def test_hdf5_shards_are_indexed_too(folder, tmp_path, capsys):
    files, _ = prepare_images([folder / "images"], tmp_path / "set.h5", shards=2, progress=False)
    assert main(["data", "index", *map(str, files), "--out", str(tmp_path / "set.json")]) == 0
    assert [shard.images for shard in read_index(tmp_path / "set.json")] == [5, 5]
    drawn = batches(tmp_path).batch(0, 10)
    assert sorted(float(image.sum()) for image in drawn) == sorted(float(image.sum()) for image in originals(folder))
    capsys.readouterr()
    assert main(["data", "index", *map(str, files), "--out", str(tmp_path / "set.json")]) == 1
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must lie in the folder of the index"):
        write_index(files, tmp_path / "deeper" / "set.json", progress=False)


def test_prepared_shards_replace_only_their_own(folder, tmp_path):
    prepare = {"out": tmp_path / "set.tar", "shards": 2, "progress": False}
    prepare_images([folder / "images"], **prepare)
    with pytest.raises(ValueError, match=r"set\.json exists already"):
        prepare_images([folder / "images"], **prepare)
    prepare_images([folder / "images"], **{**prepare, "shards": 3}, force=True)
    assert len(list(tmp_path.glob("*.tar"))) == 3
    tar_of(tmp_path / "set-1-of-9.tar", (tarfile.TarInfo("mine.png"), b"mine"))
    with pytest.raises(ValueError, match=r"set-1-of-9\.tar was not written by this command"):
        prepare_images([folder / "images"], **prepare, force=True)


def test_broken_images_stop_preparing_and_leave_nothing(folder, tmp_path):
    images = tmp_path / "images"
    for number in range(4):
        write_picture(images / f"{number}.png")
    (images / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 of 4 images cannot be read(.|\n)*3\.png"):
        prepare_images([images], tmp_path / "set.tar", shards=2, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    _, left_out = prepare_images([images], tmp_path / "set.tar", shards=2, skip_broken=True, progress=False)
    assert len(left_out) == 1
    assert [shard.images for shard in read_index(tmp_path / "set.json")] == [2, 1]
    with pytest.raises(ValueError, match="give color and scale where they are read"):
        prepare_images([images], tmp_path / "b.tar", color=True, progress=False)


def test_training_data_name_an_index(folder):
    batches, held_out = sharded_data(ImageData([str(folder / "set.json")], crop=SIDE, hold_out=2))
    assert len(batches) == 6  # of the first two shards
    assert len(held_out) == 2
    assert torch.equal(held_out[0], originals(folder)[6])
    with pytest.raises(ValueError, match="must be the only source"):
        ImageData([str(folder / "set.json"), "embedded"])
    with pytest.raises(ValueError, match="fewer than the batch of 7"):
        batches.batch(0, 7)
