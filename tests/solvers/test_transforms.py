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
