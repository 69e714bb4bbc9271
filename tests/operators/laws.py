"""Every law of a linear operator, as a test case to inherit."""

import functools
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers import assert_alike
from tests.pairs import FULL
from unrolled.operators import LinearOperator
from unrolled.operators.linear_map import LinearMap
from unrolled.operators.masked_samples import MaskedSamples

Case = Callable[[], tuple[LinearOperator, tuple[int, ...]]]


class OperatorLaws:
    """Inherit, name the class and the cases, and every law is tested of each of them.

    A case makes an operator in double precision, and tells the shape of a batch of its images. A class of operators
    that no test case names fails `test_every_operator_has_laws`.
    """

    operator_class: ClassVar[type[LinearOperator]]
    cases: ClassVar[dict[str, Case]]
    norm_slack: ClassVar[float] = 1.001
    """How far the norm may lie above what power iteration finds: it is an upper bound where this is larger than 1."""
    compiled: ClassVar[tuple[str, ...]] = ()
    """The cases whose code differs enough for the compiler; by default all."""

    def make(self, case: str) -> tuple[LinearOperator, Tensor, Tensor]:
        """The operator, random images and random measurements."""
        operator, shape = self.cases[case]()
        assert type(operator) is self.operator_class
        generator = torch.Generator().manual_seed(0)
        kind = torch.complex128 if operator.complex_images else torch.float64
        x = torch.randn(shape, dtype=kind, generator=generator)
        ax = operator(x)
        return operator, x, torch.randn(ax.shape, dtype=ax.dtype, generator=generator)

    @classmethod
    def smallest(cls, case: str, x: Tensor) -> Tensor:
        """The part of x that is enough, where channels are alike, or parts."""
        operator, _ = cls.cases[case]()
        if operator.image_shape is None or operator.image_shape[0] == 0:
            x = x[:, :1]
        return x[..., : operator.multiple, :] if operator.local else x

    @classmethod
    @functools.cache
    def matrices_of_gram(cls, case: str) -> list[Tensor]:
        """AᴴA over the smallest images, over the real numbers: of each image of a batch, if they differ."""
        operator, shape = cls.cases[case]()
        kind = torch.complex128 if operator.complex_images else torch.float64
        x = cls.smallest(case, torch.empty(shape, dtype=kind))[:1]
        return [dense(alone(operator, number).gram, x) for number in range(operator.batch or 1)]

    def test_adjoint(self, case):
        operator, x, y = self.make(case)
        ax, back = operator(x), operator.adjoint(y)
        assert back.shape == x.shape
        assert back.dtype == x.dtype
        left, right = inner(ax, y), inner(x, back)
        if not (operator.complex_images and operator.complex_measurements):  # linear over the real numbers
            left, right = left.real, right.real
        assert abs(left - right) <= 1e-10 * ax.norm() * y.norm()

    def test_sampling_ratio_counts_measurements(self, case):
        """Against pixels; of a mask the part of the samples that it takes."""
        operator, x, y = self.make(case)
        if operator.image_shape is None and type(operator).sampling_ratio is LinearMap.sampling_ratio:
            with pytest.raises(ValueError, match="set image_shape"):
                _ = operator.sampling_ratio
            return
        ratio = torch.as_tensor(operator.sampling_ratio, dtype=torch.float64)
        assert (ratio > 0).all()
        assert ratio.shape in ((), (len(x),))
        if isinstance(operator, MaskedSamples):
            counted = operator.sampled(torch.ones_like(y)).flatten(1).count_nonzero(1).double() / y[0].numel()
            torch.testing.assert_close(ratio.expand(len(x)), counted, rtol=1e-6, atol=0)
        elif not any(isinstance(part, MaskedSamples) for part in operator.modules()):
            counted = y[0].numel() / x[0].numel()
            lost_at_borders = operator.image_shape is None and getattr(operator, "boundary", "") == "valid"
            assert ratio == pytest.approx(counted) or (lost_at_borders and ratio > counted)

    def test_vector_jacobian_product_is_the_adjoint(self, case):
        operator, x, y = self.make(case)
        (vjp,) = torch.autograd.grad(operator(x.requires_grad_()), x, y)
        torch.testing.assert_close(vjp, operator.adjoint(y).detach())

    def test_adjoint_is_differentiable(self, case):
        operator, x, y = self.make(case)
        (vjp,) = torch.autograd.grad(operator.adjoint(y.requires_grad_()), y, x)
        torch.testing.assert_close(vjp, operator(x).detach())

    def test_linear(self, case):
        operator, x, _ = self.make(case)
        z = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(operator(2 * x - 3 * z), 2 * operator(x) - 3 * operator(z))

    def test_images_of_a_batch_do_not_mix(self, case):
        operator, x, _ = self.make(case)
        for number in range(operator.batch or 1):
            here = slice(number, number + 1)
            torch.testing.assert_close(operator(x)[here], alone(operator, number)(x[here]))

    def test_gram(self, case):
        operator, x, _ = self.make(case)
        torch.testing.assert_close(operator.gram(x), operator.adjoint(operator(x)))

    def test_norm_bounds_and_is_reached(self, case):
        operator, x, _ = self.make(case)
        norm = operator.norm().detach()
        assert norm.shape == ()
        # Power iteration, an estimate from below; to its tolerance if that is also how the operator finds its norm.
        assert operator(x).norm() <= norm * x.norm() * (1 + 1e-5)
        start, reached = torch.stack([vector(one) for one in self.smallest(case, x)], dim=1), torch.zeros(())
        for gram in self.matrices_of_gram(case):
            x = start
            for _ in range(500):
                x = gram @ (x / x.norm())
            reached = torch.maximum(reached, x.norm().sqrt())
        assert reached * (1 - 1e-5) <= norm <= self.norm_slack * reached

    def test_range_is_stated(self, case):
        operator, x, y = self.make(case)
        assert operator.measurement_shape(x.shape[1:]) == y.shape[1:]
        assert operator.complex_measurements == y.is_complex()

    def test_solve_agrees_with_a_dense_matrix(self, case):
        operator, x, _ = self.make(case)
        x, grams = self.smallest(case, x.detach()), self.matrices_of_gram(case)
        unknowns, size = torch.eye(len(grams[0]), dtype=grams[0].dtype), len(x)
        for ridge in (0.3, torch.linspace(0.05, 2, size, dtype=torch.float64).view(size, *(1,) * (x.ndim - 1))):
            found = operator.solve(x, ridge, tolerance=1e-12)
            assert found.shape == x.shape
            assert found.dtype == x.dtype
            for number in range(size):
                own = ridge if isinstance(ridge, float) else ridge[number].item()
                expected = torch.linalg.solve(grams[number % len(grams)] + own * unknowns, vector(x[number]))
                torch.testing.assert_close(vector(found[number]), expected, rtol=1e-7, atol=1e-8)

    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch's own call
    def test_gradients_of_solve_equal_finite_differences(self, case):
        operator, x, _ = self.make(case)
        x = x[..., : operator.multiple, :] if operator.local else x
        ridge = operator.norm().detach().square() * torch.linspace(1, 3, len(x), dtype=torch.float64)
        ridge = ridge.view(len(x), *(1,) * (x.ndim - 1))
        solved = Solved(operator)
        names = [name for name, _ in solved.named_parameters()]

        def solve(b, ridge, *tensors):
            return torch.func.functional_call(solved, dict(zip(names, tensors, strict=True)), (b, ridge))

        numbers = [x.detach().requires_grad_(), ridge.requires_grad_(), *operator.parameters()]
        torch.autograd.gradcheck(solve, numbers, fast_mode=True, check_forward_ad=True)

    def test_h_is_the_adjoint_operator(self, case):
        operator, x, y = self.make(case)
        torch.testing.assert_close(operator.H(y), operator.adjoint(y))
        torch.testing.assert_close(operator.H.H(x), operator(x))

    def test_estimate_is_a_finite_image(self, case):
        operator, x, _ = self.make(case)
        found = operator.estimate(operator(x))
        assert found.shape == x.shape
        assert found.dtype == x.dtype
        assert found.isfinite().all()

    def test_takes_whatever_holds_numbers_in_its_own_precision(self, case):
        operator, x, y = self.make(case)
        operator, place = operator.to(torch.float32), list(self.cases).index(case)
        methods = {
            "forward": (operator, x),
            "adjoint": (operator.adjoint, y),
            "gram": (operator.gram, x),
            "estimate": (operator.estimate, y),
            "solve": (lambda b: operator.solve(b, np.float32(100)), x),
        }
        for name, (method, numbers) in methods.items():
            numbers = whole(numbers)
            expected = method(numbers).detach()
            every = list(kinds(numbers).items())
            step = 2 if name == "forward" else 6  # in turn, over the cases
            for kind, given in every[place % step :: step]:
                found, like = method(given), expected
                # What has no numbers of its own leaves floating-point ones in their precision; so does `solve`.
                if kind in OWN_PRECISION and (not holds_numbers(operator) or (name == "solve" and "NumPy" not in kind)):
                    like = expected.to(torch.promote_types(expected.dtype, torch.float64))
                assert found.dtype == like.dtype, (name, kind)
                torch.testing.assert_close(found, like, rtol=1e-3, atol=1e-4 * float(like.abs().max()))

    def test_refuses_what_it_cannot_mean_by_name(self, case):
        operator, x, y = self.make(case)
        operator = operator.to(torch.float32)
        x, y = x.to(half(x)), y.to(half(y))
        for what, numbers, is_complex, methods in (
            ("images", x, operator.complex_images, (operator, operator.gram, lambda b: operator.solve(b, 1.0))),
            ("measurements", y, operator.complex_measurements, (operator.adjoint, operator.estimate)),
        ):
            bad = [None, "image", [[1, 2], [3]], np.array([object()]), {"image": numbers}, numbers[:0], numbers.sum()]
            bad += [] if is_complex else [numbers + 0j]
            bad += [numbers.numpy().astype(complex if is_complex else float) * 1e300] if holds_numbers(operator) else []
            sized = operator.checks_itself or (what == "images" and operator.image_shape is not None)
            bad += [numbers[0], numbers[..., :0], numbers.unsqueeze(0)] if sized else []
            for method in methods:
                for one in bad:
                    with pytest.raises(ValueError, match=f"{what}|sinograms"):
                        method(one)

    def test_in_single_precision(self, case):
        operator, x, y = self.make(case)
        ax, back = operator(x).detach(), operator.adjoint(y).detach()
        single = operator.to(torch.float32)
        x, y = x.to(half(x)), y.to(half(y))
        assert single(x).dtype == half(ax)
        torch.testing.assert_close(single(x), ax.to(half(ax)), rtol=1e-4, atol=1e-4 * float(ax.abs().max()))
        torch.testing.assert_close(
            single.adjoint(y), back.to(half(back)), rtol=1e-4, atol=1e-4 * float(back.abs().max())
        )

    @pytest.mark.device
    def test_moves_with_its_tensors(self, case):
        operator, x, _ = self.make(case)
        moved = operator.to("meta")(x.to("meta"))  # fails if a tensor stays behind
        assert moved.shape == self.cases[case]()[0](x).shape

    @pytest.mark.device
    def test_makes_and_asks_for_nothing_on_other_devices(self, case):
        operator, x, y = self.make(case)
        operator, x, y = operator.to("meta"), x.to("meta"), y.to("meta")
        for found in (operator.adjoint(y), operator.gram(x), operator.solve(x, 0.5), operator.estimate(y)):
            assert found.is_meta
            assert found.shape == x.shape
        if operator.state_dict() or list(operator.buffers()):  # otherwise it is nowhere
            assert operator.norm().is_meta

    def test_is_the_same_on_every_device(self, case, device):
        operator, x, y = self.make(case)
        operator, x, y = operator.to(torch.float32), x.to(half(x)), y.to(half(y))

        def everything(x, y):
            return operator(x), operator.adjoint(y), operator.gram(x), operator.estimate(y), operator.solve(x, 0.5)

        expected = everything(x, y)
        operator.to(device)
        for found, here in zip(everything(x.to(device), y.to(device)), expected, strict=True):
            assert_alike(found.detach(), here.detach(), device)

    def test_is_in_full_precision_under_autocast(self, case):
        operator, x, y = self.make(case)
        operator, x, y = operator.to(torch.float32), x.to(half(x)), y.to(half(y))

        def everything():
            return operator(x), operator.adjoint(y), operator.gram(x), operator.estimate(y), operator.solve(x, 0.5)

        expected = everything()
        with torch.autocast("cpu", torch.bfloat16):
            found = everything()
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)

    def test_sampled_leaves_measurements_as_they_are(self, case):
        operator, x, y = self.make(case)
        torch.testing.assert_close(operator.sampled(operator(x)), operator(x))
        torch.testing.assert_close(operator.adjoint(operator.sampled(y)), operator.adjoint(y))

    def test_survives_pickle_and_state_dict(self, case):
        operator, x, _ = self.make(case)
        again = pickle.loads(pickle.dumps(operator))
        assert torch.equal(again(x), operator(x))
        again.load_state_dict(operator.state_dict())
        assert torch.equal(again(x), operator(x))

    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch's own call
    def test_functional_transforms(self, case):
        operator, x, y = self.make(case)
        for function, at, gradient in ((operator, x, operator.adjoint), (operator.adjoint, y, operator)):
            values = function(at)
            torch.testing.assert_close(torch.func.vmap(function)(torch.stack([at, 2 * at]))[1], 2 * values)
            value, tangent = torch.func.jvp(function, (at,), (3 * at,))
            torch.testing.assert_close((value, tangent), (values, 3 * values))
            value, pull = torch.func.vjp(function, at)
            torch.testing.assert_close((value, pull(values)[0]), (values, gradient(values)))
        small = x[:1]
        if not operator.complex_images and small.numel() <= 400:
            kind = torch.view_as_real if operator.complex_measurements else torch.Tensor.contiguous
            one = alone(operator, 0)
            jacobian = torch.func.jacrev(lambda x: kind(one(x)))(small)
            expected = dense(one, small)
            torch.testing.assert_close(jacobian.reshape(expected.shape), expected)

    def test_compiles_to_one_graph(self, case, fresh_compiler):
        operator, x, _ = self.make(case)
        compiled = torch.compile(operator, fullgraph=True, backend="aot_eager" if FULL else "eager")
        torch.testing.assert_close(compiled(x), operator(x))


