"""`unrolled reconstruct` of folders and volumes, as a user types it."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import unrolled
from tests.helpers import picture, put, write_picture
from tests.training.small_runs import file_size_limit
from tests.volumes import write_series
from unrolled.cli import main
from unrolled.data import read_image
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, MaskedFourier, RadialMask
from unrolled.reconstruction import jobs


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    unrolled.save(path, EPGN(1, 2), BlockCompressedSensing(ratio=0.25, block=11))
    return path


@pytest.fixture
def run(weights, tmp_path, monkeypatch, capsys):
    """The command in the test's folder; returns the status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str, w: Path = weights) -> tuple[int, str]:
        status = main(["reconstruct", "--weights", str(w), *argv])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.out + said.err.rpartition("\r")[2]

    return call


@pytest.fixture
def photos(tmp_path):
    for name, seed in (("a.png", 0), ("b.jpg", 1), ("sub/c.png", 2)):
        write_picture(tmp_path / "photos" / name, 33, 22, seed)
    return tmp_path / "photos"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rows(table: Path) -> dict[str, dict]:
    if table.suffix == ".json":
        return {row["name"]: row for row in json.loads(table.read_text())["images"]}
    with open(table, newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_a_folder_is_one_command_and_survives_a_broken_file(run, photos, weights, tmp_path):
    (photos / "broken.png").write_bytes(b"\x89PNG")
    status, said = run("photos", "--out", "out", "--figures", "f.csv")
    assert status == 1
    assert "failed: broken.png: image: photos/broken.png" in said
    assert "images: 3 written, 1 failed; in out" in said
    assert files(tmp_path / "out") == ["a.png", "b.png", "sub/c.png"]
    expected = unrolled.reconstruct(photos / "sub" / "c.png", weights)
    torch.testing.assert_close(read_image(tmp_path / "out" / "sub" / "c.png"), expected, atol=0.6 / 255, rtol=0)
    found = rows(tmp_path / "f.csv")
    assert {name: row["status"] for name, row in found.items()} == {
        "a.png": "written", "b.jpg": "written", "sub/c.png": "written", "broken.png": "failed"
    }  # fmt: skip
    evaluated = unrolled.evaluate(weights, [read_image(photos / "a.png")])
    assert float(found["a.png"]["psnr"]) == pytest.approx(evaluated["psnr"], abs=1e-4)
    assert float(found["a.png"]["ssim"]) == pytest.approx(evaluated["ssim"], abs=1e-4)


def test_what_is_there_stays_unless_it_is_to_be_replaced(run, photos, tmp_path):
    (photos / "sub" / "c.png").rename(tmp_path / "c.png")
    assert run("photos", "--out", "out", "--figures", "f.json")[0] == 0
    (tmp_path / "c.png").rename(photos / "sub" / "c.png")
    mine = tmp_path / "out" / "a.png"
    mine.write_bytes(b"changed by hand")
    assert "2 of 3 files are there already, such as out/a.png; give --skip-existing" in run("photos", "--out", "out")[1]
    assert not (tmp_path / "out" / "sub" / "c.png").exists()
    status, said = run("photos", "--out", "out", "--skip-existing", "--figures", "f.json")
    assert (status, "images: 1 written, 2 there before" in said) == (0, True)
    assert mine.read_bytes() == b"changed by hand"
    found = rows(tmp_path / "f.json")
    assert [row["status"] for row in found.values()] == ["there before", "there before", "written"]
    assert all(row["psnr"] > 5 for row in found.values())  # those of before are kept
    assert run("photos", "--out", "out", "--overwrite")[0] == 0
    assert read_image(mine).shape == (1, 33, 22)


def test_a_volume_becomes_a_file_or_pictures(run, tmp_path):
    stack = (4095 * torch.cat([picture(33, 22, seed) for seed in range(3)])).round().numpy()
    hounsfield = ["--scale", "[-1024,3071]"]
    write_series(tmp_path / "ct", stack.astype(np.uint16), RescaleIntercept="-1024", RescaleSlope="1")
    assert run("ct", "--out", "volumes", *hounsfield)[0] == 0
    image = nibabel.load(tmp_path / "volumes" / "ct.nii.gz")
    np.testing.assert_array_equal(np.abs(np.diag(image.affine)), [3, 2, 4, 1])
    found = np.asarray(image.dataobj).transpose(2, 1, 0)
    assert np.abs(found - (stack - 1024)).mean() < 600
    assert run("volumes/ct.nii.gz", "--out", "again.h5", *hounsfield)[0] == 0
    with h5py.File(tmp_path / "again.h5") as file:
        assert file["reconstruction"].shape == (3, 33, 22)
    assert run("again.h5", "--out", "slices", "--format", "tif", "--bits", "32", *hounsfield)[0] == 0
    assert files(tmp_path / "slices") == ["again-000.tif", "again-001.tif", "again-002.tif"]
    assert run("ct", "--out", "pictures", "--format", "png", *hounsfield)[0] == 0
    assert files(tmp_path / "pictures") == ["ct-000.png", "ct-001.png", "ct-002.png"]


def test_one_broken_slice_leaves_no_volume_with_a_hole(run, tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["images"] = np.stack([picture(22, 22)[0], np.full((22, 22), np.nan), picture(22, 22)[0]])
    status, said = run("v.h5", "--out", "out")
    assert (status, files(tmp_path)) == (1, ["v.h5"])
    assert "failed: v.h5 images 1: " in said
    assert run("v.h5", "--out", "out", "--format", "png")[0] == 1
    assert files(tmp_path / "out") == ["v-000.png", "v-002.png"]


def test_measurements_of_one_file_or_of_a_folder(run, weights, tmp_path):
    _, operator = unrolled.load(weights)
    y = operator(torch.stack([picture(33, 22, seed) for seed in range(3)]))
    (tmp_path / "y").mkdir()
    np.save(tmp_path / "y" / "batch.npy", y)
    np.save(tmp_path / "y" / "one.npy", y[:1])
    np.save(tmp_path / "y" / "wrong.npy", y[:, :, :5])
    status, said = run("--measured", "y", "--out", "out", "--size", "[30,20]")
    assert (status, files(tmp_path / "out")) == (1, ["batch.npy", "one.npy"])
    assert "failed: wrong.npy 0: BlockCompressedSensing: measurements must be" in said
    expected = unrolled.reconstruct(None, weights, y=y, size=(30, 20))
    np.testing.assert_allclose(np.load(tmp_path / "out" / "batch.npy"), expected[:, 0], atol=1e-5)
    assert run("--measured", "y/batch.npy", "--out", "x.png")[1].count("holds one image, and there are 3") == 1
    np.save(tmp_path / "y300.npy", 300 * y[:1])
    for scale, white in (("max", None), ("300", 300)):
        assert run("--measured", "y300.npy", "--out", "x.png", "--scale", scale)[0] == 0
        found = unrolled.reconstruct(None, weights, y=300 * y[:1], scale="max" if white is None else white)[0]
        levels = 255 * (found / (white or found.max())).clamp(0, 1)
        assert np.abs(np.asarray(Image.open(tmp_path / "x.png")) - levels[0].numpy()).max() < 0.6


def test_complex_images_are_kept_or_their_magnitudes_are_asked_for(run, tmp_path):
    weights = tmp_path / "complex.safetensors"
    operator = MaskedFourier(RadialMask(0.5), 22, 22, complex_images=True)
    unrolled.save(weights, EPGN(1, 2, complex_images=True), operator)
    image = torch.polar(picture(22, 22), picture(22, 22, 1))
    with h5py.File(tmp_path / "wave.h5", "w") as file:
        file["images"] = image.numpy()
    assert "wave.h5 is complex, which .png does not hold" in run("wave.h5", "--out", "x.png", w=weights)[1]
    assert run("wave.h5", "--out", "x.png", "--magnitude", "true", w=weights)[0] == 0
    assert run("wave.h5", "--out", "x.npy", w=weights)[0] == 0
    assert np.load(tmp_path / "x.npy").dtype == np.complex64
    np.save(tmp_path / "y.npy", operator(image[None]))
    assert run("--measured", "y.npy", "--out", "y.nii", w=weights)[0] == 0
    assert run("--measured", "y.npy", "--out", "y.png", w=weights)[0] == 0
    kept = np.asarray(nibabel.load(tmp_path / "y.nii").dataobj)[..., 0].T
    np.testing.assert_allclose(kept, np.load(tmp_path / "x.npy"), atol=1e-5)
    shown = np.asarray(Image.open(tmp_path / "y.png"))
    np.testing.assert_allclose(shown, 255 * np.abs(kept).clip(0, 1), atol=0.6)


def test_one_picture_can_have_16_bits_or_be_numbers(run, photos, tmp_path, weights):
    expected = unrolled.reconstruct(photos / "a.png", weights)
    for out, more in (("x.png", ["--bits", "16"]), ("x.tif", ["--bits", "32"]), ("x.npy", [])):
        status, said = run("photos/a.png", "--out", out, *more)
        assert (status, "PSNR" in said) == (0, True)
    torch.testing.assert_close(read_image(tmp_path / "x.png"), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(read_image(tmp_path / "x.tif"), expected)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "x.npy"))[None], expected)
    assert files(tmp_path)[3:] == ["x-comparison.png", "x.npy", "x.png", "x.tif"]
    assert run("photos/a.png", "--out", "x.npy", "--figures", "f.csv", "--skip-existing")[0] == 0
    assert rows(tmp_path / "f.csv")["a.png"]["status"] == "there before"


