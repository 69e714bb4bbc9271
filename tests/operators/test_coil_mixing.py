"""Virtual coils against singular values, and against noise of a known covariance."""

import numpy as np
import pytest
import torch

from unrolled.operators.coil_mixing import compression, mixed, whitening


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("coils", [1, 3, 5])
def test_virtual_coils_hold_the_energy_of_the_largest_singular_values(coils):
    y = numbers(5, 5) @ numbers(5, 6 * 7, seed=1)
    matrix = compression(1e-9 * y.view(5, 6, 7), coils)
    torch.testing.assert_close(matrix @ matrix.mH, torch.eye(coils, dtype=torch.complex128))
    virtual = mixed(matrix, y.view(5, 6, 7))
    assert virtual.shape == (coils, 6, 7)
    expected = np.linalg.svd(y.numpy(), compute_uv=False)[:coils]
    np.testing.assert_allclose(np.linalg.svd(virtual.flatten(1).numpy(), compute_uv=False), expected)


def test_whitened_noise_has_the_covariance_1():
    mixing = 1e-6 * numbers(4, 4)
    samples = mixing @ numbers(4, 20000, seed=1)
    matrix = whitening(samples)
    # Of noise of exactly that covariance, and of that of the samples.
    torch.testing.assert_close(matrix @ mixing @ mixing.mH @ matrix.mH, torch.eye(4) + 0j, atol=0.05, rtol=0,
                               check_dtype=False)  # fmt: skip
    white = mixed(matrix, samples.view(4, 100, 200)).flatten(1)
    torch.testing.assert_close(white @ white.mH / 20000, torch.eye(4, dtype=torch.complex128))


def test_maps_are_mixed_as_k_space_is():
    maps, image, matrix = numbers(2, 3, 4, 5), numbers(4, 5, seed=1), numbers(2, 3, seed=2)
    torch.testing.assert_close(mixed(matrix, maps * image), mixed(matrix, maps) * image)
    assert mixed(matrix, maps.to(torch.complex64)).dtype == torch.complex64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compression(numbers(3, 4), 4), "coils: must be at most as many as there are, 3, got 4"),
        (lambda: compression(numbers(3, 4), 0), "coils: must be a whole number >= 1"),
        (lambda: compression(0 * numbers(3, 4), 2), "y: is 0 everywhere"),
        (lambda: compression(numbers(3), 2), r"y: must be \(coil, …\)"),
        (lambda: whitening(numbers(3, 4) / 0), "noise: must be finite"),
        (lambda: whitening(numbers(3, 2)), "noise: of 3 coils must be independent samples, more than there are"),
        (lambda: whitening(numbers(1, 9).expand(2, 9)), "noise: of 2 coils must be independent samples"),
        (lambda: whitening(torch.zeros(2, 9)), "noise: of 2 coils must be independent samples"),
    ],
)
def test_what_cannot_be_mixed_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
