"""The noise level of measurements, as users state it and as networks are told it."""

import warnings

import numpy as np
import pytest
import torch

import unrolled
from tests.helpers import picture
from unrolled.data.kspace_files import KSpace
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, MaskedFourier, RadialMask
from unrolled.operators.noise import with_white_noise
from unrolled.reconstruction.mri import METHODS, kspace_operator, reconstruct_kspace
from unrolled.reconstruction.perturbations import robustness
from unrolled.reconstruction.pipeline import iterates, measure

OPERATOR = BlockCompressedSensing(ratio=0.5, block=11)
IMAGE = picture(22, 33) * 0.5 + 0.25


def network(told=True, **options):
    torch.manual_seed(0)
    made = EPGN(2, 4, noise_range=(0.01, 0.2) if told else None, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
            if parameter.shape == (3, 8):  # of the noise level
                parameter += torch.randn_like(parameter)
    return made.eval()


def with_noise(level, seed=0):
    y = OPERATOR(IMAGE[None])
    return y + level * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_an_image_is_measured_with_noise_and_the_network_is_told():
    for told in (True, False):
        made = network(told)
        expected = made(with_noise(0.1), OPERATOR, noise=0.1 if told else None)[0].clamp(0, 1)
        torch.testing.assert_close(unrolled.reconstruct(IMAGE, made, OPERATOR, noise=0.1), expected)
        torch.testing.assert_close(iterates(IMAGE, made, OPERATOR, noise=0.1)[-1], expected)
        torch.testing.assert_close(unrolled.reconstruct(IMAGE, made, OPERATOR, noise=0.1, tile=11), expected)
        assert (unrolled.reconstruct(IMAGE, made, OPERATOR) - expected).abs().max() > 0.01
    # In the units of the image the noise is that of an image whose white is 1.
    scaled = unrolled.reconstruct(1000 * IMAGE, network(), OPERATOR, noise=0.1, scale=1000.0)
    unclipped = network()(with_noise(0.1), OPERATOR, noise=0.1)[0]
    torch.testing.assert_close(scaled, 1000 * unclipped, rtol=1e-4, atol=1e-2)


@torch.no_grad()
def test_given_measurements_have_their_noise_in_their_own_units():
    y = with_noise(0.1)
    expected = network()(y, OPERATOR, noise=0.1)
    torch.testing.assert_close(unrolled.reconstruct(None, network(), OPERATOR, y=y, noise=0.1), expected.clamp(0, 1))
    found = unrolled.reconstruct(None, network(), OPERATOR, y=1e-5 * y, scale=1e-5, noise=1e-6)
    torch.testing.assert_close(found, 1e-5 * expected, rtol=1e-4, atol=1e-9)
    with pytest.raises(ValueError, match="EPGN: noise must be None, as the network does not take it"):
        unrolled.reconstruct(None, network(told=False), OPERATOR, y=y, noise=0.1)


def test_k_space_too():
    operator = MaskedFourier(RadialMask(0.5), 16, 14, complex_images=True)
    kspace = KSpace(1e-5 * operator(picture(16, 14)[None] + 0j)[0], operator.mask, False)
    made = network(complex_images=True)
    own = kspace_operator(kspace)
    quiet, told = (reconstruct_kspace(kspace, made, own, noise=level) for level in (None, 1e-6))
    assert float((quiet - told).abs().max()) > 1e-3 * float(quiet.max())
    for method, message in (
        (network(told=False, complex_images=True), "EPGN: noise must be None"),
        (METHODS["zero-fill"], "noise: is for networks that take the noise level, got"),
    ):
        with pytest.raises(ValueError, match=message):
            reconstruct_kspace(kspace, method, own, noise=1e-6)


def test_evaluation_is_at_a_noise_level_and_the_same_each_time():
    images = {"one": IMAGE, "two": IMAGE}
    rows = [unrolled.evaluate(network(), images, OPERATOR, noise=0.1)["images"] for _ in range(2)]
    assert [row["psnr"] for row in rows[0]] == [row["psnr"] for row in rows[1]]
    assert rows[0][0]["psnr"] != rows[0][1]["psnr"]  # of the same image with other noise
    start = OPERATOR.estimate(with_noise(0.1, seed=1)).clamp(0, 1)
    error = float((start - IMAGE).square().mean())
    assert rows[0][1]["start_psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_noise_of_complex_measurements_has_its_level_in_both_parts_together():
    operator = MaskedFourier(torch.ones(64, 64), complex_images=True)
    y, noisy = (
        measure(torch.zeros(1, 64, 64) + 0j, network(complex_images=True), operator, level) for level in (None, 0.5)
    )
    assert float((noisy - y).abs().square().mean()) == pytest.approx(0.25, rel=0.1)
    levels = torch.tensor([0.1, 2.0], dtype=torch.float64)
    drawn = with_white_noise(torch.zeros(2, 1, 100, 100), levels).flatten(1).std(1)
    torch.testing.assert_close(drawn.double(), levels, rtol=0.05, atol=0)


def test_robustness_tells_the_level():
    made = network()
    result = robustness(made, OPERATOR, {"a": IMAGE}, methods=[], noise=[0.2], ratios=[], perturbations=[])
    y = OPERATOR(IMAGE[None])
    y = y + 0.2 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = float((made(y, OPERATOR, noise=0.2).clamp(0, 1) - IMAGE).square().mean())
    assert result["noise"]["network"][0] == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_levels_outside_of_those_in_training_are_said():
    with pytest.warns(UserWarning, match=r"trained for levels in 0.01 … 0.2 where white is 1, and is told 0.5"):
        unrolled.reconstruct(IMAGE, network(), OPERATOR, noise=0.5)
    with pytest.warns(UserWarning, match="is told 0"):
        unrolled.evaluate(network(), {"a": IMAGE}, OPERATOR, noise=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unrolled.reconstruct(IMAGE, network(), OPERATOR, noise=0.2)
        unrolled.reconstruct(IMAGE, network(told=False), OPERATOR, noise=0.5)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf"), "0.1", True, [0.1, 0.2]])
def test_what_is_no_level_is_refused(noise):
    for call in (
        lambda: unrolled.reconstruct(IMAGE, network(), OPERATOR, noise=noise),
        lambda: unrolled.evaluate(network(), {"a": IMAGE}, OPERATOR, noise=noise),
        lambda: unrolled.reconstruct(None, network(), OPERATOR, y=with_noise(0.1), noise=noise),
    ):
        with pytest.raises(ValueError, match="noise: must be a standard deviation, a finite number >= 0, got"):
            call()
