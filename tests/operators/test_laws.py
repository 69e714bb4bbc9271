"""Every law of a linear operator, over every operator that exists."""

import pickle

import pytest
import torch

from tests.helpers import concrete_subclasses
from unrolled.operators import Adjoint, BlockCompressedSensing, Composition, Dense, LinearOperator, as_operator
from unrolled.operators.operator import FromFunctions


def _matrix(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(rows, columns, dtype=dtype, generator=torch.Generator().manual_seed(1))


def _mirror(x):
    return 2 * x.flip(-1)


def _blocks(**options):
    return lambda: (BlockCompressedSensing(**options).double(), (2, 3, 2 * options.get("block", 33), 33))


# (operator in double precision, shape of its images). An operator that is missing here fails the first test.
CASES = {
    "blocks": (BlockCompressedSensing, _blocks(ratio=0.1)),
    "blocks, learned": (BlockCompressedSensing, _blocks(ratio=0.04, learned=True)),
    "blocks, small": (BlockCompressedSensing, _blocks(measurements=5, block=3)),
    "blocks, own matrix": (BlockCompressedSensing, _blocks(matrix=_matrix(4, 9, torch.float64), block=3)),
    "dense": (Dense, lambda: (Dense(_matrix(7, 30, torch.float64), 5, 6), (2, 2, 5, 6))),
    "dense, complex": (Dense, lambda: (Dense(_matrix(7, 30, torch.complex128), 5, 6), (2, 2, 5, 6))),
    "functions": (FromFunctions, lambda: (as_operator((_mirror, _mirror), (1, 4, 5)), (2, 1, 4, 5))),
    "adjoint": (Adjoint, lambda: (BlockCompressedSensing(measurements=5, block=3).double().H, (2, 3, 5, 2, 2))),
    "composition": (
        Composition,
        lambda: (
            BlockCompressedSensing(ratio=0.5, block=2).double() @ as_operator((_mirror, _mirror), (1, 4, 6)),
            (2, 1, 4, 6),
        ),
    ),
}  # fmt: skip

every_operator = pytest.mark.parametrize("name", CASES)


def case(name):
    torch.manual_seed(0)
    operator, shape = CASES[name][1]()
    complex_images = "complex" in name
    x = torch.randn(shape, dtype=torch.complex128 if complex_images else torch.float64)
    y = torch.randn_like(operator(x))
    return operator, x, y


def inner(a, b):
    return (a.conj() * b).sum()


def test_every_operator_has_a_case():
    assert {cls for cls, _ in CASES.values()} == set(concrete_subclasses(LinearOperator))


@every_operator
def test_adjoint(name):
    operator, x, y = case(name)
    left, right = inner(operator(x), y), inner(x, operator.adjoint(y))
    assert abs(left - right) <= 1e-10 * operator(x).norm() * y.norm()


@every_operator
def test_vector_jacobian_product_is_the_adjoint(name):
    operator, x, y = case(name)
    (vjp,) = torch.autograd.grad(operator(x.requires_grad_()), x, y)
    torch.testing.assert_close(vjp, operator.adjoint(y).detach())


@every_operator
def test_linear(name):
    operator, x, _ = case(name)
    z = torch.randn_like(x)
    torch.testing.assert_close(operator(2 * x - 3 * z), 2 * operator(x) - 3 * operator(z))


@every_operator
def test_gram(name):
    operator, x, _ = case(name)
    torch.testing.assert_close(operator.gram(x), operator.adjoint(operator(x)))


@every_operator
def test_norm_bounds_and_is_reached(name):
    operator, x, _ = case(name)
    norm = operator.norm().detach()
    assert operator(x).norm() <= norm * x.norm() * (1 + 1e-9)
    for _ in range(500):  # power iteration, an estimate from below
        x = operator.gram(x / x.norm())
    slack = 1.6 if name == "composition" else 1.001  # of a composition it is a bound
    assert norm <= slack * x.norm().sqrt()


@every_operator
def test_h_is_the_adjoint_operator(name):
    operator, x, y = case(name)
    torch.testing.assert_close(operator.H(y), operator.adjoint(y))
    torch.testing.assert_close(operator.H.H(x), operator(x))


@every_operator
def test_survives_pickle_and_state_dict(name):
    operator, x, _ = case(name)
    again = pickle.loads(pickle.dumps(operator))
    assert torch.equal(again(x), operator(x))
    again.load_state_dict(operator.state_dict())
    assert torch.equal(again(x), operator(x))


@every_operator
def test_compiles_to_one_graph(name):
    operator, x, _ = case(name)
    compiled = torch.compile(operator, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), operator(x))
