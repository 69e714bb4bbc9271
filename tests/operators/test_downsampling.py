import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from PIL import Image

import unrolled
from tests.helpers import picture
from tests.operators.laws import OperatorLaws
from tests.pairs import FULL, pairwise
from unrolled.metrics import psnr
from unrolled.networks import EPGN
from unrolled.operators import Downsampling, GaussianKernel, Kernel
from unrolled.system.recipes import build, describe

SCIPY = {"circular": "wrap", "zero": "constant", "reflect": "mirror", "replicate": "nearest"}


def random_kernel(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)).double()


def downsampling(shape, *arguments, **options):
    return lambda: (Downsampling(*arguments, **options).double(), (2, 3, *shape))


class TestDownsampling(OperatorLaws):
    """Norms that are exact: those of images of one size, and of means of squares."""

    operator_class = Downsampling
    compiled = ("bicubic", "bilinear")
    cases = {
        "bicubic": downsampling((8, 12), 2, method="direct", height=8, width=12),
        "bicubic, circular": downsampling((12, 15), 3, "bicubic", "circular", height=12, width=15),
        "bilinear": downsampling((9, 15), 3, "bilinear", "reflect", "fft", height=9, width=15),
        "gaussian": downsampling((8, 6), 2, "gaussian", "zero", height=8, width=6),
        "box": downsampling((12, 8), 4, "box"),
        "even and odd": downsampling((8, 6), 2, random_kernel(5, 4), "replicate", "fft", height=8, width=6),
        "one pixel": downsampling((6, 9), 3, torch.ones(1, 1)),
    }


class TestDownsamplingOfAnySize(OperatorLaws):
    """Norms that are bounds."""

    operator_class = Downsampling
    norm_slack = 1.8
    compiled = ("bicubic",)
    cases = {
        "bicubic": downsampling((18, 12), 3),
        "own kernel": downsampling((8, 10), 2, GaussianKernel(1.0, 5), "reflect"),
    }


def inside(x: torch.Tensor, border: int) -> torch.Tensor:
    return x[..., border:-border, border:-border]


@pytest.mark.parametrize(
    ("factor", "named", "boundary"),
    pairwise([1, 2, 3, 4, 5], [("bicubic", 2), ("bilinear", 1)], list(SCIPY), whole=FULL),
)
def test_is_the_antialiased_resizing_of_torch(factor, named, boundary):
    name, border = named
    x = torch.rand(2, 3, 8 * factor, 9 * factor, generator=torch.Generator().manual_seed(0)).double()
    found = Downsampling(factor, name, boundary).double()(x)
    resized = F.interpolate(x, size=(8, 9), mode=name, antialias=True)
    torch.testing.assert_close(inside(found, border), inside(resized, border), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "border"), [("bicubic", 2), ("bilinear", 1), ("box", 1)])
@pytest.mark.parametrize("factor", [2, 3])
def test_is_the_resizing_of_pillow(name, border, factor):
    x = picture(10 * factor, 12 * factor)
    resized = Image.fromarray(x[0].numpy()).resize((12, 10), Image.Resampling[name.upper()])
    found = Downsampling(factor, name)(x[None])[0, 0]
    torch.testing.assert_close(
        inside(found, border), inside(torch.from_numpy(np.array(resized)), border), atol=1e-6, rtol=0
    )


KERNELS = [(2, (4, 6)), (2, (5, 3)), (3, (5, 7)), (3, (4, 8)), (4, (12, 11))]