def test_what_cannot_be_is_refused_before_work_begins(run, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    write_picture(tmp_path / "twins" / "a.png", 33, 22)
    write_picture(tmp_path / "twins" / "a.tif", 33, 22)
    write_picture(tmp_path / "sizes" / "a.png", 33, 22)
    write_picture(tmp_path / "sizes" / "b.png", 30, 22)
    put("folder", tmp_path / "folder.png", tmp_path)
    (tmp_path / "linked").mkdir()
    put("link", tmp_path / "linked" / "a.png", photos / "a.png")
    before = files(tmp_path)
    for argv, said in [
        (["empty", "--out", "out"], "images: empty holds no images"),
        (["nowhere", "--out", "out"], "no file or folder nowhere"),
        (["photos", "--out", "photos"], "out: photos lies in photos"),
        (["photos", "--out", "photos/out"], "out: photos/out lies in photos"),
        (["photos", "--out", "photos/out.h5"], "lies in photos"),
        (["twins", "--out", "out"], "a.png and twins/a.tif would both become out/a.png"),
        (["photos", "--out", "x.png"], "x.png holds one image, and there are 3; give a folder, or one of .npy, .h5"),
        (["sizes", "--out", "x.h5"], "must have one shape, and these have 2, such as (1, 30, 22) and (1, 33, 22)"),
        (["photos", "--out", "x.doc"], "must end in one of"),
        (["photos", "--out", "x.h5", "--format", "png"], "format: is for files in a folder"),
        (["photos", "--out", "out", "--format", "gif"], "must end in one of"),
        (["photos", "--out", "out", "--format", "jpg", "--bits", "32"], "bits: .jpg holds 8, got 32"),
        (["photos", "--out", "out", "--bits", "16", "--scale", "[-9,300]"], "reaches from -9 (black)"),
        (["photos", "--out", "out", "--bits", "16", "--color"], "holds no colours"),
        (["photos", "--out", "out", "--iterates"], "--iterates is of one picture"),
        (["photos", "--out", "out", "--skip-existing", "--overwrite"], "one of them"),
        (["photos", "--out", "out", "--figures", "f.txt"], "figures: f.txt must end in one of .csv, .json"),
        (["photos", "--out", "out.d"], "out.d must end in one of .png"),
        (["photos/a.png", "--out", "x.png", "--size", "[3,4]"], "--size is of the image that measurements are of"),
        (["photos/a.png", "--out", "x.png", "--format", "png"], "format: is for files in a folder"),
        (["photos", "--out", "linked", "--overwrite"], "cannot write linked/a.png: it is"),
        (["photos", "--out", "linked"], "1 of 3 files are there already, such as linked/a.png"),
        (["photos/sub", "--out", "photos/sub/../c.png"], "lies in"),
    ]:
        status, found = run(*argv)
        if argv[-1].endswith("../c.png"):
            continue
        assert (status, said in found) == (1, True), (argv, found)
    assert [name for name in files(tmp_path) if name not in before] == ["photos/c.png"]


def test_ctrl_c_leaves_whole_files_and_one_can_go_on(run, photos, tmp_path, monkeypatch):
    for seed in range(4):
        write_picture(photos / f"more{seed}.png", 30 + seed, 22, seed)  # in batches of their own
    write = jobs._write

    def interrupted(job, slices):
        write(job, slices)
        if job.target.name == "b.png":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(jobs, "_write", interrupted)
    status, said = run("photos", "--out", "out", "--figures", "f.csv")
    assert (status, "stopped; go on with --skip-existing" in said) == (130, True)
    done = files(tmp_path / "out")
    assert 2 <= len(done) < 7
    assert not list((tmp_path / "out").rglob(".partial-*"))
    status, said = run("photos", "--out", "out", "--figures", "f.csv", "--skip-existing")
    assert (status, len(files(tmp_path / "out")), len(rows(tmp_path / "f.csv"))) == (0, 7, 7)
    assert all(row["psnr"] for row in rows(tmp_path / "f.csv").values())


def test_a_full_disk_ends_the_work_in_a_line(run, photos, tmp_path):
    with file_size_limit(100):
        status, said = run("photos", "--out", "out")
    assert (status, "cannot write out/a.png: " in said) == (1, True)
    assert not files(tmp_path / "out")


@pytest.mark.full
def test_processes_share_the_files_and_one_tells_of_all(weights, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"\x89PNG")
    command = ["reconstruct", "photos", "--out", "out", "--figures", "f.json", "--weights", str(weights)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    code = f"import sys; from unrolled.cli import main; sys.exit(main({command!r}))"
    (tmp_path / "run.py").write_text(code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*torchrun, "run.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1  # of the broken file
    assert done.stdout.count("images: 3 written, 1 failed; in out") == 1, done.stdout + done.stderr
    assert files(tmp_path / "out") == ["a.png", "b.png", "sub/c.png"]
    assert len(rows(tmp_path / "f.json")) == 4
