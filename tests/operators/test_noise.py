"""Noise: the same laws for every class."""

import math

import numpy as np
import pytest
import torch

from tests.helpers import concrete_subclasses
from unrolled.operators import (
    CoilNoise,
    ComplexGaussianNoise,
    GaussianNoise,
    Noise,
    PhotonNoise,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
    SaltAndPepperNoise,
    SpeckleNoise,
    VaryingGaussianNoise,
)
from unrolled.system.recipes import build, describe

COVARIANCE = torch.tensor([[1.0, 0.3 + 0.4j, 0], [0.3 - 0.4j, 2.0, -0.5j], [0, 0.5j, 0.5]], dtype=torch.complex128) / 9

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
    "counts and electronics": PoissonGaussianNoise(0.2, 0.3),
    "one look": SpeckleNoise(),
    "four looks": SpeckleNoise(4),
    "magnitudes": RicianNoise(0.3),
    "magnitudes of little signal": RicianNoise(5.0),
    "magnitudes of hardly any noise": RicianNoise(1e-3),
    "no noise of magnitudes": RicianNoise(0.0),
    "coils": CoilNoise(COVARIANCE),
    "levels, logarithmic": VaryingGaussianNoise(0.05, 0.5),
    "levels, uniform": VaryingGaussianNoise(0.0, 0.5, "uniform"),
    "levels, shifted": VaryingGaussianNoise(0.0, 0.5, "shifted"),
}


def measurements(noise: Noise, *shape: int) -> torch.Tensor:
    """Of such a shape; where it is one of coils, with three of them."""
    kind = torch.complex128 if isinstance(noise, ComplexGaussianNoise | CoilNoise) else torch.float64
    if isinstance(noise, CoilNoise):
        shape = (*shape[:-1], 3, 1, shape[-1])
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
        drawn = noise(y.expand(count, *y.shape), torch.Generator().manual_seed(3))
        mean, variance = noise.mean(y), noise.variance(y)
        # Standard errors: √(σ²/n) of the mean, and of the variance √((m₄ − σ⁴)/n), m₄ from the sample.
        squares = (drawn - mean).abs().square()
        assert ((drawn.mean(0) - mean).abs() <= 5 * (variance / count).sqrt() + 1e-12).all()
        assert ((squares.mean(0) - variance).abs() <= 5 * squares.std(0) / count**0.5 + 1e-12).all()

    def test_numbers_do_not_depend_on_each_other(self, noise):
        y, count = measurements(noise, 5), 100_000
        drawn = noise(y.expand(count, *y.shape), torch.Generator().manual_seed(3)) - noise.mean(y)
        covariance = (drawn[..., :-1].conj() * drawn[..., 1:]).mean(0).abs()
        assert (covariance <= 5 * noise.variance(y).max() / count**0.5 + 1e-12).all()


def test_a_recipe_makes_the_same_noise():
    for noise in CASES.values():
        assert build(describe(noise), Noise) == noise


def test_noise_of_coils_has_their_covariance_and_is_circular(tmp_path):
    y = torch.zeros(1, 1, 3, 100, 250, dtype=torch.complex128)
    noise = CoilNoise(COVARIANCE)(y, torch.Generator().manual_seed(0))[0, 0].flatten(1)
    torch.testing.assert_close(noise @ noise.mH / 25_000, COVARIANCE, atol=7e-3, rtol=0)
    torch.testing.assert_close(noise @ noise.mT / 25_000, torch.zeros_like(COVARIANCE), atol=7e-3, rtol=0)
    np.save(tmp_path / "covariance.npy", COVARIANCE.numpy())
    assert CoilNoise(str(tmp_path / "covariance.npy")) == CoilNoise(COVARIANCE)
    singular = CoilNoise([[1.0, 1.0], [1.0, 1.0]])(y[:, :, :2])
    torch.testing.assert_close(singular[0, 0, 0], singular[0, 0, 1])


def test_the_mean_of_magnitudes_is_that_of_both_limits():
    noise = RicianNoise(0.5)
    dark, bright = noise.mean(torch.tensor([0.0, 50.0], dtype=torch.float64))
    assert float(dark) == pytest.approx(0.5 * math.sqrt(math.pi / 2), rel=1e-12)
    assert float(bright) == pytest.approx(50 + 0.5**2 / (2 * 50), rel=1e-8)  # y + σ²/2y + …
    assert float(noise.variance(torch.zeros(1))) == pytest.approx((2 - math.pi / 2) * 0.25, rel=1e-6)
    assert noise.mean(torch.tensor(1e6)).isfinite()