OWN_PRECISION = ("float64", "NumPy float64")
"""Kinds of numbers that are of floating point in another precision."""


def holds_numbers(operator: LinearOperator) -> bool:
    return any(part.is_floating_point() or part.is_complex() for part in [*operator.parameters(), *operator.buffers()])


def whole(x: Tensor) -> Tensor:
    """Small whole numbers, which all types hold exactly, in single precision."""
    return (
        torch.view_as_complex(whole(torch.view_as_real(x.resolve_conj())))
        if x.is_complex()
        else (3 * x).round().float()
    )


def kinds(x: Tensor) -> dict[str, Any]:
    """The same numbers as users may have them, by names."""
    array = x.numpy()
    found = {
        "float64": x.to(torch.promote_types(x.dtype, torch.float64)),
        "NumPy": array,
        "NumPy float64": array.astype(array.dtype.char.replace("f", "d").replace("F", "D")),
        "other byte order": array.astype(array.dtype.newbyteorder()),
        "negative strides": array[:, ::-1].copy()[:, ::-1],
        "Fortran order": np.asfortranarray(array),
        "not contiguous": x.mT.contiguous().mT,
        "lists": array.tolist(),
        "list of tensors": list(x),
    }
    array.flags.writeable = False
    if not x.is_complex():
        found |= {
            "int8": x.to(torch.int8),
            "int64": x.long(),
            "NumPy int16": array.astype(np.int16),
            "sparse": x.to_sparse(),
        }
    return found


class Solved(nn.Module):
    """`operator.solve` as a module, whose tensors can be others."""

    def __init__(self, operator: LinearOperator):
        super().__init__()
        self.operator = operator

    def forward(self, b: Tensor, ridge: Tensor) -> Tensor:
        return self.operator.solve(b, ridge, tolerance=1e-13)


def alone(operator: Any, number: int) -> Any:
    """The operator of one image of a batch."""
    return operator if operator.batch is None else operator.of_images(slice(number, number + 1))


def vector(x: Tensor) -> Tensor:
    """Real numbers, twice as many if x is complex."""
    return (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).flatten()


def dense(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The matrix of a linear function over the real numbers, by its values at the units of images like x, of one."""
    units = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    units = torch.stack([units, 1j * units], dim=1).flatten(0, 1) if x.is_complex() else units
    values = function(units).detach()
    return torch.stack([vector(value) for value in values], dim=1)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ = Σ āb."""
    kind = torch.promote_types(a.dtype, b.dtype)
    return (a.to(kind).conj() * b.to(kind)).sum()


def half(x: Tensor) -> torch.dtype:
    """The type of half as many bits."""
    return torch.complex64 if x.is_complex() else torch.float32
