import pytest
import torch

from tests.operators.laws import OperatorLaws
from unrolled.operators import (
    BlockCompressedSensing,
    Dense,
    Identity,
    MaskedFourier,
    Stack,
    Sum,
    UniformMask,
    as_operator,
)


def matrix(rows: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    kind = torch.complex64 if dtype.is_complex else torch.float32
    return torch.randn(rows, 24, dtype=kind, generator=torch.Generator().manual_seed(seed)).to(dtype)


def blocks(rows: int = 3) -> BlockCompressedSensing:
    return BlockCompressedSensing(measurements=rows, block=2).double()


def fourier(seed: int = 0, **options) -> MaskedFourier:
    return MaskedFourier(UniformMask(0.5, seed), 4, 6, **options).double()


def dense(rows: int = 7, seed: int = 1, dtype: torch.dtype = torch.float64) -> Dense:
    return Dense(matrix(rows, seed, dtype), 4, 6).double()


class TestIdentity(OperatorLaws):
    operator_class = Identity
    cases = {
        "real": lambda: (Identity(), (2, 3, 4, 5)),
        "complex": lambda: (Identity(complex_images=True), (2, 3, 4, 5)),
    }


class TestSum(OperatorLaws):
    operator_class = Sum
    compiled = ("complex", "real and complex measurements")
    cases = {
        "dense": lambda: (dense() + dense(seed=2), (2, 3, 4, 6)),
        "complex": lambda: (
            dense(dtype=torch.complex128) + dense(seed=2, dtype=torch.complex128),
            (2, 1, 4, 6),
        ),
        "real and complex measurements": lambda: (fourier() + as_operator(torch.clone, (1, 4, 6)), (2, 1, 4, 6)),
        "complex and real measurements": lambda: (as_operator(torch.clone, (1, 4, 6)) + fourier(), (2, 1, 4, 6)),
        "of three": lambda: (Identity() + fourier() + 0.5 * fourier(1), (2, 2, 4, 6)),
    }


class TestSumOfAnySize(OperatorLaws):
    operator_class = Sum
    norm_slack = 1.5
    cases = {"blocks": lambda: (blocks() + 0.3 * BlockCompressedSensing(measurements=3, block=2, seed=5).double(),
                                (2, 1, 4, 6))}  # fmt: skip


class TestStack(OperatorLaws):
    operator_class = Stack
    compiled = ("real", "real and complex measurements")
    cases = {
        "one": lambda: (Stack([dense()], (2, 4, 6)), (3, 2, 4, 6)),
        "real": lambda: (Stack([dense(), blocks(), 0.1 * Identity()], (2, 4, 6)), (3, 2, 4, 6)),
        "real and complex measurements": lambda: (Stack([dense(), fourier()], (1, 4, 6)), (3, 1, 4, 6)),
        "complex": lambda: (
            Stack([dense(dtype=torch.complex128), Identity(complex_images=True)], (1, 4, 6)),
            (3, 1, 4, 6),
        ),
    }


def test_a_stack_is_the_matrix_of_its_parts_one_above_the_other():
    a, b = matrix(7, 1), matrix(5, 2)
    stack, both = Stack([Dense(a, 4, 6), Dense(b, 4, 6)], (1, 4, 6)), Dense(torch.cat([a, b]), 4, 6).double()
    stack = stack.double()
    x = torch.rand(2, 1, 4, 6, dtype=torch.float64)
    y = stack(x)
    torch.testing.assert_close(y, both(x).flatten(1))
    torch.testing.assert_close(stack.adjoint(y), both.adjoint(y.unsqueeze(1)))
    torch.testing.assert_close(stack.norm(), torch.linalg.svdvals(torch.cat([a, b]))[0], rtol=1e-4, atol=0)


def test_a_sum_is_the_sum_of_the_matrices():
    a, b = matrix(7, 1), matrix(7, 2)
    found, x = (Dense(a, 4, 6) + Dense(b, 4, 6)).double(), torch.rand(2, 1, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(found(x), x.flatten(2) @ (a + b).T)
    torch.testing.assert_close(found.norm(), torch.linalg.svdvals(a + b)[0], rtol=1e-4, atol=0)


def test_parts_of_a_stack_come_back_in_their_own_shapes_and_types():
    parts = [dense(), fourier(), blocks()]
    stack, x = Stack(parts, (2, 4, 6)), torch.rand(3, 2, 4, 6, dtype=torch.float64)
    y = stack(x)
    assert y.shape == (3, 2 * (7 + 24 + 18))
    for found, part in zip(stack.split(y), parts, strict=True):
        assert found.dtype == part(x).dtype
        torch.testing.assert_close(found, part(x))


def test_the_estimate_of_a_stack_is_the_mean_of_its_parts():
    stack = Stack([2 * Identity(), fourier()], (1, 4, 6))
    x = torch.rand(2, 1, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(stack.estimate(stack(x)), (x / 2 * 2 + fourier().gram(x)) / 2)


def test_images_fit_every_part():
    three = BlockCompressedSensing(measurements=3, block=3)
    both = BlockCompressedSensing(measurements=3, block=2) + three
    assert (both.multiple, both.image_shape, both.local) == (6, None, False)
    assert (Identity() + dense()).image_shape == (0, 4, 6)
    assert (dense() + as_operator(lambda x: x, (3, 4, 6))).image_shape == (3, 4, 6)
    assert Stack([three, Identity()], (1, 6, 9)).multiple == 3
    assert Sum(fourier(complex_images=True), Identity(complex_images=True)).complex_images


def test_an_image_is_cut_from_measurements_of_the_identity():
    x = torch.rand(2, 3, 5, 6)
    assert Identity().image_size(x) == (5, 6)
    assert torch.equal(Identity().crop(x, 1, 2, 3, 4), x[..., 1:4, 2:6])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Identity() + Identity(complex_images=True), "real images or all complex ones, got Identity real, Id"),
        (lambda: dense() + Dense(torch.ones(7, 24), 6, 4), r"one size, got \(0, 4, 6\) and \(0, 6, 4\)"),
        (lambda: (dense() + Identity())(torch.zeros(1, 1, 4, 6)), r"one shape, got \(1, 1, 7\) and \(1, 1, 4, 6\)"),
        (lambda: Stack([], (1, 4, 6)), "at least one"),
        (lambda: Stack([torch.clone], (1, 4, 6)), "must be LinearOperators"),
        (lambda: Stack([Identity()], (4, 6)), "shape must be"),
        (lambda: Stack([Identity()], (0, 4, 6)), "shape must be"),
        (lambda: Stack([Identity()], (1, 10**5, 10**5)), "at most 268,435,456 numbers"),
        (lambda: Stack([Identity(), fourier(complex_images=True)], (1, 4, 6)), "Stack: operators must all measure"),
        (lambda: Stack([dense()], (1, 4, 7)), r"that of the operators' images, \(0, 4, 6\), got \(1, 4, 7\)"),
        (lambda: Stack([blocks()], (1, 4, 7)), "multiples of 2"),
        (lambda: Stack([dense()], (1, 4, 6))(torch.zeros(1, 2, 4, 6)), r"images must be \(batch, 1, 4, 6\)"),
        (lambda: Stack([dense()], (1, 4, 6)).adjoint(torch.zeros(1, 8)), r"measurements must be \(batch, 7\)"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
