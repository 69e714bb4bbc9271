"""Weights with another operator than their own: photographs that are measured by it, and pictures that it measured."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

import unrolled
from tests.helpers import write_picture
from unrolled.cli import main
from unrolled.data import embedded_images, read_image
from unrolled.metrics import psnr
from unrolled.networks import EPGN
from unrolled.operators import Blur, Downsampling, Inpainting, ShakeKernel
from unrolled.operators.noise_estimation import estimate_noise

NOISE = 0.02
MASK = Inpainting(keep=0.85, height=120, width=100).mask


@pytest.fixture
def weights(tmp_path):
    """Of an untrained network, which takes steps down the gradient, as if it had been trained on drawn operators."""
    path = tmp_path / "w.safetensors"
    unrolled.save(path, EPGN(2, 4, noise_range=(0.0, 0.1)), Inpainting(keep=0.5, height=8, width=8), {"operators": {}})
    return str(path)


@pytest.fixture
def photo(tmp_path):
    image = embedded_images("test")["camera"][0, :120, 60:160]
    path = tmp_path / "photo.png"
    Image.fromarray((255 * image).round().to(torch.uint8).numpy()).save(path)
    return path


def picture_of(y, path):
    Image.fromarray((65535 * y[0, 0].clamp(0, 1)).round().to(torch.int32).numpy().astype(np.uint16)).save(path)
    return str(path)


def test_photographs_of_any_size_are_measured_by_an_operator_that_follows_them(weights, photo, tmp_path, capsys):
    write_picture(tmp_path / "photos" / "a" / "small.png", 40, 50)
    write_picture(tmp_path / "photos" / "large.png", 60, 44)
    argv = ["--weights", weights, "--operator", "Inpainting", "--operator.keep", "0.6", "--noise", str(NOISE)]
    assert main(["reconstruct", str(photo), "--out", str(tmp_path / "x.png"), *argv]) == 0
    network, _ = unrolled.load(weights)
    operator, truth = Inpainting(keep=0.6, height=120, width=100), read_image(photo)
    expected = unrolled.reconstruct(truth, network, operator, noise=NOISE)
    assert (read_image(tmp_path / "x.png") - expected).abs().max() < 1 / 255
    assert f"PSNR {float(psnr(expected[None], truth[None])):.2f}" in capsys.readouterr().out
    assert main(["reconstruct", str(tmp_path / "photos"), "--out", str(tmp_path / "many"), *argv]) == 0
    assert sorted(str(each.relative_to(tmp_path / "many")) for each in (tmp_path / "many").rglob("*.png")) == [
        "a/small.png", "large.png",
    ]  # fmt: skip
    assert read_image(tmp_path / "many" / "large.png").shape == (1, 60, 44)


@pytest.mark.filterwarnings("always:noise. no level was given")
@pytest.mark.parametrize("kind", ["blurred", "small", "holes"])
def test_a_picture_that_was_measured_is_restored(kind, weights, photo, tmp_path, capsys):
    truth = read_image(photo)[None]
    kernel = ShakeKernel(7, seed=1).draw()
    Image.fromarray((65535 * kernel / kernel.max()).round().numpy().astype(np.uint16)).save(tmp_path / "motion.png")
    np.save(tmp_path / "mask.npy", MASK.numpy())
    of = "--operator."
    operator, options = {
        "blurred": (
            Blur(tmp_path / "motion.png", "replicate"),
            ["Blur", f"{of}kernel", str(tmp_path / "motion.png"), f"{of}boundary=replicate"],
        ),
        "small": (Downsampling(2), ["Downsampling", f"{of}factor=2"]),
        "holes": (Inpainting(MASK), ["Inpainting", f"{of}mask", str(tmp_path / "mask.npy")]),
    }[kind]
    noisy = operator(truth)
    noisy = noisy + NOISE * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(0)) * (noisy > 0)
    measured, out = picture_of(noisy, tmp_path / "measured.png"), tmp_path / "restored.png"
    argv = ["reconstruct", "--measured", measured, "--weights", weights, "--out", str(out), "--operator", *options]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert re.search(r"warning: noise: no level was given, and 0\.0[12].* is estimated, where white is 1", said.err)
    assert "images: 1 written" in said.out
    found = read_image(out)[None]
    assert found.shape == truth.shape
    y, (network, _) = read_image(measured)[None], unrolled.load(weights)
    expected = unrolled.reconstruct(y=y, network=network, operator=operator, noise=estimate_noise(y, operator).level)
    assert (found - expected).abs().max() < 1 / 255
    assert main([*argv, "--noise", str(NOISE), "--bits", "16"]) == 0


def test_what_cannot_be_is_refused(weights, photo, tmp_path, capsys):
    out = ["--weights", weights, "--out", str(tmp_path / "x.png")]
    image, measured = str(photo), ["--measured", str(photo)]
    blocks = ["--operator", "BlockCompressedSensing", "--operator.ratio=0.5"]
    holes = ["--operator", "Inpainting", "--operator.keep=0.5"]
    for argv, message in (
        ([*measured, *blocks], "is a picture, which BlockCompressedSensing does not give; name the --operator"),
        (
            [*measured, *holes, "--noise", "PhotonNoise", "--noise.photons=9"],
            "must be a standard deviation, got",
        ),
        ([image, *holes, "--noise=-1"], "noise: must be a standard deviation, a finite number >= 0, got -1.0"),
        ([image, *measured], "give an image or --measured, one of them"),
        ([image, "--operator", "Blur", "--operator.kernel=nothing.png"], "kernel cannot be read from nothing.png"),
    ):
        assert main(["reconstruct", *argv, *out]) == 1
        assert message in capsys.readouterr().err
