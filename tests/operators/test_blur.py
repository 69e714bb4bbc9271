import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
import yaml

import unrolled
from tests.helpers import picture
from tests.operators.laws import OperatorLaws
from tests.pairs import FULL, pairwise
from unrolled.cli.train import parser
from unrolled.metrics import psnr
from unrolled.networks import EPGN
from unrolled.operators import Blur, BoxKernel, GaussianKernel, MotionKernel

BOUNDARIES = ("circular", "zero", "reflect", "replicate", "valid")
SCIPY = {"circular": "wrap", "zero": "constant", "reflect": "mirror", "replicate": "nearest"}


def random_kernel(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).double()


def blur(kernel, *arguments, **options):
    return lambda: (Blur(kernel, *arguments, **options).double(), (2, 3, 7, 6))


class TestBlur(OperatorLaws):
    """Norms that are exact: those of images of one size, and of means with a circular boundary."""

    operator_class = Blur
    compiled = ("circular, fft", "zero, direct", "reflect, fft", "replicate, direct", "valid, fft")
    cases = {
        **{
            f"{boundary}, {method}": blur(random_kernel(4, 3).abs(), boundary, method, height=7, width=6)
            for boundary in BOUNDARIES
            for method in ("fft", "direct")
        },
        "as large as the image": blur(random_kernel(7, 6).abs(), "reflect", height=7, width=6),
        "one pixel": blur(random_kernel(1, 1), "valid"),
        "motion": blur(MotionKernel(4, 30)),
        "box": blur(BoxKernel(4), "circular", "direct"),
    }


class TestBlurOfAnySize(OperatorLaws):
    """Norms that are bounds."""

    operator_class = Blur
    norm_slack = 2.5
    compiled = ("signed",)
    cases = {boundary: blur(GaussianKernel(1.5, 5), boundary) for boundary in BOUNDARIES[1:]} | {
        "signed": blur(random_kernel(2, 5))
    }


def truth(x: np.ndarray, kernel: np.ndarray, boundary: str) -> np.ndarray:
    if boundary == "valid":
        return scipy.signal.convolve2d(x, kernel, mode="valid")
    return scipy.ndimage.convolve(x, kernel, mode=SCIPY[boundary])


SHAPES = [(1, 1), (3, 5), (4, 4), (2, 7), (12, 12), (13, 17)]


