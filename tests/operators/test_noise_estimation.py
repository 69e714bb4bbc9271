"""Noise levels that nobody stated: against the levels with which noise was drawn, and their errors against chance."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

import unrolled
from tests.helpers import picture
from unrolled.data import embedded_images
from unrolled.networks import EPGN
from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    CartesianMask,
    Coils,
    Downsampling,
    GaussianKernel,
    Inpainting,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    Radon,
    noise_estimation,
)
from unrolled.operators.noise import with_white_noise
from unrolled.operators.noise_estimation import estimate_noise

PHOTO = embedded_images("test")["camera"][None, :, :192, :256]
OPERATORS = {
    "image": None,
    "blurred": Blur(GaussianKernel(1.2)),
    "smaller": Downsampling(2),
    "holes": Inpainting(keep=0.85, height=192, width=256),
    "radial lines": MaskedFourier(RadialMask(0.3), 192, 256),
    "columns in the middle": MaskedFourier(CartesianMask(3), 192, 256, complex_images=True, centered=True),
    "coils": MultiCoilFourier(Coils(4), CartesianMask(4), 192, 256),
    "line integrals": Radon(90, 192, 256),
}
FINE = {"line integrals": 0.5}
"""Levels from which on the texture of the photograph does not count; elsewhere it is .02."""


def measured(name, level, seed=0):
    operator = OPERATORS[name]
    x = PHOTO if operator is None or not operator.complex_images else PHOTO.to(torch.complex64)
    y = with_white_noise(x if operator is None else operator(x), level, torch.Generator().manual_seed(seed))
    return operator.mask * y if name in ("holes", "radial lines", "columns in the middle", "coils") else y


@pytest.mark.parametrize("name", OPERATORS)
def test_the_level_is_that_of_the_noise(name):
    least = FINE.get(name, 0.02)
    for level in (least, 3 * least, 10 * least):
        found = estimate_noise(measured(name, level), OPERATORS[name])
        assert 0.93 * level < found.level < 1.25 * level + 0.25 * least, str(found)
        assert 0 < found.error < 0.1 * level
    # More noise is never taken for less.
    levels = [estimate_noise(measured(name, level), OPERATORS[name]).level for level in (0.0, least, 2 * least)]
    assert levels == sorted(levels)


@pytest.mark.parametrize("name", ["blurred", "holes", "radial lines", "line integrals"])
def test_the_error_is_how_much_chance_changes_the_level(name):
    operator, shape = OPERATORS[name], measured(name, 0.0).shape
    y = torch.zeros(shape, dtype=measured(name, 0.0).dtype)
    found = [
        estimate_noise(with_white_noise(y, 0.3, torch.Generator().manual_seed(seed)), operator) for seed in range(60)
    ]
    levels = np.array([each.level for each in found])
    assert levels.mean() == pytest.approx(0.3, rel=0.02)
    assert levels.std() == pytest.approx(np.mean([each.error for each in found]), rel=0.4)


def test_its_constants_are_those_of_the_law_of_variances():
    law = scipy.stats.chi2(noise_estimation.SIDE**2)
    assert law.ppf(noise_estimation.SMOOTH) == pytest.approx(noise_estimation.QUANTILE, rel=1e-6)
    assert law.pdf(noise_estimation.QUANTILE) == pytest.approx(noise_estimation.DENSITY, rel=1e-4)


def test_what_has_no_noise_has_none():
    rows, columns = (torch.linspace(0, 1, length, dtype=torch.float64) for length in (200, 180))
    plane = rows[:, None] + columns / 2
    assert estimate_noise(plane[None, None]).level < 1e-9
    clipped = torch.where(picture(200, 180) > 0.5, 1.0, 0.0)[None]
    clipped[..., :100] = 0
    assert estimate_noise(torch.zeros(1, 1, 100, 100)).level == 0
    assert math.isfinite(estimate_noise(clipped).level)


def test_where_nothing_tells_noise_from_signal_it_is_refused():
    for operator, message in (
        (BlockCompressedSensing(ratio=0.5, block=4), "cannot be estimated from measurements by BlockCompressedSensing"),
        (Inpainting(keep=0.1, height=40, width=40), "places where neighbours were measured, 200 are needed"),
        (MaskedFourier(RadialMask(0.2), 24, 24), "samples, 200 are needed"),
    ):
        sides = (40, 40) if operator.image_shape is None else operator.image_shape[1:]
        with pytest.raises(ValueError, match=f"noise: .*{message}.*; give its level"):
            estimate_noise(operator(picture(*sides)[None]), operator)
    with pytest.raises(ValueError, match=r"of the shape \(1, 1, 2, 50\)"):
        estimate_noise(torch.zeros(1, 1, 2, 50))


def test_a_network_is_told_the_estimate_where_no_level_is_given():
    torch.manual_seed(0)
    network, operator = EPGN(1, 4, noise_range=(0.01, 0.3)).eval(), OPERATORS["blurred"]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    y = torch.cat([measured("blurred", level) for level in (0.03, 0.2)])
    levels = [estimate_noise(y[index : index + 1], operator).level for index in (0, 1)]
    with pytest.warns(UserWarning, match="noise: no level was given, and 0.03.* ± .*, 0.2.* is estimated"):
        found = unrolled.reconstruct(y=y, network=network, operator=operator)
    for index, level in enumerate(levels):
        alone = unrolled.reconstruct(y=y[index : index + 1], network=network, operator=operator, noise=level)
        torch.testing.assert_close(found[index : index + 1], alone, atol=1e-5, rtol=0)
    other = unrolled.reconstruct(y=y[:1], network=network, operator=operator, noise=0.2)
    assert (found[:1] - other).abs().max() > 1e-3
    blocks = BlockCompressedSensing(ratio=0.5, block=4)
    with pytest.warns(UserWarning, match="give its level; until then 0.01 is assumed"):
        unrolled.reconstruct(y=blocks(PHOTO), network=network, operator=blocks)
