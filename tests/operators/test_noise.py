"""Noise: the same laws for every class."""

import pytest
import torch

from tests.helpers import concrete_subclasses
from unrolled.operators import ComplexGaussianNoise, GaussianNoise, Noise, PhotonNoise, PoissonNoise, SaltAndPepperNoise

CASES = {
    "Gaussian": GaussianNoise(0.3),
    "no Gaussian": GaussianNoise(0.0),
    "complex Gaussian": ComplexGaussianNoise(0.3),
    "Poisson": PoissonNoise(0.2),
    "Poisson, large gain": PoissonNoise(5.0),
    "photons": PhotonNoise(1e6),
    "photons and electronics": PhotonNoise(4e5, white=1.5, electronic=300.0),
    "salt and pepper": SaltAndPepperNoise(0.3),
    "salt and pepper of other levels": SaltAndPepperNoise(0.8, low=-1.0, high=3.0),
    "everything lost": SaltAndPepperNoise(1.0),
}


def measurements(noise: Noise, *shape: int) -> torch.Tensor:
    kind = torch.complex128 if isinstance(noise, ComplexGaussianNoise) else torch.float64
    y = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (y * (1 + 2j) if kind.is_complex else y).to(kind)


def test_every_noise_has_a_case():
    assert {type(noise) for noise in CASES.values()} == set(concrete_subclasses(Noise))


@pytest.mark.parametrize("noise", CASES.values(), ids=CASES)
class TestNoise:
    def test_shape_and_type_stay(self, noise):
        y = measurements(noise, 2, 3, 4, 5)
        kinds = (
            [torch.complex64, torch.complex128] if y.is_complex() else [torch.float32, torch.float64, torch.bfloat16]
        )
        for kind in kinds:
            before = y.to(kind)
            found = noise(before.clone())
            assert (found.shape, found.dtype) == (before.shape, kind)
            assert noise.mean(before).dtype == kind
            assert noise.variance(before).dtype == before.real.dtype

    def test_measurements_are_not_overwritten(self, noise):
        y = measurements(noise, 50)
        before = y.clone()
        noise(y)
        assert torch.equal(y, before)

    def test_a_generator_decides(self, noise):
        y = measurements(noise, 100)
        one, same, other = (noise(y, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert torch.equal(one, other) == (noise.variance(y).max() == 0)
        state = torch.get_rng_state()
        noise(y, torch.Generator().manual_seed(1))
        assert torch.equal(torch.get_rng_state(), state)

    def test_mean_and_variance_are_those_it_states(self, noise):
        y, count = measurements(noise, 5), 100_000
        drawn = noise(y.expand(count, 5), torch.Generator().manual_seed(3))
        mean, variance = noise.mean(y), noise.variance(y)
        # Standard errors: √(σ²/n) of the mean, and of the variance √((m₄ − σ⁴)/n), m₄ from the sample.
        squares = (drawn - mean).abs().square()
        assert ((drawn.mean(0) - mean).abs() <= 5 * (variance / count).sqrt() + 1e-12).all()
        assert ((squares.mean(0) - variance).abs() <= 5 * squares.std(0) / count**0.5 + 1e-12).all()

    def test_numbers_do_not_depend_on_each_other(self, noise):
        y, count = measurements(noise, 5), 100_000
        drawn = noise(y.expand(count, 5), torch.Generator().manual_seed(3)) - noise.mean(y)
        covariance = (drawn[:, :-1].conj() * drawn[:, 1:]).mean(0).abs()
        assert (covariance <= 5 * noise.variance(y).max() / count**0.5 + 1e-12).all()


def test_both_parts_of_complex_noise_are_alike_and_uncorrelated():
    noise = ComplexGaussianNoise(0.5)(torch.zeros(100_000, dtype=torch.complex128), torch.Generator().manual_seed(0))
    covariance = torch.cov(torch.stack([noise.real, noise.imag]))
    torch.testing.assert_close(covariance, 0.125 * torch.eye(2, dtype=torch.float64), atol=2e-3, rtol=0)


def test_counts_are_multiples_of_the_gain():
    y = PoissonNoise(0.25)(torch.full((1000,), 0.6, dtype=torch.float64))
    assert torch.equal(y / 0.25, (y / 0.25).round())
    assert not PoissonNoise(0.25)(torch.zeros(10)).any()


def test_lost_measurements_are_low_or_high_and_the_others_stay():
    y = torch.full((10_000,), 0.5)
    found, counts = SaltAndPepperNoise(0.4, low=-1, high=2)(y).unique(return_counts=True)
    assert found.tolist() == [-1.0, 0.5, 2.0]
    torch.testing.assert_close(counts / 10_000, torch.tensor([0.2, 0.6, 0.2]), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(-0.1), "GaussianNoise: sigma must be .*got -0.1"),
        (lambda: ComplexGaussianNoise(float("nan")), "ComplexGaussianNoise: sigma must be .*got nan"),
        (lambda: PoissonNoise(0.0), "gain must be .*got 0.0"),
        (lambda: PoissonNoise(float("inf")), "gain must be"),
        (lambda: SaltAndPepperNoise(1.1), r"probability must be in \[0, 1\], got 1.1"),
        (lambda: SaltAndPepperNoise(float("nan")), "probability must be"),
        (lambda: SaltAndPepperNoise(0.1, low=1, high=0), "low <= high, got 1 and 0"),
        (lambda: GaussianNoise(1)(torch.ones(2, dtype=torch.complex64)), "ComplexGaussianNoise takes complex ones"),
        (lambda: GaussianNoise(1)(torch.ones(2, dtype=torch.int64)), "real floating-point numbers, got torch.int64"),
        (lambda: ComplexGaussianNoise(1)(torch.ones(2)), "must be complex numbers, got torch.float32"),
        (lambda: PoissonNoise(1)(torch.ones(2, dtype=torch.complex64)), "PoissonNoise: measurements must be real"),
        (lambda: SaltAndPepperNoise(1)(torch.ones(2, dtype=torch.complex64)), "measurements must be real"),
        (lambda: PoissonNoise(1)(torch.tensor([1.0, -0.5])), ">= 0, got -0.5 as least"),
        (lambda: PoissonNoise(1)(torch.tensor([1.0, float("nan")])), "must be finite"),
    ],
)
def test_what_a_noise_cannot_take_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
