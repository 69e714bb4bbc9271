import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image

from tests.helpers import write_matrix
from unrolled.operators import Blur, BoxKernel, Downsampling, GaussianKernel, Kernel, MotionKernel, ShakeKernel
from unrolled.operators.kernels import ANTIALIASING, antialiasing
from unrolled.system.recipes import build, describe

KERNELS = [
    GaussianKernel(0.8),
    GaussianKernel(2.0, 6),
    BoxKernel(4),
    MotionKernel(7.5, 30),
    MotionKernel(0.4, 10),
    MotionKernel(6, -135),
    ShakeKernel(9),
    ShakeKernel(0.3, 1.0, 5),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_drawn_kernels_are_means_around_their_middle(kernel):
    drawn = kernel.draw()
    assert drawn.dtype == torch.float64
    assert drawn.min() >= 0
    torch.testing.assert_close(drawn.sum(), torch.tensor(1.0, dtype=torch.float64))
    if not isinstance(kernel, ShakeKernel):  # whose path is of no symmetric form
        torch.testing.assert_close(drawn, drawn.flip(0, 1))
    for axis in (0, 1):
        places = torch.arange(drawn.shape[axis], dtype=torch.float64) - (drawn.shape[axis] - 1) / 2
        assert abs(float(drawn.sum(1 - axis) @ places)) < 1e-9


def test_a_gaussian_is_that_of_scipy():
    impulse = np.zeros((21, 21))
    impulse[10, 10] = 1
    filtered = scipy.ndimage.gaussian_filter(impulse, 1.7, radius=6)
    np.testing.assert_allclose(GaussianKernel(1.7).draw(), filtered[4:17, 4:17], atol=1e-12)


def test_a_box_is_a_mean():
    assert torch.equal(BoxKernel(2).draw(), torch.full((2, 2), 0.25, dtype=torch.float64))


def test_straight_motion_is_a_mean_of_pixels():
    row = torch.full((1, 5), 0.2, dtype=torch.float64)
    torch.testing.assert_close(MotionKernel(5, 0).draw(), row)
    torch.testing.assert_close(MotionKernel(5, 180).draw(), row)
    torch.testing.assert_close(MotionKernel(5, 90).draw(), row.T)


def test_diagonal_motion_goes_up_to_the_right():
    drawn = MotionKernel(3 * math.sqrt(2), 45).draw()
    torch.testing.assert_close(drawn, torch.eye(3, dtype=torch.float64).flip(0) / 3, atol=1e-8, rtol=0)


@pytest.mark.parametrize("angle", [10, 37, 81, 120, 200])
def test_motion_is_where_many_points_of_the_path_are(angle):
    drawn = MotionKernel(11.3, angle).draw()
    middle = torch.tensor(drawn.shape) // 2
    place = (torch.arange(200_001, dtype=torch.float64) / 200_000 - 0.5) * 11.3
    rows = torch.round(-place * math.sin(math.radians(angle))).long() + middle[0]
    columns = torch.round(place * math.cos(math.radians(angle))).long() + middle[1]
    counted = torch.zeros_like(drawn)
    counted.index_put_((rows, columns), torch.full_like(place, 1 / len(place)), accumulate=True)
    torch.testing.assert_close(drawn, counted, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("length", "shaking", "seed"), [(17.0, 0.0, 1), (21.0, 0.5, 7), (9.0, 1.0, 2**32 - 1)])
def test_a_shaken_camera_spends_its_time_along_a_path_of_the_length(length, shaking, seed):
    drawn = ShakeKernel(length, shaking, seed).draw()
    # The path by its definition, at other moments; what falls on a pixel is weighed by tents.
    amplitudes = np.random.RandomState(seed).standard_normal((32, 2))
    moments = (np.arange(20_000) + 0.5) / 20_000
    path = sum(
        amplitudes[k - 1] * k ** (1.5 * shaking - 3) * np.cos(np.pi * k * moments)[:, None] for k in range(1, 33)
    )
    path = path * length / np.ptp(path, axis=0).max()
    path = path - path.mean(0)
    places = np.arange(drawn.shape[0]) - drawn.shape[0] // 2
    rows, columns = (np.maximum(0, 1 - np.abs(path[:, axis : axis + 1] - places)) for axis in (0, 1))
    np.testing.assert_allclose(drawn, rows.T @ columns / len(moments), atol=0.003)
    assert max((drawn.sum(axis) > 0).sum() for axis in (0, 1)) in (length, length + 1, length + 2)
    assert torch.equal(drawn, ShakeKernel(length, shaking, seed).draw())


def test_the_rougher_the_longer_is_the_way_of_a_shaken_camera():
    def way(shaking, seed):
        return np.linalg.norm(np.diff(ShakeKernel(9, shaking, seed)._path(), axis=0), axis=1).sum()

    ways = [np.mean([way(shaking, seed) for seed in range(20)]) for shaking in (0, 0.5, 1)]
    assert ways[0] < ways[1] < ways[2]


@pytest.mark.parametrize("name", ANTIALIASING)
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_antialiasing_kernels_have_the_middle_of_the_square(name, factor):
    drawn = antialiasing(name, factor)
    assert drawn.shape[0] % 2 == factor % 2
    torch.testing.assert_close(drawn, drawn.flip(0, 1))
    torch.testing.assert_close(drawn.sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernels_survive_a_recipe(kernel):
    for operator in (Blur(kernel, "reflect"), Downsampling(2, kernel)):
        again = build(describe(operator), type(operator), Kernel)
        assert again.arguments == operator.arguments
        assert torch.equal(again.kernel, operator.kernel)


@pytest.mark.parametrize("suffix", [".npy", ".mat", ".h5"])
def test_kernels_from_files(tmp_path, suffix):
    kernel = np.random.default_rng(0).normal(size=(3, 4))
    path = write_matrix(tmp_path / f"k{suffix}", kernel)
    np.testing.assert_allclose(Blur(path).kernel, kernel, rtol=1e-6)
    np.testing.assert_allclose(Downsampling(2, str(path)).kernel, kernel, rtol=1e-6)


def test_a_kernel_may_be_a_picture(tmp_path):
    drawn = ShakeKernel(9, seed=2).draw()
    levels = (65535 * drawn / drawn.max()).round().numpy().astype(np.uint16)
    for name, picture in (("k.png", levels), ("k.tif", levels), ("bytes.PNG", (levels / 257).astype(np.uint8))):
        Image.fromarray(picture).save(tmp_path / name)
        np.testing.assert_allclose(Blur(tmp_path / name).kernel, drawn, atol=1e-5 if name.startswith("k") else 1e-3)
    Image.new("L", (5, 5)).save(tmp_path / "black.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name, message in (
        ("black.png", "kernel must be a picture of at most 4096 pixels a side that is not black, got .* of 5 × 5"),
        ("broken.png", "Blur: kernel cannot be read from .*broken.png"),
        ("missing.png", "Blur: kernel cannot be read from .*missing.png"),
    ):
        with pytest.raises(ValueError, match=message):
            Blur(str(tmp_path / name))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianKernel(0.0), r"GaussianKernel: sigma must be in \(0, 512\], got 0.0"),
        (lambda: GaussianKernel(math.nan), "sigma must be in"),
        (lambda: GaussianKernel(1e9), "sigma must be in"),
        (lambda: GaussianKernel(1.0, 0), "GaussianKernel: size must be in 1 … 4096, got 0"),
        (lambda: BoxKernel(5000), "BoxKernel: size must be in 1 … 4096"),
        (lambda: MotionKernel(-1.0), r"MotionKernel: length must be in \(0, 4096\], got -1.0"),
        (lambda: MotionKernel(3.0, math.inf), "MotionKernel: angle must be a finite number"),
        (lambda: ShakeKernel(0.0), r"ShakeKernel: length must be in \(0, 4096\], got 0.0"),
        (lambda: ShakeKernel(9, 1.1), r"ShakeKernel: shaking must be in \[0, 1\], got 1.1"),
        (lambda: ShakeKernel(9, 0.5, -1), r"ShakeKernel: seed must be in \[0, 2\^32\), got -1"),
        (lambda: Blur(torch.ones(3)), "must be .rows, columns., got shape"),
        (lambda: Blur(torch.full((3, 3), torch.nan)), "must be finite"),
        (lambda: Blur(torch.zeros(3, 3)), "Blur: kernel must not be 0 everywhere"),
        (lambda: Blur(torch.ones(3, 3, dtype=torch.complex64)), "Blur: kernel must be real"),
        (lambda: Blur("nowhere.npy"), "no file nowhere.npy"),
        (lambda: Downsampling(2, "cubic"), "one of bicubic, bilinear, box, gaussian, or numbers, got 'cubic'"),
        (lambda: Downsampling(2, torch.tensor([[0.1, 0.2, -0.3]])), "kernel must have a sum other than 0"),
    ],
)
def test_bad_kernels_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