@pytest.mark.parametrize(
    ("shape", "boundary", "method"), pairwise(SHAPES, list(BOUNDARIES), ["fft", "direct", "auto"], whole=FULL)
)
def test_is_the_convolution_of_scipy(boundary, method, shape):
    kernel = random_kernel(*shape)
    x = torch.randn(2, 2, 13, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = Blur(kernel, boundary, method).double()(x)
    for b in range(2):
        for c in range(2):
            np.testing.assert_allclose(y[b, c], truth(x[b, c].numpy(), kernel.numpy(), boundary), atol=1e-11)


def test_a_bright_pixel_becomes_the_kernel_around_its_centre():
    kernel = random_kernel(3, 4)
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[0, 0, 4, 4] = 1
    for method in ("fft", "direct"):
        torch.testing.assert_close(Blur(kernel, "zero", method).double()(x)[0, 0, 3:6, 2:6], kernel)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_adjoint_is_the_transposed_matrix(boundary):
    operator = Blur(random_kernel(4, 3), boundary).double()
    pixels = torch.eye(30, dtype=torch.float64).reshape(30, 1, 5, 6)
    matrix = operator(pixels).flatten(1)  # (pixel, measurement)
    y = random_kernel(*operator(pixels[:1]).shape)
    torch.testing.assert_close(operator.adjoint(y).flatten(), matrix @ y.flatten())


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("size", [(5, 4), (7, 6), (6, 11), (15, 14)])
def test_the_norm_without_a_size_bounds_that_of_every_size(boundary, size):
    for kernel in (random_kernel(5, 4), random_kernel(5, 4).abs(), GaussianKernel(3.0, 4).draw()):
        pixels = torch.eye(size[0] * size[1], dtype=torch.float64).reshape(-1, 1, *size)
        matrix = Blur(kernel, boundary).double()(pixels).flatten(1)
        exact = torch.linalg.matrix_norm(matrix, ord=2)
        assert Blur(kernel, boundary).double().norm() >= exact * (1 - 1e-12)
        torch.testing.assert_close(
            Blur(kernel, boundary, height=size[0], width=size[1]).double().norm(), exact, rtol=1e-4, atol=0
        )


def test_the_norm_of_a_mean_is_one():
    for boundary in ("circular", "zero", "valid"):
        assert Blur(GaussianKernel(1.0), boundary).norm() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kernel", [GaussianKernel(1.0), BoxKernel(4), MotionKernel(7, 60)], ids=str)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_estimate_is_closer_to_a_picture_than_the_adjoint(kernel, boundary):
    operator = Blur(kernel, boundary)
    x = torch.stack([picture(40, 56, seed) for seed in range(4)])
    y = operator(x)
    start = psnr(operator.estimate(y), x)
    assert (start > psnr(operator.adjoint(y), x) + 1).all()
    if boundary not in ("zero", "valid"):
        assert start.mean() > psnr(y, x).mean() + 0.5


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_estimate_is_linear_in_place_and_keeps_the_mean(boundary):
    for kernel in (GaussianKernel(1.0), BoxKernel(4), torch.tensor([[0.0, 1, 0, -1]])):
        operator = Blur(kernel, boundary).double()
        x = torch.stack([picture(20, 30, seed) for seed in (0, 1)]).double()
        y = operator(x)
        combined = operator.estimate(2 * y[:1] - 3 * y[1:])
        torch.testing.assert_close(combined, 2 * operator.estimate(y)[:1] - 3 * operator.estimate(y)[1:])
    # A kernel that moves the image: the estimate moves it back.
    moves = Blur(torch.zeros(3, 6).index_put((torch.tensor(0), torch.tensor(5)), torch.tensor(1.0)), boundary)
    found = moves.estimate(moves(x.float()))
    torch.testing.assert_close(found[..., 4:-4, 6:-6], x.float()[..., 4:-4, 6:-6], atol=1e-5, rtol=0)
    bright = Blur(GaussianKernel(2.0), boundary).estimate(torch.full((1, 1, 30, 30), 0.7))
    torch.testing.assert_close(bright, torch.full_like(bright, 0.7))


def test_weights_carry_the_kernel(tmp_path):
    network, x = EPGN(1, 2).eval(), torch.rand(1, 1, 12, 16)
    for kernel in (GaussianKernel(1.2, 4), random_kernel(3, 2).float()):
        operator = Blur(kernel, "valid", height=12, width=16)
        unrolled.save(tmp_path / "a.safetensors", network, operator)
        _, again = unrolled.load(tmp_path / "a.safetensors")
        assert torch.equal(again(x), operator(x))


def test_a_config_can_name_a_kernel(tmp_path):
    kernel = {"class_path": "unrolled.operators.MotionKernel", "init_args": {"length": 5, "angle": 30}}
    operator = {"class_path": "Blur", "init_args": {"kernel": kernel, "boundary": "reflect"}}
    config = {"network": {"class_path": "EPGN"}, "operator": operator, "training": {"steps": 1}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    made = parser().instantiate(parser().parse_args([f"--config={tmp_path / 'run.yaml'}"])).operator
    assert made.arguments["kernel"] == MotionKernel(5, 30)
    assert made.boundary == "reflect"


def test_stays_in_full_precision_under_autocast():
    x = torch.rand(1, 1, 20, 20)
    for method in ("fft", "direct"):
        operator = Blur(GaussianKernel(1.0), "reflect", method)
        with torch.autocast("cpu", torch.bfloat16):
            y, back, norm = operator(x), operator.adjoint(x), operator.norm()
        assert torch.equal(y, operator(x))
        assert torch.equal(back, operator.adjoint(x))
        assert torch.equal(norm, operator.norm())


def test_bad_arguments_are_refused():
    for options, message in {
        ("circle", "auto"): "boundary must be one of circular, zero, reflect, replicate, valid, got 'circle'",
        ("zero", "fast"): "method must be auto, fft or direct, got 'fast'",
        ("zero", "fft", 5): "both of height and width",
        ("zero", "fft", 2, 9): "kernel of 3 × 3 is larger than the image of 2 × 9",
        ("zero", "fft", 0, 9): "must be multiples of 1",
    }.items():
        with pytest.raises(ValueError, match=f"Blur: .*{message}"):
            Blur(BoxKernel(3), *options)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", ["fft", "direct"])
def test_images_that_do_not_fit_are_refused(boundary, method):
    operator = Blur(BoxKernel(5), boundary, method)
    for shape in [(1, 1, 4, 9), (1, 1, 9, 4)]:
        with pytest.raises(
            ValueError, match=r"kernel of 5 × 5 is larger than the image of . × ., so every measurement"
        ):
            operator(torch.zeros(shape))
    if boundary != "valid":
        with pytest.raises(ValueError, match="kernel of 5 × 5 is larger"):
            operator.adjoint(torch.zeros(1, 1, 4, 9))
    for bad in (torch.zeros(1, 9, 9), torch.zeros(0, 1, 9, 9), torch.zeros(1, 1, 9, 9, dtype=torch.complex64)):
        with pytest.raises(ValueError, match="Blur: images must be real"):
            operator(bad)
        for of_measurements in (operator.adjoint, operator.estimate):
            with pytest.raises(ValueError, match="Blur: measurements must be real"):
                of_measurements(bad)
    sized = Blur(BoxKernel(5), boundary, method, height=8, width=9)
    with pytest.raises(ValueError, match=r"is for images of \(8, 9\) pixels, got \(9, 9\)"):
        sized(torch.zeros(1, 1, 9, 9))
