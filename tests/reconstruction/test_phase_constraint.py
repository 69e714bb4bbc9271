import numpy as np
import pytest
import torch

from unrolled.data.kspace_layout import one_sided, symmetric_reach
from unrolled.operators import CartesianMask, Coils, FastMRIMask, Identity, MaskedFourier, MultiCoilFourier, RadialMask
from unrolled.operators.frequencies import hann
from unrolled.reconstruction.mri import METHODS
from unrolled.reconstruction.phase_constraint import partial_fourier


def transform(x: np.ndarray, centered: bool) -> np.ndarray:
    axes = (-2, -1)
    if not centered:
        return np.fft.fft2(x, norm="ortho")
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), norm="ortho"), axes)


def one_sided_mask(height: int, width: int, centered: bool) -> np.ndarray:
    mask = np.zeros((height, width))
    mask[:, width // 4 :] = 1
    return mask if centered else np.fft.ifftshift(mask)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("coils", [None, 2])
def test_it_is_the_least_squares_image_with_little_of_another_phase(centered, coils):
    height, width = 6, 8
    mask = one_sided_mask(height, width, centered)
    draw = np.random.default_rng(0)
    maps = np.ones((1, height, width)) if coils is None else Coils(coils).draw(height, width).numpy()
    image = draw.normal(size=(height, width)) + 1j * draw.normal(size=(height, width))
    y = mask * transform(maps * image, centered)
    # Rows reach from −2 to 2 on both sides, columns from −2 to 2.
    window = np.outer(1 + np.cos(np.pi * (np.arange(6) - 3) / 3), 1 + np.cos(np.pi * (np.arange(8) - 4) / 3))
    window *= np.outer(abs(np.arange(6) - 3) <= 2, abs(np.arange(8) - 4) <= 2)
    window = window if centered else np.fft.ifftshift(window)
    every = np.eye(height * width).reshape(-1, 1, height, width)
    matrix = mask * transform(maps * every, centered)  # a row for each pixel
    low = np.array([np.vdot(row, window * y) for row in matrix]).reshape(height, width)
    phase = low / abs(low)
    # In real numbers: the measurements of every pixel's real and imaginary unit, and its part of another phase.
    columns = np.concatenate([matrix, 1j * matrix]).reshape(2 * height * width, -1).T
    units = np.concatenate([np.eye(height * width), 1j * np.eye(height * width)], 1)
    other = np.sqrt(0.3) * (phase.conj().reshape(-1, 1) * units).imag
    stacked = np.concatenate([columns.real, columns.imag, other])
    x = np.linalg.lstsq(stacked, np.concatenate([y.real.ravel(), y.imag.ravel(), np.zeros(len(other))]), rcond=None)[0]
    options = {"complex_images": True, "centered": centered}
    operator = MaskedFourier(mask, **options) if coils is None else MultiCoilFourier(maps, mask, **options)
    given = torch.from_numpy(y if coils else y[0])[None, None]
    found = partial_fourier(given, operator.double(), 0.3, 200)[0, 0].numpy()
    np.testing.assert_allclose(found, (x[: height * width] + 1j * x[height * width :]).reshape(6, 8), atol=1e-4)


def test_the_side_that_was_not_measured_is_filled_in():
    rows, columns = np.mgrid[-1:1:48j, -1:1:40j]
    image = (np.hypot(rows, columns) < 0.7) * (1 + 0.5 * np.sin(9 * columns)) * np.exp(1j * (0.6 * columns - rows))
    mask = one_sided_mask(48, 40, True)
    operator = MaskedFourier(mask, complex_images=True, centered=True)
    y = torch.from_numpy(mask * transform(image, True)).to(torch.complex64)[None, None]
    error = {
        name: float(np.linalg.norm(METHODS[name](y, operator)[0, 0].numpy() - image))
        for name in ("zero-fill", "partial-fourier")
    }
    assert error["partial-fourier"] < 0.2 * error["zero-fill"]


def test_what_has_no_phase_is_refused():
    y = torch.ones(1, 1, 4, 5, dtype=torch.complex64)
    mask = np.ones((4, 5))
    for operator in (Identity(), MaskedFourier(mask)):
        with pytest.raises(ValueError, match="partial_fourier: operator must be a Fourier transform of complex images"):
            partial_fourier(y, operator)
    mask[:2] = 0
    with pytest.raises(ValueError, match="the zero frequency must be measured"):
        partial_fourier(y, MaskedFourier(mask, complex_images=True))


@pytest.mark.parametrize("centered", [False, True])
def test_partial_fourier_is_recognised_and_no_other_mask(centered):
    mask = torch.from_numpy(one_sided_mask(32, 40, True))
    both = mask.clone()
    both[20:] = 0
    mixed = mask * (torch.arange(40) % 2 == 0)
    drawn = [CartesianMask(8, 0.04, seed=seed) for seed in range(9)] + [RadialMask(0.2)]
    drawn += [FastMRIMask(8, 0.04, kind, 3) for kind in ("random", "equispaced", "magic")]
    for given, expected in [
        (mask, {"width": 0.75}),
        (mask.T, {"height": 0.75}),
        (both, {"height": 20 / 32, "width": 0.75}),
        (mixed, {"width": 29 / 40}),
        *((torch.fft.fftshift(each.draw(64, 320)), {}) for each in drawn),
        (torch.ones(7, 8), {}),
    ]:
        assert one_sided(given if centered else torch.fft.ifftshift(given), centered) == expected


def test_the_reach_on_both_sides():
    for lines, reach in (
        ("111111", 2),
        ("0111111", 2),
        ("11111", 2),
        ("01110", 1),
        ("1011", 0),
        ("1101", -1),
        ("1", 0),
        ("11011", -1),
    ):
        assert symmetric_reach(torch.tensor([line == "1" for line in lines])) == reach, lines
    np.testing.assert_allclose(hann(5, 1, torch.ones(1)).numpy(), [0, 0.5, 1, 0.5, 0], atol=1e-15)
    np.testing.assert_array_equal(hann(4, -1, torch.ones(1)).numpy(), np.zeros(4))
