"""Known data sets: manifests, checks, and downloads from a server on this machine."""

import gzip
import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from tests.helpers import write_picture
from unrolled.data import ImageData, known, open_images, prepare_images, read_image
from unrolled.data.known import Copy, Download, KnownData, SplitFiles, find_known, known_sets, read_manifest

NAMES = {"Set11", "T91", "BSD400", "BSD68", "MNIST", "CIFAR-10", "Brain-MR", "Chest-MR", "fastMRI", "LoDoPaB"}


def made_up(**changes):
    """A set of two training images and a test image."""
    facts = dict.fromkeys(("title", "task", "shape", "source", "licence", "citation", "by_hand"), "said here.")
    splits = {"train": SplitFiles(["t{1..2}.png"], 2), "test": SplitFiles(["x*.png"], 1, count=1)}
    return KnownData(**{"name": "Tiny", **facts, "copies": [Copy("PNG", splits)], **changes})


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_the_manifests_are_whole():
    sets = known_sets()
    assert {each.name for each in sets} == NAMES
    for each in sets:
        for copy in each.copies:
            names = {name for split in copy.splits for name in copy.files(split)}
            assert set(copy.hashes) <= names
            if copy.hashes:
                assert set(copy.hashes) == names, each.name
            for known_hash in copy.hashes.values():
                assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", known_hash)
            for split in copy.splits.values():
                assert split.images > 0
                assert all("*" not in pattern or split.count for pattern in split.files)
        for download in each.downloads:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", download.hash)
    counts = {each.name: sum(split.images for split in each.splits.values()) for each in sets}
    assert counts["Set11"] == len(find_known("set11").copies[0].hashes) == 11
    assert counts["T91"] == len(find_known("t91").copies[0].hashes) == 91
    assert counts["BSD400"] == len(find_known("BSD400").copies[0].hashes) == 400


