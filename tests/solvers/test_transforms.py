"""Every law of a transform, over every transform that exists; and what each of them is."""

import numpy as np
import pytest
import scipy.fft
import torch

from tests.helpers import concrete_subclasses
from unrolled.solvers.transforms import (
    DCT,
    CycleSpinning,
    FiniteDifferences,
    OrthonormalTransform,
    Transform,
    Wavelet,
    scaling_filter,
)

CASES = {
    "dct": (DCT(), (5, 12)),
    "haar": (Wavelet(1, 2), (8, 12)),
    "db4": (Wavelet(4, 1), (6, 4)),  # filters longer than the sides
    "db8": (Wavelet(8, 3), (32, 16)),
    "wavelets at three shifts": (CycleSpinning(Wavelet(1, 2), 3), (8, 12)),
    "db4, odd sides": (Wavelet(4, 3), (13, 7)),
    "db2, down to one pixel": (Wavelet(2, 5), (1, 11)),
    "wavelets at eight shifts, odd sides": (CycleSpinning(Wavelet(2, 2)), (7, 9)),
    "differences": (FiniteDifferences(), (4, 7)),
}
every_transform = pytest.mark.parametrize("name", CASES)


def matrix_of(transform, size):
    """The transform as an explicit matrix, a column for each pixel."""
    count = size[0] * size[1]
    return transform(torch.eye(count, dtype=torch.float64).view(count, *size)).reshape(count, -1).T


def test_every_transform_has_a_case():
    assert {type(transform) for transform, _ in CASES.values()} == set(concrete_subclasses(Transform))


@every_transform
@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_adjoint_is_the_transposed_matrix(name, kind):
    transform, size = CASES[name]
    w = matrix_of(transform, size).to(kind)
    x = torch.randn(2, 3, *size, dtype=kind)
    c = torch.randn_like(transform(x))
    torch.testing.assert_close(transform(x).flatten(2), x.flatten(2) @ w.T, atol=1e-12, rtol=0)
    torch.testing.assert_close(transform.adjoint(c).flatten(2), c.reshape(2, 3, -1) @ w, atol=1e-12, rtol=0)


@every_transform
def test_orthonormal_both_ways_or_bounded_by_its_norm(name):
    transform, size = CASES[name]
    w = matrix_of(transform, size)
    if isinstance(transform, OrthonormalTransform):
        one = torch.eye(len(w), dtype=torch.float64)
        torch.testing.assert_close(w @ w.T, one, atol=1e-12, rtol=0)
        torch.testing.assert_close(w.T @ w, one, atol=1e-12, rtol=0)
    elif isinstance(transform, CycleSpinning):
        torch.testing.assert_close(w.T @ w, torch.eye(w.shape[1], dtype=torch.float64), atol=1e-12, rtol=0)
    else:
        assert 0.5 * transform.norm < torch.linalg.matrix_norm(w, 2) <= transform.norm


@every_transform
def test_in_single_precision_and_differentiable(name):
    transform, size = CASES[name]
    x = torch.randn(1, *size, requires_grad=True)
    c = transform(x)
    assert c.dtype == torch.float32
    (gradient,) = torch.autograd.grad(c, x, c)
    torch.testing.assert_close(gradient, transform.adjoint(c).detach())


def test_dct_is_that_of_scipy():
    x = torch.randn(2, 1, 5, 12, dtype=torch.float64)
    expected = scipy.fft.dctn(x.numpy(), axes=(-2, -1), norm="ortho")
    np.testing.assert_allclose(DCT()(x).numpy(), expected, atol=1e-12)


def test_the_filter_of_two_moments_has_its_closed_form():
    root = np.sqrt(3)
    closed = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2))
    np.testing.assert_allclose(scaling_filter(2), closed, atol=1e-15)