@pytest.mark.parametrize(
    ("kernel_of", "boundary", "method"), pairwise(KERNELS, list(SCIPY), ["fft", "direct"], whole=FULL)
)
def test_is_the_filter_of_scipy_and_every_factor_th_pixel(kernel_of, boundary, method):
    factor, size = kernel_of
    kernel = random_kernel(*size)
    x = torch.randn(1, 1, 12, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    filtered = scipy.ndimage.convolve(x[0, 0].numpy(), kernel.numpy(), mode=SCIPY[boundary])
    # What SciPy puts at a pixel was read around that pixel, or half a pixel after it if the kernel is even. It belongs
    # to the middle of the square, or half a pixel after that.
    first = [factor // 2 if length % 2 else (factor - 1) // 2 for length in size]
    found = Downsampling(factor, kernel, boundary, method).double()(x)[0, 0]
    np.testing.assert_allclose(found, filtered[first[0] :: factor, first[1] :: factor], atol=1e-12)


@pytest.mark.parametrize(("factor", "pixel"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_a_kernel_of_one_pixel_takes_the_middle_one(factor, pixel):
    x = torch.rand(1, 1, 4 * factor, 3 * factor)
    for method in ("fft", "direct"):
        found = Downsampling(factor, torch.ones(1, 1), method=method)(x)
        torch.testing.assert_close(found, x[..., pixel::factor, pixel::factor])


@pytest.mark.parametrize(
    ("boundary", "factor_and_size", "name"),
    pairwise(
        list(SCIPY),
        [(2, (12, 8)), (3, (12, 15)), (4, (16, 20))],
        ["bicubic", "bilinear", "box", "gaussian"],
        whole=FULL,
    ),
)
def test_the_norm_without_a_size_bounds_that_of_every_size(boundary, factor_and_size, name):
    factor, size = factor_and_size
    pixels = torch.eye(size[0] * size[1], dtype=torch.float64).reshape(-1, 1, *size)
    matrix = Downsampling(factor, name, boundary).double()(pixels).flatten(1)
    exact = torch.linalg.matrix_norm(matrix, ord=2)
    bound = Downsampling(factor, name, boundary).double().norm()
    assert exact * (1 - 1e-6) <= bound <= 1.8 * exact
    sized = Downsampling(factor, name, boundary, height=size[0], width=size[1]).double()
    torch.testing.assert_close(sized.norm(), exact, rtol=3e-3, atol=0)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize(
    "kernel", ["bicubic", "bilinear", "box", "gaussian", GaussianKernel(1.5), 3 * torch.ones(2, 2)]
)
def test_the_estimate_keeps_the_brightness_and_is_closer_than_the_scaled_adjoint(factor, kernel):
    operator = Downsampling(factor, kernel)
    bright = torch.full((1, 1, 9 * factor, 12 * factor), 0.6)
    torch.testing.assert_close(operator.estimate(operator(bright)), bright)
    x = torch.stack([picture(24 * factor, 18 * factor, seed) for seed in range(4)])
    y = operator(x)
    adjoint = operator.adjoint(y) * operator.adjoint(operator(torch.ones_like(x))).mean().reciprocal()
    assert (psnr(operator.estimate(y), x) > psnr(adjoint, x) + 0.5).all()


def test_recipes_and_weights_carry_the_kernel(tmp_path):
    network, x = EPGN(1, 2).eval(), torch.rand(1, 1, 24, 16)
    for kernel in ("bilinear", GaussianKernel(1.2, 4), random_kernel(3, 2).float(), torch.ones(1, 1)):
        operator = Downsampling(2, kernel, "reflect", height=24, width=16)
        unrolled.save(tmp_path / "a.safetensors", network, operator)
        _, again = unrolled.load(tmp_path / "a.safetensors")
        assert torch.equal(again(x), operator(x))
    recipe = describe(Downsampling(4, "box"))
    assert recipe["init_args"]["kernel"] == "box"
    assert torch.equal(build(recipe, Downsampling, Kernel).kernel, torch.full((4, 4), 1 / 16))


def test_bad_arguments_and_images_are_refused():
    for options, message in {
        (0,): "factor must be in 1 … 1024, got 0",
        (2, "box", "valid"): "boundary must be one of circular, zero, reflect, replicate, got 'valid'",
        (2, "box", "zero", "auto", 5, 6): r"sides of images must be multiples of 2, got \(5, 6\)",
        (4, "bicubic", "zero", "auto", 12, 16): "kernel of 16 × 16 is larger than the image of 12 × 16",
    }.items():
        with pytest.raises(ValueError, match=f"Downsampling: .*{message}"):
            Downsampling(*options)
    operator = Downsampling(3, "box")
    assert operator.multiple == 3
    with pytest.raises(ValueError, match=r"sides of images must be multiples of 3, got \(9, 8\)"):
        operator(torch.zeros(1, 1, 9, 8))
    with pytest.raises(ValueError, match="measurements must be real"):
        operator.estimate(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="is larger than the image of 3 × 9"):
        Downsampling(3, "bilinear").adjoint(torch.zeros(1, 1, 1, 3))
