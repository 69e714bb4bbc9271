"""Proximal maps of priors against their objective, minimised by another program."""

import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from skimage.restoration import denoise_tv_chambolle

from tests.helpers import concrete_subclasses
from unrolled.penalties import L1, MCP, Filters, Grouped, LogSum
from unrolled.solvers.priors import Prior, SparsePrior, TotalVariation
from unrolled.solvers.transforms import DCT, CycleSpinning, FiniteDifferences, Wavelet

CONVEX = {
    "l1 in DCT": SparsePrior(L1(), 0.3, DCT()),
    "l1 in wavelets, coarsest spared": SparsePrior(L1(), 0.3, Wavelet(2, 1), spare_coarsest=True),
    "l1 in wavelets at three shifts": SparsePrior(
        L1(), 0.3, CycleSpinning(Wavelet(1, 1), 3), True, iterations=3000, tolerance=0.0
    ),
    "l1 of differences": SparsePrior(L1(), 0.2, FiniteDifferences(), iterations=3000, tolerance=0.0),
    "isotropic": TotalVariation(0.2, iterations=3000, tolerance=0.0),
    "anisotropic": TotalVariation(0.2, isotropic=False, iterations=3000, tolerance=0.0),
}
every_prior = pytest.mark.parametrize("name", CONVEX)
kinds = pytest.mark.parametrize("kind", [torch.float64, torch.complex128])


def image(kind=torch.float64, shape=(1, 1, 4, 4)):
    return torch.randn(shape, dtype=kind, generator=torch.Generator().manual_seed(3))


def objective(prior, z, v, step):
    return ((z - v).abs().square().flatten(1).sum(1) / 2 + step * prior.value(z)).sum()


def test_every_prior_has_a_case():
    assert {type(prior) for prior in CONVEX.values()} == set(concrete_subclasses(Prior))


@every_prior
@kinds
def test_nothing_near_the_prox_is_better(name, kind):
    # The objectives are strongly convex: what beats all its neighbours, near and far, is the minimum.
    prior, v = CONVEX[name], image(kind)
    z = prior.prox(v, 0.7)
    best = objective(prior, z, v, 0.7)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-6, 1e-4, 1e-2, 1, 10):
        for _ in range(50):
            other = z + size * torch.randn(z.shape, dtype=kind, generator=generator)
            assert objective(prior, other, v, 0.7) >= best - 1e-13
    assert objective(prior, v, v, 0.7) > best


@pytest.mark.parametrize("isotropic", [True, False])
def test_total_variation_as_a_general_program_solves_it(isotropic):
    v, step = image(), 0.7
    prior = TotalVariation(0.2, isotropic, iterations=5000, tolerance=0.0)
    d = FiniteDifferences()
    matrix = d(torch.eye(16, dtype=torch.float64).view(16, 4, 4)).reshape(16, 32).T.numpy()
    radius = step * 0.2

    def dual(p):  # max over |p| <= radius of the dual: min ½‖v − Dᵀp‖²
        residual = v.numpy().ravel() - matrix.T @ p
        return residual @ residual / 2, -matrix @ residual

    if isotropic:
        constraint = {"type": "ineq", "fun": lambda p: radius**2 - p[:16] ** 2 - p[16:] ** 2,
                      "jac": lambda p: np.hstack([-2 * np.diag(p[:16]), -2 * np.diag(p[16:])])}  # fmt: skip
        found = scipy.optimize.minimize(
            dual,
            np.zeros(32),
            jac=True,
            method="SLSQP",
            constraints=constraint,
            options={"ftol": 1e-15, "maxiter": 500},
        )
    else:
        found = scipy.optimize.minimize(
            dual,
            np.zeros(32),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-radius, radius)] * 32,
            options={"ftol": 1e-16, "gtol": 1e-10},
        )
    expected = torch.from_numpy(v.numpy().ravel() - matrix.T @ found.x).view(1, 1, 4, 4)
    torch.testing.assert_close(prior.prox(v, step), expected, atol=2e-6, rtol=0)