@pytest.mark.parametrize("name", ["cifar-10", "CIFAR10", "Cifar_10"])
def test_names_are_found_however_they_are_written(name):
    assert find_known(name).name == "CIFAR-10"
    assert find_known("ImageNet") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("task:", "flavour: sweet\ntask:", "flavour"),
        ("title: 68", "titel: 68", "titel"),
        ("images: 68", "images: many", "many"),
        ("name: BSD68", "name: BSD86", "must be named bsd86.yaml"),
        ("name: BSD68\n", "", "name"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused(tmp_path, old, new, message):
    text = (known.manifests() / "bsd68.yaml").read_text()
    assert old in text
    (tmp_path / "bsd68.yaml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=rf"(?s)manifest: .*bsd68\.yaml.*{message}"):
        read_manifest(tmp_path / "bsd68.yaml")


def test_check_tells_what_is_there_missing_and_altered(tmp_path):
    write_picture(tmp_path / "t1.png")
    write_picture(tmp_path / "t2.png", seed=2)
    write_picture(tmp_path / "x-ray.png")
    hashes = {"t1.png": sha256((tmp_path / "t1.png").read_bytes()), "t2.png": "md5:" + "0" * 32}
    tiny = made_up(copies=[Copy("PNG", made_up().splits, hashes)])
    assert tiny.check(tmp_path)[1] == {"t1.png": "ok", "t2.png": "altered", "x-ray.png": "ok, no hash is known"}
    assert tiny.present(tmp_path)
    (tmp_path / "t1.png").unlink()
    (tmp_path / "x-ray.png").unlink()
    assert tiny.check(tmp_path)[1] == {"t1.png": "missing", "t2.png": "altered", "x*.png (0 of 1 files)": "missing"}
    assert not tiny.present(tmp_path)


def test_check_takes_the_copy_that_is_there(tmp_path):
    (tmp_path / "all.tar").write_bytes(b"x")
    copies = [*made_up().copies, Copy("archive", {"train": SplitFiles(["all.tar"], 2)})]
    copy, states = made_up(copies=copies).check(tmp_path)
    assert copy.title == "archive"
    assert states == {"all.tar": "ok, no hash is known"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where sets lie, and one known set that does not lie there yet."""
    monkeypatch.setenv("UNROLLED_DATA", str(tmp_path / "home"))
    monkeypatch.setattr("unrolled.data.sources.find_known", {"Tiny": made_up()}.get)
    return tmp_path / "home" / "tiny"


def test_training_takes_a_known_set_by_its_name(home):
    with pytest.raises(ValueError, match=r"Tiny is not in .*tiny, .*t1\.png is missing.*`unrolled data get Tiny`"):
        ImageData(["Tiny"]).load()
    for name in ("t1.png", "t2.png", "x1.png"):
        write_picture(home / name, 70, 70, seed=len(name))
    training, _ = ImageData(["Tiny"], hold_out=1).load()
    assert len(training) == 1
    with pytest.raises(ValueError, match="Tiny has no images for 'validation', only for train, test"):
        ImageData(["Tiny"], validation="Tiny").load()


def test_the_prepared_file_of_a_split_comes_first(home):
    write_picture(home / "originals" / "a.png")
    prepare_images([home / "originals"], home / "train.h5", progress=False)
    (image,) = open_images("Tiny")
    assert torch.equal(image.read().float() / 255, read_image(home / "originals" / "a.png"))


def test_a_set_of_test_images_cannot_be_trained_on():
    with pytest.raises(ValueError, match="Set11 has no images for 'train', only for test"):
        ImageData(["Set11"]).load()


class Server(ThreadingHTTPServer):
    """Files on this machine; a path that begins with /cut sends half of what it announces."""

    def __init__(self, files):
        self.files, self.asked = files, []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        data = self.server.files.get(self.path.removeprefix("/").removeprefix("cut/"))
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write((data or b"")[: len(data or b"") // 2 if self.path.startswith("/cut/") else None])

    def log_message(self, *_):
        pass


def packed(name, data):
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pixels = np.random.default_rng(0).bytes(5000)
    server = Server({"a.gz": gzip.compress(pixels), "b.tar.gz": packed("b", pixels)})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def downloadable(server, path="", wrong=()):
    downloads = [
        Download(server.url(path + name), sha256(b"" if name in wrong else data), f"raw/{name}", unpack)
        for (name, data), unpack in zip(server.files.items(), ("gzip", "tar"), strict=True)
    ]
    return made_up(copies=[Copy("raw", {"train": SplitFiles(["raw/a", "raw/b"], 2)})], downloads=downloads)


def test_get_downloads_checks_and_unpacks_once(server, tmp_path):
    tiny = downloadable(server)
    tiny.get(tmp_path, progress=False)
    pixels = gzip.decompress(server.files["a.gz"])
    assert (tmp_path / "raw/a").read_bytes() == (tmp_path / "raw/b").read_bytes() == pixels
    assert server.asked == ["/a.gz", "/b.tar.gz"]
    tiny.get(tmp_path, progress=False)
    (tmp_path / "raw/b").unlink()
    tiny.get(tmp_path, progress=False)
    assert len(server.asked) == 2
    assert tiny.present(tmp_path)


def test_an_altered_file_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(ValueError, match=r"Tiny: .*b\.tar\.gz is not the file that is known here"):
        downloadable(server, wrong=("b.tar.gz",)).get(tmp_path, progress=False)
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {"a", "a.gz"}


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_get_replaces_no_file_of_another_set(name, server, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / name).write_bytes(b"mine")
    tiny = downloadable(server)
    tiny.copies[0].hashes["raw/a"] = sha256(gzip.decompress(server.files["a.gz"]))
    with pytest.raises(ValueError, match=rf"Tiny: .*raw/{name} is not the file that is known here; move it away"):
        tiny.get(tmp_path, progress=False)
    assert (tmp_path / "raw" / name).read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("name", ["a", "b"])
def test_get_unpacks_over_nothing_that_is_there(name, server, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / name).write_bytes(b"mine")
    downloadable(server).get(tmp_path, progress=False)
    assert (tmp_path / "raw" / name).read_bytes() == b"mine"
    assert (tmp_path / "raw" / ("b" if name == "a" else "a")).stat().st_size == 5000


@pytest.mark.parametrize("path", ["cut/", "nowhere/"])
def test_a_download_that_fails_leaves_nothing_and_names_the_folder_option(server, tmp_path, path):
    with pytest.raises(ValueError, match=r"(?s)cannot download .*a\.gz.*DIR/raw/a\.gz.*get Tiny --folder DIR"):
        downloadable(server, path).get(tmp_path, progress=False)
    assert not [found for found in tmp_path.rglob("*") if found.is_file()]


def test_without_a_network_files_brought_by_hand_will_do(server, tmp_path):
    tiny = downloadable(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match=r"Without a network: get a\.gz elsewhere"):
        tiny.get(tmp_path, progress=False)
    for name, data in server.files.items():
        (tmp_path / "raw" / name).write_bytes(data)
    tiny.get(tmp_path, progress=False)
    assert tiny.present(tmp_path)


def test_what_no_command_may_fetch_is_explained(tmp_path):
    with pytest.raises(ValueError, match=r"no download that a command may fetch\. said here\. .*--folder DIR"):
        made_up().get(tmp_path)
