"""Operators of deepinv's physics, and deepinv on ours, with the package itself."""

import sys

import pytest
import torch

from unrolled.operators import BlockCompressedSensing, Dense, MaskedFourier, UniformMask, as_operator, to_deepinv
from unrolled.system.vision import import_torchvision


@pytest.fixture(scope="module")
def deepinv():
    """Its physics; imported only where these tests run, for torchvision takes seconds."""
    import_torchvision()  # which deepinv imports
    return pytest.importorskip("deepinv.physics", reason="deepinv is an extra")


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def rows_kept(*shape: int) -> torch.Tensor:
    return (numbers(*shape) > 0).float()


PHYSICS = {
    "inpainting": lambda deepinv: (deepinv.Inpainting((2, 8, 9), mask=rows_kept(2, 8, 9)), (2, 8, 9)),
    "blur": lambda deepinv: (deepinv.Blur(filter=numbers(1, 1, 3, 3), padding="circular"), (1, 8, 9)),
    "blur without borders": lambda deepinv: (deepinv.Blur(filter=numbers(1, 1, 3, 3), padding="valid"), (1, 8, 9)),
    "downsampling": lambda deepinv: (deepinv.Downsampling(img_size=(1, 8, 8), factor=2, filter="gaussian"), (1, 8, 8)),
    "mri": lambda deepinv: (deepinv.MRI(mask=rows_kept(8, 8), img_size=(2, 8, 8)), (2, 8, 8)),
    "tomography": lambda deepinv: (deepinv.Tomography(angles=7, img_width=12, normalize=False), (1, 12, 12)),
    "compressed sensing": lambda deepinv: (
        deepinv.CompressedSensing(m=20, img_size=(1, 8, 8), rng=torch.Generator().manual_seed(0)),
        (1, 8, 8),
    ),
}


@pytest.mark.parametrize("name", PHYSICS)
def test_an_operator_of_physics_is_its_noise_free_part(name, deepinv):
    physics, shape = PHYSICS[name](deepinv)
    physics.noise_model = deepinv.GaussianNoise(sigma=10.0)
    operator, x = as_operator(physics, shape), numbers(2, *shape)
    ax = physics.A(x)
    torch.testing.assert_close(operator(x), ax)
    y = torch.randn(ax.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(operator.adjoint(y), physics.A_adjoint(y))
    # What training needs: both directions are differentiable, and the adjoint is that of autograd.
    (pulled,) = torch.autograd.grad(operator(x.requires_grad_()), x, y)
    torch.testing.assert_close(pulled, operator.adjoint(y), rtol=1e-4, atol=1e-4)
    (pulled,) = torch.autograd.grad(operator.adjoint(y.requires_grad_()), y, numbers(2, *shape))
    torch.testing.assert_close(pulled, operator(numbers(2, *shape)), rtol=1e-4, atol=1e-4)


def test_the_size_of_images_is_that_of_the_physics_if_it_knows(deepinv):
    assert as_operator(PHYSICS["inpainting"](deepinv)[0]).image_shape == (2, 8, 9)
    with pytest.raises(ValueError, match=r"shape must be .*got None"):
        as_operator(PHYSICS["blur"](deepinv)[0])


def test_physics_move_with_the_operator(deepinv):
    operator = as_operator(*PHYSICS["inpainting"](deepinv)).double()
    assert operator(numbers(2, 2, 8, 9).double()).dtype == torch.float64
    assert operator.norm().dtype == torch.float64
    assert operator.to("meta")(torch.empty(2, 2, 8, 9, device="meta")).is_meta


def test_physics_with_a_wrong_adjoint_or_several_measurements_are_refused(deepinv):
    wrong = deepinv.LinearPhysics(A=lambda x: 2 * x, A_adjoint=lambda y: y)
    with pytest.raises(ValueError, match="not adjoint"):
        as_operator(wrong, (1, 4, 5))
    inpainting = PHYSICS["inpainting"](deepinv)[0]
    with pytest.raises(ValueError, match="must be a tensor"):
        as_operator(inpainting.stack(inpainting), (2, 8, 9))


def test_ours_pass_the_adjointness_test_of_deepinv(deepinv):
    torch.manual_seed(0)
    physics = to_deepinv(BlockCompressedSensing(ratio=0.3, block=4))
    assert physics.adjointness_test(numbers(1, 1, 8, 8)) < 1e-5
    complex_ones = to_deepinv(MaskedFourier(UniformMask(0.4), 8, 8, complex_images=True))
    assert complex_ones.adjointness_test(numbers(1, 1, 8, 8).to(torch.complex64)) < 1e-5


def test_there_and_back_again(deepinv):
    blur, shape = PHYSICS["blur"](deepinv)
    physics, x = to_deepinv(as_operator(blur, shape)), numbers(2, *shape)
    assert physics.img_size == shape
    assert to_deepinv(MaskedFourier(UniformMask(0.4), 8, 8)).img_size is None  # any number of channels
    torch.testing.assert_close(physics(x), blur.A(x))
    torch.testing.assert_close(physics.A_adjoint(x), blur.A_adjoint(x))
    operator = BlockCompressedSensing(ratio=0.3, block=4)
    again = as_operator(to_deepinv(operator), (1, 8, 8))
    x = numbers(2, 1, 8, 8)
    assert torch.equal(again(x), operator(x))
    assert torch.equal(again.adjoint(operator(x)), operator.adjoint(operator(x)))
    assert again.double()(x.double()).dtype == torch.float64


def test_least_squares_of_deepinv_on_ours_is_the_pseudoinverse(deepinv):
    # Rows of Φ are orthonormal, so that the solution of least norm is Φᵀy.
    operator, y = BlockCompressedSensing(ratio=0.3, block=4).double(), numbers(2, 1, 5, 2, 3).double()
    physics = to_deepinv(operator)
    physics.set_ls_solver("CG", max_iter=100, tol=1e-10)
    torch.testing.assert_close(physics.A_dagger(y), operator.adjoint(y), rtol=1e-6, atol=1e-6)


def test_without_deepinv_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepinv.physics", None)
    with pytest.raises(ValueError, match=r'pip install "unrolled\[deepinv\]"'):
        to_deepinv(Dense(torch.ones(3, 20), 4, 5))