def test_total_variation_of_a_step_in_closed_form():
    # Of two flat halves: each moves towards the other by strength over its width.
    v = torch.zeros(1, 1, 1, 10, dtype=torch.float64)
    v[..., 6:] = 1
    expected = torch.where(v == 0, 0.3 / 6, 1 - 0.3 / 4).double()
    torch.testing.assert_close(
        TotalVariation(0.3, iterations=4000, tolerance=0.0).prox(v, 1.0), expected, atol=1e-7, rtol=0
    )
    assert TotalVariation(0.3).value(v).item() == pytest.approx(0.3)


@every_prior
@kinds
def test_coefficients_of_the_prox_by_moreau(name, kind):
    # h is recovered from its own prox: for z = prox(c), (c − z)/step is a subgradient, ⟨·, z⟩ = h(z) for norms.
    prior, x = CONVEX[name], image(kind)
    c = prior.transform(x)
    z = prior.prox_coefficients(c, 0.7)
    subgradient = (c - z) / 0.7
    pairing = (subgradient.conj() * z).real.sum()
    if isinstance(prior, TotalVariation) and prior.isotropic:
        expected = prior.strength * z.abs().square().sum(-3).sqrt().sum()
    else:
        counted = z.abs()
        if isinstance(prior, SparsePrior) and prior.spare_coarsest:
            counted[..., :2, :2] = 0
        expected = prior.strength * counted.sum()
    torch.testing.assert_close(pairing, expected)


def test_anisotropic_total_variation_is_l1_of_differences():
    v = image()
    torch.testing.assert_close(CONVEX["l1 of differences"].prox(v, 0.7), CONVEX["anisotropic"].prox(v, 0.7))


@pytest.mark.parametrize("penalty", [MCP(), LogSum(0.1), Grouped(L1(), Filters())])
def test_any_penalty_in_an_orthonormal_transform(penalty):
    prior, v = SparsePrior(penalty, 0.3, DCT()), image()
    best = objective(prior, prior.prox(v, 0.5), v, 0.5)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-4, 1e-2, 1):
        for _ in range(100):
            other = prior.prox(v, 0.5) + size * torch.randn(v.shape, dtype=v.dtype, generator=generator)
            assert objective(prior, other, v, 0.5) >= best - 1e-12


def test_the_spared_coefficients_are_left():
    prior = SparsePrior(L1(), 100.0, Wavelet(1, 2), spare_coarsest=True)
    v = image(shape=(1, 1, 8, 8))
    means = v.view(1, 1, 2, 4, 2, 4).mean((3, 5))
    torch.testing.assert_close(prior.prox(v, 1.0), means.repeat_interleave(4, -1).repeat_interleave(4, -2))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("strength", [1.0, 100.0, 1e6])
def test_a_strong_total_variation_leaves_the_mean(strength, kind):
    v = torch.rand(2, 1, 30, 41, dtype=kind, generator=torch.Generator().manual_seed(0))
    v[1] *= 1e-3
    z = TotalVariation(strength).prox(v, 1.0)
    torch.testing.assert_close(z, v.mean((2, 3), keepdim=True).expand_as(v), atol=1e-6, rtol=1e-6)


def test_strong_sparsity_at_several_shifts_leaves_nothing():
    v = image(shape=(1, 1, 8, 8))
    assert SparsePrior(L1(), 100.0, CycleSpinning(Wavelet(1, 2))).prox(v, 1.0).abs().max() < 1e-12


@pytest.mark.parametrize("strength", [0.02, 0.2])
def test_total_variation_is_nearer_than_that_of_scikit_image(strength):
    # Which minimises the same, with differences that end at the edge as well.
    generator = torch.Generator().manual_seed(0)
    v = torch.zeros(1, 1, 24, 24, dtype=torch.float64)
    v[..., 6:15, 9:20] = 1
    v += 0.1 * torch.randn(v.shape, dtype=v.dtype, generator=generator)
    prior = TotalVariation(strength)
    z = prior.prox(v, 1.0)
    other = torch.from_numpy(denoise_tv_chambolle(v[0, 0].numpy(), strength, eps=1e-10, max_num_iter=2000))[None, None]
    torch.testing.assert_close(z, other, atol=0.02, rtol=0)
    best, reached = objective(prior, z, v, 1.0), objective(prior, other, v, 1.0)
    assert best <= reached * (1 + prior.tolerance)
    assert reached <= 1.01 * best


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1e6, 1e25])
def test_the_prox_has_no_units(scale):
    v = image(torch.float32, (2, 1, 8, 8))
    for isotropic in (True, False):
        prior = TotalVariation(0.3, isotropic)
        torch.testing.assert_close(prior.prox(scale * v, scale) / scale, prior.prox(v, 1.0), atol=1e-5, rtol=0)


