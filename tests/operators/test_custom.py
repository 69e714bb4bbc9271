import copy

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor, nn

from tests.operators.laws import OperatorLaws
from tests.pairs import first_of
from unrolled.operators import (
    BlockCompressedSensing,
    Dense,
    FromFunctions,
    MaskedFourier,
    Radon,
    UniformMask,
    as_operator,
)


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def mirror(x):
    return 2 * x.flip(-1)


def rows_of_the_spectrum(x):
    return torch.fft.fft2(x)[..., ::2, :]


def back_from_rows(y):
    whole = torch.stack([y, torch.zeros_like(y)], dim=-2).flatten(-3, -2)
    return torch.fft.ifft2(whole, norm="forward")


def turned(x):
    return (1 + 2j) * x.roll(1, -1)


def turned_back(y):
    return (1 - 2j) * y.roll(-1, -1)


class Filter(nn.Module):
    """A convolution that makes the image smaller."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(numbers(2, 1, 3, 2))
        self.register_buffer("weight", numbers(1, 2, 1, 1))

    def forward(self, x):
        return self.weight * torch.conv2d(x, self.kernel)

    def back(self, y):
        return torch.conv_transpose2d(self.weight * y, self.kernel)


def case(thing, complex_images=False):
    """As a program in double precision would make it."""

    def make():
        kind = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            made = thing() if isinstance(thing, type) else thing
            if isinstance(made, Filter):
                made = (made, made.back)
            return as_operator(made, (1, 4, 5), complex_images), (2, 1, 4, 5)
        finally:
            torch.set_default_dtype(kind)

    return make


class TestFromFunctions(OperatorLaws):
    operator_class = FromFunctions
    cases = {
        "pair": case((mirror, mirror)),
        "pair to complex numbers": case((rows_of_the_spectrum, back_from_rows)),
        "pair on complex images": case((turned, turned_back), complex_images=True),
        "module": case(Filter),
        "forward": case(mirror),
        "forward to complex numbers": case(rows_of_the_spectrum),
        "forward on complex images": case(turned, complex_images=True),
        "forward of a module": lambda: (as_operator(Filter(), (1, 4, 5)), (2, 1, 4, 5)),
    }

    @pytest.mark.parametrize("which", first_of(["forward of a module", *list(cases)[:-1]]))
    def test_the_adjoint_compiles_too(self, which):
        operator, _, y = self.make(which)
        torch.testing.assert_close(
            torch.compile(operator.adjoint, fullgraph=True, backend="aot_eager")(y), operator.adjoint(y)
        )


def test_the_adjoint_of_a_forward_alone_is_that_of_its_matrix():
    matrix, x, y = numbers(7, 20), numbers(3, 1, 4, 5), numbers(3, 1, 7)
    dense = Dense(matrix, 4, 5).double()
    matrix = dense.matrix
    lone = as_operator(lambda x: x.flatten(2) @ matrix.T.to(x.dtype), (1, 4, 5))
    torch.testing.assert_close(lone(x), dense(x))
    torch.testing.assert_close(lone.adjoint(y), dense.adjoint(y))
    mask = UniformMask(0.4)
    fourier = MaskedFourier(mask, 4, 5).double()
    kept = mask.draw(4, 5)
    lone = as_operator(lambda x: kept * torch.fft.fft2(x, norm="ortho"), (1, 4, 5))
    y = numbers(2, 1, 4, 5, dtype=torch.complex128)
    torch.testing.assert_close(lone.adjoint(y), fourier.adjoint(y))


@pytest.mark.parametrize("alone", [False, True])
def test_what_a_module_learns_gets_gradients_through_forward_and_adjoint(alone):
    module = Filter()
    operator = as_operator(module if alone else (module, module.back), (1, 4, 5))
    x, y = numbers(2, 1, 4, 5), numbers(2, 2, 2, 4)
    assert set(map(id, operator.parameters())) == {id(module.kernel)}
    # ⟨x, Aᵀy⟩ = ⟨Ax, y⟩ whatever the kernel is, so both sides have one derivative by it.
    (left,) = torch.autograd.grad((x * operator.adjoint(y)).sum(), module.kernel)
    (right,) = torch.autograd.grad((module(x) * y).sum(), module.kernel)
    assert right.norm() > 0
    torch.testing.assert_close(left, right)


def test_modules_are_registered_once_and_copied_with_the_operator():
    module = Filter()
    operator = as_operator((module, module.back), (1, 4, 5))
    assert len(operator.state_dict()) == 2
    copied, y = copy.deepcopy(operator), numbers(2, 2, 2, 4)
    with torch.no_grad():
        next(copied.parameters()).zero_()
    assert not copied.adjoint(y).any()
    assert operator.adjoint(y).any()


def test_measures_in_full_precision_under_autocast():
    operator = as_operator((lambda x: x @ numbers(5, 5).float(), lambda y: y @ numbers(5, 5).float().T), (1, 4, 5))
    x = numbers(2, 1, 4, 5).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(operator(x), operator(x))
        assert operator(x.bfloat16()).dtype == torch.float32
        y, back = operator(x), operator.adjoint(x)
    assert torch.equal(y, operator(x))
    assert torch.equal(back, operator.adjoint(x))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_wrong_adjoint_is_caught_whatever_the_default_type(kind):
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        for forward, adjoint, complex_images in [
            (lambda x: x.roll(1, -1), lambda y: y.roll(1, -1), False),
            (lambda x: x, lambda y: 1.01 * y, False),
            (torch.fft.fft2, torch.fft.ifft2, False),
            (lambda x: 1j * x, lambda y: 1j * y, True),
            (lambda x: 1j * x, lambda y: y, False),
            (torch.conj, torch.conj, True),
        ]:
            with pytest.raises(ValueError, match=r"not adjoint.*⟨Ax, y⟩ = .* but ⟨x, Aᴴy⟩ = "):
                as_operator((forward, adjoint), (1, 32, 32), complex_images)
            as_operator(MaskedFourier(UniformMask(), 8, 8).forward, (1, 8, 8))
    finally:
        torch.set_default_dtype(before)


def test_a_wrong_adjoint_shows_both_inner_products():
    # Of a doubled adjoint the second one is twice the first.
    with pytest.raises(ValueError, match="not adjoint") as caught:
        as_operator((lambda x: x.flip(-1), lambda y: 2 * y.flip(-1)), (1, 4, 5))
    left, right = (float(part.split()[0]) for part in str(caught.value).split("⟩ = ")[1:])
    assert right == pytest.approx(2 * left, rel=1e-4)


@pytest.mark.parametrize(
    ("thing", "options", "message"),
    [
        (3, {}, r"pair of functions \(forward, adjoint\), one function, a matrix .*, got int"),
        ((torch.clone, 3), {}, "got tuple"),
        ((torch.clone, torch.clone), {}, "shape must be .*, got None"),
        (torch.clone, {"shape": (4, 5)}, "shape must be"),
        (torch.clone, {"shape": (0, 4, 5)}, "shape must be"),
        (torch.ones(3, 4, 5), {"shape": (1, 4, 5)}, "matrix must be"),
        (torch.ones(3, 21), {"shape": (1, 4, 5)}, "20 columns, got 21"),
        ((lambda x: x[..., 1:], lambda y: y), {"shape": (1, 4, 5)}, "adjoint gives shape"),
        ((lambda x: x, lambda y: [y]), {"shape": (1, 4, 5)}, "adjoint gives list for images"),
        (lambda x: np.flip(x.numpy(), -1), {"shape": (1, 4, 5)}, "cannot be differentiated, give a pair"),
        (lambda x: np.flip(x, -1), {"shape": (1, 4, 5)}, "calculates with NumPy and cannot be differentiated"),
        (torch.clone, {"shape": (1.0, 4, 5)}, "shape must be"),
        (torch.clone, {"shape": (True, 4, 5)}, "shape must be"),
        ((lambda x: x * torch.nan, torch.clone), {"shape": (1, 4, 5)}, "forward gives NaN"),
        ((torch.clone, lambda y: y / 0), {"shape": (1, 4, 5)}, "adjoint gives NaN"),
        (lambda x: x * torch.inf, {"shape": (1, 4, 5)}, "forward gives NaN or inf"),
        (torch.relu, {"shape": (1, 4, 5)}, "not linear"),
        (lambda x: x + 1e-2, {"shape": (1, 4, 5)}, "not linear"),
        (torch.conj, {"shape": (1, 4, 5), "complex_images": True}, "not linear"),
        (lambda x: x.real, {"shape": (1, 4, 5), "complex_images": True}, "real measurements are not linear in complex"),
        (lambda x: x.detach(), {"shape": (1, 4, 5)}, "not adjoint"),
        (lambda x: torch.from_numpy(x.numpy() * 2), {"shape": (1, 4, 5)}, "cannot be differentiated, give a pair"),
        (lambda x: x.sum(0), {"shape": (1, 4, 5)}, r"must be a tensor \(2, …\), got shape \(1, 4, 5\)"),
        (lambda x: x - x.mean(0), {"shape": (1, 4, 5)}, "mixes the images of a batch"),
        (lambda x: [x, x], {"shape": (1, 4, 5)}, r"must be a tensor \(2, …\), got list"),
    ],
)
def test_what_is_no_operator_is_refused(thing, options, message):
    with pytest.raises(ValueError, match=message):
        as_operator(thing, **options)


def test_operators_and_matrices():
    operator = BlockCompressedSensing(ratio=0.5, block=2)
    assert as_operator(operator) is operator
    matrix, x = (10 * numbers(7, 20)).round(), numbers(2, 3, 4, 5)
    for given in (matrix, matrix.long(), matrix.numpy(), matrix.numpy().astype(">i2")[::-1][::-1], matrix.tolist()):
        made = as_operator(given, np.array([1, 4, 5])).double()
        assert type(made) is Dense
        torch.testing.assert_close(made(x), x.flatten(2) @ matrix.T)
        assert as_operator(given, (1, 4, 5), complex_images=True)(x + 1j * x).is_complex()


def test_a_function_that_calls_an_operator_of_rays_is_differentiated():
    radon = Radon(7, 8, 8).double()
    operator = as_operator(lambda x: radon(x.flip(-1)), (1, 8, 8))
    y = numbers(2, *radon.measurement_shape((1, 8, 8)), dtype=torch.float64)
    torch.testing.assert_close(operator.adjoint(y), radon.adjoint(y).flip(-1))


def test_an_error_of_the_adjoint_is_shown_as_it_is():
    def broken(y):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        as_operator((torch.clone, broken), shape=(1, 4, 5))


class Cumulative(torch.autograd.Function):
    """As wrappers of compiled projectors are written."""

    @staticmethod
    def forward(ctx, x):
        return x.cumsum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient.flip(-1).cumsum(-1).flip(-1)


MATRIX = numbers(6, 20) / 4
SMOOTHING = np.array([[1.0, 2, 0], [2, 3, 1], [0, 1, 1]])
FUNCTIONS = {
    "only float64": lambda x: x.flatten(1) @ MATRIX.T,
    "only float64, a pair": (lambda x: x.flatten(1) @ MATRIX.T, lambda y: (y @ MATRIX).reshape(-1, 1, 4, 5)),
    "float64 of float32": lambda x: x.flatten(1).double() @ MATRIX.T,
    "adjoint of float64": (lambda x: x, lambda y: y.double()),
    "ordinary autograd": Cumulative.apply,
    "NumPy": (lambda x: np.flip(x, -1), lambda y: np.flip(y, -1)),
    "NumPy to complex numbers": (lambda x: np.fft.fft2(x), lambda y: np.fft.ifft2(y, norm="forward")),
    "SciPy": (
        lambda x: scipy.ndimage.convolve(x, SMOOTHING[None, None], mode="constant"),
        lambda y: scipy.ndimage.correlate(y, SMOOTHING[None, None], mode="constant"),
    ),
    "without derivatives": (torch.no_grad()(mirror), torch.no_grad()(mirror)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_any_kind_are_taken_in_the_precision_of_images_and_differentiated(name):
    operator, x = as_operator(FUNCTIONS[name], (1, 4, 5)), numbers(2, 1, 4, 5)
    y = operator(x)
    units = torch.eye(20, dtype=torch.float64).view(20, 1, 4, 5)
    columns = operator(units).flatten(1).T
    torch.testing.assert_close(y.flatten(1), x.flatten(1).to(columns.dtype) @ columns.T)
    for kind in (torch.float32, torch.float64):
        given = x.to(kind).requires_grad_()
        found = operator(given)
        assert found.real.dtype == kind
        back = operator.adjoint(y.to(found.dtype).requires_grad_())
        assert back.dtype == kind
        (vjp,) = torch.autograd.grad(found, given, y.to(found.dtype))
        torch.testing.assert_close(vjp, back.detach())
        torch.testing.assert_close(operator.gram(given), operator.adjoint(found))
    total = x.detach().clone().requires_grad_()
    operator(total).real.sum().backward()  # whose gradient is one number that stands for many
    torch.testing.assert_close(total.grad, operator.adjoint(torch.ones_like(y)))
    measured = y.clone().requires_grad_()
    (vjp,) = torch.autograd.grad(operator.adjoint(measured), measured, x)
    torch.testing.assert_close(vjp, y)


def test_functions_of_numpy_transform_as_others_do():
    operator, x = as_operator(FUNCTIONS["SciPy"], (1, 4, 5)), numbers(2, 1, 4, 5)
    y = operator(x)
    torch.testing.assert_close(torch.func.vmap(operator)(torch.stack([x, 2 * x]))[1], 2 * y)
    torch.testing.assert_close(torch.func.jvp(operator, (x,), (3 * x,)), (y, 3 * y))
    torch.testing.assert_close(torch.func.vjp(operator, x)[1](y)[0], operator.adjoint(y))


def test_measurements_of_another_shape_are_refused():
    operator = as_operator((lambda x: x.sum(-1), lambda y: y[..., None].expand(-1, -1, -1, 5)), (1, 4, 5))
    for shape in ((2, 1, 5), (2, 4), (1, 1, 4, 1)):
        with pytest.raises(ValueError, match=r"measurements must be \(batch, 1, 4\), got"):
            operator.adjoint(torch.ones(shape))