@pytest.mark.parametrize("moments", range(1, 9))
def test_wavelets_have_their_vanishing_moments(moments):
    # Details of polynomials below the order vanish where the filter does not wrap around.
    side = 64
    ramp = (torch.arange(side, dtype=torch.float64) / side) ** (moments - 1)
    details = Wavelet(moments, 1).matrices(side)[0][side // 2 :] @ ramp
    assert details[: side // 2 - moments].abs().max() < 1e-10
    assert (Wavelet(moments, 1).matrices(side)[0][side // 2 :] @ (ramp * torch.arange(side))).abs().max() > 1e-4


def pyramid(transform, side):
    """An axis of so many pixels as an explicit matrix, a column for each pixel."""
    return transform(torch.eye(side, dtype=torch.float64)[:, :, None])[..., 0].T


@pytest.mark.parametrize("moments", range(1, 9))
@pytest.mark.parametrize("levels", [1, 2, 4, 6])
def test_wavelets_of_any_side_are_orthonormal_and_keep_constants_coarse(moments, levels):
    transform = Wavelet(moments, levels)
    for side in range(1, 41):
        w = pyramid(transform, side)
        torch.testing.assert_close(w @ w.T, torch.eye(side, dtype=torch.float64), atol=1e-12, rtol=0)
        coarse = transform.coarsest(side, 1)[0]
        assert coarse == -(-side // 2**levels)  # halved and rounded up, level by level
        assert w.sum(1)[coarse:].abs().max() < 1e-12 if coarse < side else levels == 0 or side == 1


@pytest.mark.parametrize("side", [16, 32, 48, 80])
@pytest.mark.parametrize("moments", [1, 4, 8])
def test_wavelets_of_even_sides_are_a_periodic_filter_bank(moments, side):
    # Each level filters the circular signal and keeps every other sample.
    low = scaling_filter(moments)
    high = [(-1) ** k * tap for k, tap in enumerate(low[::-1])]
    rest = np.random.default_rng(0).normal(size=side)
    found = Wavelet(moments, 3)(torch.from_numpy(rest)[:, None])[:, 0].numpy()
    details = []
    for _ in range(3):
        parts = [
            [sum(tap * rest[(2 * n + k) % len(rest)] for k, tap in enumerate(taps)) for n in range(len(rest) // 2)]
            for taps in (low, high)
        ]
        rest, details = parts[0], parts[1] + details
    np.testing.assert_allclose(found, rest + details, atol=1e-12)


@pytest.mark.parametrize("side", [61, 62, 63])
@pytest.mark.parametrize("moments", [2, 4, 8])
def test_polynomials_have_no_details_inside_of_odd_sides(moments, side):
    # Nor after levels with an odd side: only where a filter meets the edge.
    x = (torch.arange(side, dtype=torch.float64) / side) ** (moments - 1)
    for levels in (1, 2):
        transform = Wavelet(moments, levels)
        last, first = (transform.coarsest(side, 1)[0], -(-side // 2 ** (levels - 1)))
        details = transform(x[:, None])[last:first, 0]
        inside = (first - levels * 2 * moments) // 2
        assert inside > 0 or moments == 8
        assert details[: max(0, inside)].abs().sum() < 1e-9
        assert details.abs().max() > 1e-4


def test_differences_that_the_adjoint_maps_to_an_image():
    for size in [(5, 8), (1, 6), (1, 1)]:
        x = torch.randn(2, 1, *size, dtype=torch.float64)
        d = FiniteDifferences()
        p = d.preimage(x)
        torch.testing.assert_close(d.adjoint(p), x - x.mean((-2, -1), keepdim=True), atol=1e-12, rtol=0)
        least = np.linalg.lstsq(matrix_of(d, size).numpy().T, (x - x.mean((-2, -1), keepdim=True)).reshape(2, -1).T)[0]
        np.testing.assert_allclose(p.reshape(2, -1).T, least, atol=1e-12)


@every_transform
def test_takes_images_as_users_have_them(name):
    transform, size = CASES[name]
    x = (100 * torch.rand(*size)).round()
    expected = transform(x)
    for given in (x.numpy(), x.tolist(), x.long(), x.half(), x.numpy().astype(np.uint8), x.T.contiguous().T):
        assert transform(given).equal(expected)
    assert transform(x.numpy().astype(np.float64)).dtype == torch.float64
    with pytest.raises(ValueError, match="x: must be an array of numbers, got 'image'"):
        transform("image")
    torch.testing.assert_close(transform.adjoint(expected.numpy()), transform.adjoint(expected))


def test_cycle_spinning_is_the_transform_of_shifted_images():
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    spun = CycleSpinning(Wavelet(2, 1))
    for index, shift in enumerate(spun.shifts):
        torch.testing.assert_close(spun(x)[:, :, index], spun.transform(x.roll(shift, (-2, -1))) / 8**0.5)


def test_the_coarsest_coefficients_are_in_the_corner():
    for transform, size in ((DCT(), (1, 1)), (Wavelet(1, 2), (2, 3))):
        c = transform(torch.ones(8, 12, dtype=torch.float64))
        assert transform.coarsest(8, 12) == size
        rest = c.clone()
        rest[: size[0], : size[1]] = 0
        assert rest.abs().max() < 1e-12
        assert c[0, 0] > 1


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match=r"moments must be in 1 … 8, got 9"):
        Wavelet(9)
    with pytest.raises(ValueError, match=r"shifts must be in 1 … 8, got 9"):
        CycleSpinning(DCT(), 9)
    with pytest.raises(ValueError, match="levels must be a whole number >= 1, got 0"):
        Wavelet(levels=0)
    for shape in [(0, 16), (16, 0), (4,)]:
        with pytest.raises(ValueError, match=r"x: must be \(…, height, width\) of at least one pixel"):
            Wavelet(levels=3)(torch.zeros(shape))