def test_images_of_a_batch_have_a_prox_of_their_own():
    v = image(shape=(3, 1, 8, 8)) * torch.tensor([1.0, 1e-3, 30.0], dtype=torch.float64).view(3, 1, 1, 1)
    prior = TotalVariation(0.3)
    torch.testing.assert_close(prior.prox(v, 1.0), torch.cat([prior.prox(each[None], 1.0) for each in v]))


def test_a_prox_that_was_not_found_says_so():
    v = image(shape=(1, 1, 16, 16))
    exact = TotalVariation(0.3, tolerance=1e-12, iterations=5000).prox(v, 1.0)
    for prior in (TotalVariation(0.3, iterations=5), SparsePrior(L1(), 0.3, FiniteDifferences(), iterations=5)):
        with pytest.warns(UserWarning, match=f"{type(prior).__name__}: after 5 iterations .* give the prior more"):
            z = prior.prox(v, 1.0)
    prior = TotalVariation(0.3, iterations=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        z = prior.prox(v, 1.0)
    gap = float(str(caught[0].message).split("minimum by ")[1].split()[0])
    reached, least = objective(prior, z, v, 1.0), objective(prior, exact, v, 1.0)
    assert 1e-4 * reached < reached - least <= 1.01 * gap * reached  # the certificate holds


@every_prior
def test_takes_images_as_users_have_them(name):
    prior, v = CONVEX[name], (10 * image(torch.float32)).round()
    expected = prior.prox(v, 0.5)
    for given in (v.numpy(), v.tolist(), v.long(), v.half()):
        torch.testing.assert_close(prior.prox(given, np.float32(0.5)), expected)
        torch.testing.assert_close(prior.value(given), prior.value(v))
    for step in (0.0, -1.0, float("nan"), "1", True):
        with pytest.raises(ValueError, match="step must be a finite number > 0"):
            prior.prox(v, step)
    with pytest.raises(ValueError, match="v: must be an array of numbers"):
        prior.prox("image", 1.0)


def test_bad_arguments_are_refused_by_name():
    for make in (lambda s: SparsePrior(L1(), s, DCT()), lambda s: TotalVariation(s)):
        for strength in (0.0, -1.0, float("nan"), float("inf"), True, "1"):
            with pytest.raises(ValueError, match="strength must be a finite number > 0"):
                make(strength)
    with pytest.raises(ValueError, match="TotalVariation: iterations must be a whole number >= 1, got 0"):
        TotalVariation(1.0, iterations=0)
    with pytest.raises(ValueError, match="map in FiniteDifferences needs the penalty L1, got MCP"):
        SparsePrior(MCP(), 1.0, FiniteDifferences()).prox(image(), 1.0)
    with pytest.raises(ValueError, match="FiniteDifferences has no coarsest scale"):
        SparsePrior(L1(), 1.0, FiniteDifferences(), spare_coarsest=True)
    with pytest.raises(ValueError, match="spare_coarsest needs a penalty of single numbers"):
        SparsePrior(Grouped(L1(), Filters()), 1.0, DCT(), spare_coarsest=True)


@pytest.mark.parametrize("prior", [TotalVariation(0.1), SparsePrior(L1(), 0.1, DCT())])
def test_priors_are_of_batches_of_images(prior):
    for call in (prior.value, lambda x: prior.prox(x, 1.0)):
        with pytest.raises(ValueError, match=r"must be \(batch, channel, height, width\)"):
            call(torch.zeros(5, 6))
