"""Tomography from the command line: slices in Hounsfield units, photons, and measurements in the units of the user."""

import json
import re
from contextlib import suppress

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import unrolled
from benchmarks import compared
from tests.helpers import picture
from unrolled.cli import main
from unrolled.data import attenuation_to_hu
from unrolled.networks import EPGN
from unrolled.operators import PhotonNoise, Radon

CONFIG = "configs/ct/epgn_60.yaml"
NOISE = PhotonNoise(1e4, 0.08142)
WITH_NOISE = ["--noise=PhotonNoise", "--noise.photons=1e4", "--noise.white=0.08142"]
SMALL = ["--data.hold_out=1", "--data.crop=24", "--training.minutes=null", "--training.steps=2", "--training.batch=1",
         "--training.validations=1", "--network.phases=1", "--network.features=2", "--operator.height=24",
         "--operator.width=24", "--operator.angles=8", "--training.bfloat16=false"]  # fmt: skip


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """A file of three slices, int16."""
    path = tmp_path_factory.mktemp("slices") / "ct.h5"
    with h5py.File(path, "w") as file:
        file["hu"] = np.stack([(2400 * picture(24, 24, seed)[0] - 1024).numpy() for seed in range(3)]).astype(np.int16)
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    unrolled.save(path, EPGN(1, 2), Radon(8, 24, 24, pixel_size=1.4))
    return str(path)


@pytest.mark.full
def test_one_command_trains_evaluates_and_compares(slices, tmp_path, capsys):
    run = [CONFIG, "--test", slices, f"--data.train=[{slices}]", f"--folder={tmp_path / 'run'}", *SMALL]
    run += ["--every", "2", "--iterations", "2", "--tune", "1", "--json", str(tmp_path / "ct.json")]
    compared.main([*run, "--methods", "estimate", "tv", "tv-weighted"])
    said = capsys.readouterr().out
    assert "validation PSNR" in said
    assert "PSNR's peak is white − black = 4071, from -1000 to 3071" in said
    rows = {row["method"]: row for row in json.loads((tmp_path / "ct.json").read_text())["rows"]}
    titles = ["EPGN", "EPGN, the same images", "linear estimate", "total variation", "total variation, weighted"]
    assert list(rows) == titles
    assert [rows[title]["images"] for title in titles] == [3, 2, 2, 2, 2]
    best = tmp_path / "run" / "best.safetensors"
    expected = unrolled.evaluate(best, slices, scale="hu", noise=NOISE)
    assert rows["EPGN"]["psnr"] == pytest.approx(expected["psnr"], abs=1e-3)
    assert rows["total variation"]["psnr"] > rows["linear estimate"]["psnr"]
    trained = best.stat().st_mtime_ns
    compared.main([*run, "--methods", "estimate"])
    assert best.stat().st_mtime_ns == trained


def test_strengths_are_tuned_to_the_best():
    for best in (3e-4, 5e-3, 0.21):
        found = compared.tuned(lambda strength, best=best: -abs(np.log(strength / best)), 5e-3)
        assert abs(np.log(found / best)) < np.log(2) / 3
    with pytest.raises(ValueError, match="methods: tv-weighted needs noise"):
        compared.by_method("tv-weighted", Radon(8, 24, 24), None, 1)


def test_evaluation_and_reconstruction_measure_with_photons(slices, weights, capsys, tmp_path):
    assert main(["evaluate", "--weights", weights, "--data", slices, "--scale=hu", *WITH_NOISE]) == 0
    said = capsys.readouterr().out
    assert "from -1000 to 3071" in said
    expected = unrolled.evaluate(weights, slices, scale="hu", noise=NOISE)
    assert f"{expected['psnr']:.2f}" in re.search(r"^mean .*$", said, re.MULTILINE)[0]
    assert expected["psnr"] != unrolled.evaluate(weights, slices, scale="hu")["psnr"]
    with h5py.File(slices) as file:
        hu = file["hu"][0]
    Image.fromarray(hu.astype(np.float32)).save(tmp_path / "slice.tif")
    out = str(tmp_path / "slice.png")
    assert main(["reconstruct", str(tmp_path / "slice.tif"), f"--weights={weights}", "--scale=hu", f"--out={out}"]) == 0
    assert "its peak is white − black = 4071, from -1000 to 3071" in capsys.readouterr().out
    found = unrolled.reconstruct(hu, weights, scale="hu", noise=NOISE)
    assert -1500 < found.min() < -500 < 500 < found.max() < 3071  # in Hounsfield units again
    assert torch.equal(found, unrolled.reconstruct(hu, weights, scale="hu", noise=NOISE))


def test_sinograms_of_attenuation_come_back_as_attenuation(slices, weights):
    network, operator = unrolled.load(weights)
    with h5py.File(slices) as file:
        hu = file["hu"][0]
    unit = torch.from_numpy((hu[None, None] + 1000) / 4071).float()
    attenuation = unrolled.reconstruct(None, network, operator, y=0.08142 * operator(unit), scale=0.08142)[0]
    expected = unrolled.reconstruct(hu, weights, scale="hu")
    torch.testing.assert_close(attenuation_to_hu(attenuation[0]), expected, atol=0.5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--noise=PhotonNoise", "--noise.photons=0"], "photons must be a finite number > 0, got 0"),
        (["--noise=PhotonNoise", "--noise.photons=1e4", "--noise.white=5"], "line integrals of attenuation must be in"),
        (["--noise=Photons"], "Photons"),
    ],
)
def test_noise_that_cannot_be_is_named(options, said, slices, weights, capsys):
    with suppress(SystemExit):  # of a command line that cannot be
        assert main(["evaluate", "--weights", weights, "--data", slices, "--scale=hu", *options]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
