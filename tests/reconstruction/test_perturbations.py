"""The tests of robustness, on networks and operators where the answer is known."""

import json
import sys

import numpy as np
import pytest
import torch

import unrolled
from tests.helpers import picture, write_picture
from unrolled.cli import main
from unrolled.metrics import psnr
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, Dense, MaskedFourier, RadialMask
from unrolled.reconstruction.perturbations import robustness, worst
from unrolled.solvers.methods import METHODS, classical

SIDE = 32


@pytest.fixture(scope="module")
def fourier():
    return MaskedFourier(RadialMask(0.5), SIDE, SIDE)


def images(count=2):
    return {str(seed): picture(SIDE, SIDE, seed) for seed in range(count)}


def test_a_linear_method_falls_as_it_must(fourier):
    torch.manual_seed(0)
    network = EPGN(phases=1, features=4)  # untrained: a linear method, gradient descent from zero filling
    result = robustness(
        network, fourier, images(), methods=["estimate"], noise=[0.0, 0.1], ratios=[0.3, 0.6], perturbations=[0, 0.1]
    )
    assert set(result) == {"noise", "operator", "ratio", "perturbation"}
    # Zero filling is a fixed point of gradient descent from measurements of a real image that a symmetric mask samples.
    assert result["ratio"]["network"] == pytest.approx(result["ratio"]["estimate"], abs=0.01)
    clean, noisy = result["noise"]["estimate"]
    assert result["perturbation"]["estimate"][0] == pytest.approx(clean)
    assert result["operator"]["estimate"][0] == pytest.approx(clean)
    assert noisy < clean
    low, high = result["ratio"]["estimate"]
    assert low < high


def test_noise_has_the_energy_that_is_asked_for(fourier):
    zeros = {"black": torch.full((1, SIDE, SIDE), 0.5)}
    result = robustness(EPGN(1, 4), fourier, zeros, methods=["estimate"], noise=[0.1], ratios=[], perturbations=[])
    # Half of the frequencies carry complex noise of variance .01; the real part of the image keeps half of that.
    expected = -10 * torch.tensor(0.01 * fourier.ratio / 2).log10()
    assert result["noise"]["estimate"][0] == pytest.approx(expected.item(), abs=0.6)


def test_the_worst_perturbation_of_a_linear_method_is_its_singular_vector():
    # Of x̂ = Aᴴy with a matrix: the error grows most along the first left singular vector.
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    operator = Dense(torch.diag(torch.tensor([3.0, 1, 1, 1, 1, 1])) @ left.T, 2, 3)
    x = torch.zeros(1, 1, 2, 3)
    delta = worst(lambda y, a: a.adjoint(y), operator, operator(x), x, 0.5, 60, generator)
    assert delta.norm().item() == pytest.approx(0.5, rel=1e-5)
    assert delta[0, 0, 0].abs().item() == pytest.approx(0.5, rel=1e-3)


def test_the_worst_is_worse_than_noise_of_the_same_size(fourier):
    x = picture(SIDE, SIDE)[None]
    y = fourier(x)
    generator = torch.Generator().manual_seed(0)

    def run(y, operator):
        return classical("wavelet-l1", y, operator, iterations=10)

    delta = worst(run, fourier, y, x, 0.05 * float(y.norm()), 6, generator)
    noise = fourier.mask * torch.randn(y.shape, dtype=y.dtype, generator=generator)
    noise = 0.05 * y.norm() * noise / noise.norm()
    assert delta.norm() <= 0.05 * y.norm() * (1 + 1e-5)
    assert (delta * (1 - fourier.mask)).abs().max() == 0
    assert psnr(run(y + delta, fourier), x) < psnr(run(y + noise, fourier), x) - 1


@pytest.mark.parametrize("method", METHODS)
def test_classical_methods_improve_and_do_not_depend_on_units(method, fourier):
    x = picture(SIDE, SIDE)[None]
    found = classical(method, fourier(x), fourier)
    assert found.shape == x.shape
    assert psnr(found, x) >= psnr(fourier.estimate(fourier(x)), x) - 1e-6
    if method in ("wavelet-l1", "tv"):
        assert psnr(found, x) > psnr(fourier.estimate(fourier(x)), x) + 3
    scaled = 5 * fourier
    torch.testing.assert_close(classical(method, scaled(x), scaled), found, atol=2e-3, rtol=0)


def test_block_compressed_sensing_and_the_command(tmp_path, capsys):
    torch.manual_seed(0)
    unrolled.save(tmp_path / "w.safetensors", EPGN(1, 2), BlockCompressedSensing(ratio=0.4, block=8))
    for seed in range(3):
        write_picture(tmp_path / "photos" / f"{seed}.png", 16, 24, seed)
    arguments = ["--weights", str(tmp_path / "w.safetensors"), "--data", str(tmp_path / "photos"), "--steps", "1"]
    arguments += [
        "--images",
        "2",
        "--perturbations",
        "[.1]",
        "--noise",
        "[0, .1]",
        "--ratios",
        "[.5]",
        "--methods",
        "[tv]",
    ]
    arguments += ["--out", str(tmp_path / "curves.png"), "--json", str(tmp_path / "curves.json")]
    assert main(["robustness", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "0.png, 1.png" in printed
    assert "matrix 2" in printed
    found = json.loads((tmp_path / "curves.json").read_text())
    assert len(found["noise"]["network"]) == 2
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_bad_arguments_are_refused_by_name(fourier, capsys, monkeypatch):
    network = EPGN(1, 2)
    for options, message in [
        ({"noise": [-1.0]}, "noise: must be numbers in"),
        ({"ratios": [0.0]}, "ratios: must be numbers in"),
        ({"perturbations": [2.0]}, "perturbations: must be numbers in"),
        ({"methods": ["magic"]}, "methods: must be of estimate, .* got 'magic'"),
        ({"steps": 0}, "steps: must be a whole number >= 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            robustness(network, fourier, images(1), **options)
    with pytest.raises(ValueError, match="images: must be one at least"):
        robustness(network, fourier, {})
    with pytest.raises(ValueError, match="method: must be one of"):
        classical("magic", fourier(torch.zeros(1, 1, SIDE, SIDE)), fourier)
    with pytest.raises(ValueError, match="strength: must be a finite number >= 0"):
        classical("tv", fourier(torch.zeros(1, 1, SIDE, SIDE)), fourier, strength=-1.0)
    assert main(["robustness", "--weights", "epgn-cs25", "--data", "nowhere"]) == 1
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert main(["robustness", "--weights", "epgn-cs25", "--data", "nowhere", "--images", "0"]) == 1
    assert "images must be >= 1, got 0" in capsys.readouterr().err
    assert main(["robustness", "--weights", "epgn-cs25", "--data", "nowhere", "--out", "curves.doc"]) == 1
    assert "out: curves.doc must end in one of ." in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert main(["robustness", "--weights", "epgn-cs25", "--data", "nowhere", "--out", "curves.png"]) == 1
    assert "out: drawing needs matplotlib: pip install 'unrolled[plots]'" in capsys.readouterr().err


def test_images_are_taken_as_evaluate_takes_them(fourier):
    few = {"methods": [], "noise": np.zeros(1), "ratios": [], "perturbations": [], "seed": np.int64(0)}
    given = images(2)
    network = EPGN(1, 2)
    found = [robustness(network, fourier, each, **few)["noise"] for each in (given, list(given.values()))]
    assert found[0] == found[1]
    for wrong in ({"noise": 0.1}, {"noise": ["a"]}, {"seed": 1.5}, {"steps": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: must be"):
            robustness(network, fourier, given, **{**few, **wrong})
