"""Counts of photons: against the exact moments of their law, where they are few."""

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from unrolled.operators import PhotonNoise, Radon


@pytest.mark.parametrize("path", [0.0, 1.5, 4.382, 7.0])
def test_few_counts_have_the_moments_of_their_law(path):
    photons, white, draws = 80.0, 2.0, 200_000
    noise = PhotonNoise(photons, white)
    found = noise(torch.full((draws,), path / white, dtype=torch.float64), torch.Generator().manual_seed(0))
    counts = np.arange(400)
    chance = poisson.pmf(counts, photons * np.exp(-path))
    value = -np.log(np.maximum(counts, 0.5) / photons) / white
    mean = (chance * value).sum()
    deviation = np.sqrt((chance * (value - mean) ** 2).sum())
    assert abs(float(found.mean()) - mean) < 5 * deviation / draws**0.5
    assert float(found.std()) == pytest.approx(deviation, rel=0.02)
    if path < 5:  # down to one photon
        assert abs(mean - path / white) < 0.03


def test_electronics_add_their_variance_to_the_counts():
    noise = PhotonNoise(1000.0, electronic=50.0)
    y = torch.full((200_000,), 0.7, dtype=torch.float64)
    counts = 1000 * (-noise(y, torch.Generator().manual_seed(1))).exp()
    expected = 1000 * np.exp(-0.7)
    assert float(counts.mean()) == pytest.approx(expected, rel=2e-3)
    assert float(counts.var()) == pytest.approx(expected + 50**2, rel=0.02)


def test_water_of_a_known_thickness():
    # 14 cm of water at 0.02 per mm let e^-2.8 of the photons through, whatever white and pixels are.
    white, pixel = 0.08142, 1.4
    water = torch.full((1, 1, 100, 100), 0.02 / white)
    y = Radon([0.0], 100, 100, pixel_size=pixel)(water)[..., 71]
    torch.testing.assert_close(white * y, torch.full_like(y, 2.8), rtol=1e-4, atol=0)
    assert float(PhotonNoise(1e8, white)(y)) == pytest.approx(2.8 / white, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PhotonNoise(0), "photons must be a finite number > 0, got 0"),
        (lambda: PhotonNoise(-1e4), "photons must be"),
        (lambda: PhotonNoise(float("inf")), "photons must be"),
        (lambda: PhotonNoise(1e4, white=0.0), "white must be a finite number > 0"),
        (lambda: PhotonNoise(1e4, electronic=-1.0), "electronic must be a finite number >= 0"),
        (lambda: PhotonNoise(1e4)(torch.tensor([77.0])), r"in \[-1, 30\], got 77 to 77 with white=1; white is"),
        (lambda: PhotonNoise(1e4)(torch.tensor([-3.0])), "got -3 to -3"),
        (lambda: PhotonNoise(1e4)(torch.tensor([torch.nan])), "line integrals of attenuation must be in"),
        (lambda: PhotonNoise(1e4)(torch.ones(2, dtype=torch.complex64)), "PhotonNoise: measurements must be real"),
    ],
)
def test_what_cannot_be_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