def test_speckle_of_one_look_is_exponential():
    drawn = SpeckleNoise()(torch.ones(200_000, dtype=torch.float64), torch.Generator().manual_seed(0))
    for threshold in (0.1, 1.0, 3.0):
        assert float((drawn > threshold).double().mean()) == pytest.approx(math.exp(-threshold), abs=5e-3)


@pytest.mark.parametrize(
    "noise",
    [VaryingGaussianNoise(0.01, 0.3), *(VaryingGaussianNoise(0.0, 0.3, each) for each in ("uniform", "shifted"))],
)
def test_a_level_is_a_function_of_seed_step_and_place(noise):
    levels = noise.levels(0, 3, range(8))
    assert torch.equal(levels[2:5], noise.levels(0, 3, range(2, 5)))
    assert len({*levels.tolist(), *noise.levels(0, 4, range(8)).tolist(), *noise.levels(1, 3, range(8)).tolist()}) == 24
    many = noise.levels(0, 0, range(4000)).double()
    assert noise.low <= many.min() <= many.max() <= noise.high
    parts = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    wanted = torch.tensor([noise.quantile(part) for part in parts.tolist()], dtype=torch.float64)
    for part, level in zip(parts, wanted, strict=True):
        assert float((many < level).double().mean()) == pytest.approx(float(part), abs=0.03)
    x = torch.tensor([0.03, 0.1], dtype=torch.float64)
    below = torch.stack([(many < level).double().mean() for level in x])
    by_hand = {
        "uniform": x / 0.3,
        "logarithmic": (x / 0.01).log() / math.log(30),
        "shifted": ((x + 0.003) / 0.003).log() / math.log(101),
    }
    torch.testing.assert_close(below, by_hand[noise.spread], atol=0.03, rtol=0)


def test_every_image_of_a_batch_has_one_level():
    y = torch.zeros(50, 1, 40, 40)
    spread = VaryingGaussianNoise(0.01, 1.0)(y, torch.Generator().manual_seed(0)).flatten(1)
    halves = spread.view(50, 2, -1).std(2)
    torch.testing.assert_close(halves[:, 0], halves[:, 1], rtol=0.15, atol=0)
    assert halves.max() > 10 * halves.min()


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
        (lambda: PoissonGaussianNoise(0, 1), "PoissonGaussianNoise: gain must be .*got 0"),
        (lambda: PoissonGaussianNoise(1, -1), "PoissonGaussianNoise: sigma must be .*got -1"),
        (lambda: PoissonGaussianNoise(1, 1)(-torch.ones(2)), "PoissonGaussianNoise: measurements must be .* >= 0"),
        (lambda: SpeckleNoise(0), "looks must be a whole number in 1 … 1,000, got 0"),
        (lambda: SpeckleNoise(2.5), "looks must be a whole number"),
        (lambda: RicianNoise(float("inf")), "RicianNoise: sigma must be"),
        (lambda: RicianNoise(1)(torch.ones(2, dtype=torch.complex64)), "RicianNoise: measurements must be real"),
        (lambda: CoilNoise([[1.0, 2.0], [2.0, 1.0]]), "no negative eigenvalue, got one whose least is -1"),
        (lambda: CoilNoise([[1.0, 0.5j], [0.5j, 1.0]]), "covariance must be Hermitian"),
        (lambda: CoilNoise([[1.0, 2.0]]), r"covariance must be \(coil, coil\), got \(1, 2\)"),
        (lambda: CoilNoise([[float("nan")]]), "covariance must be finite"),
        (lambda: CoilNoise(None), "covariance: must be an array"),
        (lambda: CoilNoise([[1.0]])(torch.ones(1, 1, 2, 3, 3) + 0j), r"of 1 coils, got \(1, 1, 2, 3, 3\)"),
        (lambda: CoilNoise([[1.0]])(torch.ones(1, 1, 1, 3, 3)), "must be complex numbers"),
        (lambda: VaryingGaussianNoise(0.2, 0.1), "0 <= low < high, both finite, got 0.2 and 0.1"),
        (lambda: VaryingGaussianNoise(0.1, float("inf")), "both finite"),
        (lambda: VaryingGaussianNoise(0.0, 0.1), "low must be > 0 for a logarithmic spread"),
        (
            lambda: VaryingGaussianNoise(0.1, 0.2, "cosine"),
            "spread must be one of logarithmic, uniform, shifted, got 'cosine'",
        ),
        (lambda: VaryingGaussianNoise(0.1, 0.2)(torch.ones(2, dtype=torch.int64)), "must be real floating-point"),
        (lambda: VaryingGaussianNoise(0.1, 0.2)(torch.tensor(1.0)), "a batch of images, got one number"),
    ],
)
def test_what_a_noise_cannot_take_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
