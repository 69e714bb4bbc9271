import math

import numpy as np
import pytest
import torch

from tests.helpers import picture
from unrolled.data import random_phase, with_fixed_phase, with_phase


def test_a_phase_is_a_polynomial_of_degree_two_over_the_image():
    phase = random_phase(3, 20, 31, generator=torch.Generator().manual_seed(0))
    assert phase.shape == (3, 1, 20, 31)
    rows, columns = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 31), indexing="ij")
    monomials = np.stack([rows**i * columns**j for i in range(3) for j in range(3 - i)], axis=-1).reshape(-1, 6)
    for one in phase.double().flatten(1).numpy():
        fitted, *_ = np.linalg.lstsq(monomials, one, rcond=None)
        np.testing.assert_allclose(monomials @ fitted, one, atol=1e-5)
        assert np.abs(fitted).min() > 1e-3


def test_coefficients_have_the_distribution_that_is_said():
    phase = random_phase(20_000, 3, 3, generator=torch.Generator().manual_seed(0)).double()[:, 0]
    centre = phase[:, 1, 1]
    assert 0 <= centre.min() < 0.01 < 6.27 < centre.max() <= 2 * math.pi + 1e-6
    assert centre.mean() == pytest.approx(math.pi, abs=0.05)
    slope, bend = (phase[:, 2, 1] - phase[:, 0, 1]) / 2, (phase[:, 1, 2] + phase[:, 1, 0]) / 2 - centre
    for coefficient in (slope, bend):
        assert coefficient.mean() == pytest.approx(0, abs=0.05)
        assert coefficient.std() == pytest.approx(math.pi / 2, rel=0.03)


def test_images_keep_their_magnitude_and_channels_share_a_phase():
    torch.manual_seed(0)
    images = torch.stack([torch.cat([picture(9, 11, seed), picture(9, 11, seed + 5)]) for seed in range(2)]) + 0.1
    found = with_phase(images)
    assert found.dtype == torch.complex64
    torch.testing.assert_close(found.abs(), images)
    torch.testing.assert_close(found[:, 0] / images[:, 0], found[:, 1] / images[:, 1])
    assert (found[0, 0].angle() - found[1, 0].angle()).abs().max() > 0.1
    assert with_phase(found) is found
    assert with_phase(images.double()).dtype == torch.complex128


def test_a_fixed_phase_is_a_function_of_the_index_alone():
    image = picture(9, 11)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = with_fixed_phase(image, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(with_fixed_phase(image, 4), first)
    assert not torch.equal(with_fixed_phase(image, 5), first)
    assert torch.equal(with_fixed_phase(first, 9), first)
