"""Solutions with a ridge by conjugate gradients: their accuracy, derivatives, transforms and compiled form."""

import pytest
import torch
from torch import nn

from tests.operators.laws import Solved
from tests.pairs import FULL
from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    Coils,
    GaussianKernel,
    LinearOperator,
    MultiCoilFourier,
    RadialMask,
    as_operator,
)

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch's own

OPERATORS = {
    "blur": lambda: Blur(GaussianKernel(1.0), "reflect").double(),
    "coils": lambda: MultiCoilFourier(Coils(3), RadialMask(0.5), 8, 9).double(),
    "learned": lambda: (
        BlockCompressedSensing(measurements=3, block=3, learned=True) @ Blur(GaussianKernel(0.3), "zero")
    ).double(),
}


def image(operator: LinearOperator, seed: int = 0) -> torch.Tensor:
    kind = torch.complex128 if operator.complex_images else torch.float64
    height = 8 if isinstance(operator, MultiCoilFourier) else 9
    return torch.randn(2, 1, height, 9, dtype=kind, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]()


def test_every_image_reaches_the_tolerance_alone(operator):
    b = torch.cat([image(operator), 1e-3 * image(operator, 1)])
    for tolerance in (1e-2, 1e-6, 1e-10):
        x = operator.solve(b, 0.1, tolerance=tolerance)
        left = (b - operator.gram(x) - 0.1 * x).flatten(1).norm(dim=1)
        assert (left <= tolerance * b.flatten(1).norm(dim=1) * (1 + 1e-6)).all()
        torch.testing.assert_close(operator.solve(b[3:], 0.1, tolerance=tolerance), x[3:], rtol=0, atol=tolerance)


def test_a_good_start_needs_no_step_and_a_budget_is_kept(operator, monkeypatch):
    b, calls, gram = image(operator), [], type(operator).gram
    exact = operator.solve(b, 0.1, tolerance=1e-13)
    monkeypatch.setattr(type(operator), "gram", lambda *given: calls.append(1) or gram(*given))
    assert torch.equal(operator.solve(b, 0.1, start=exact, tolerance=1e-6), exact)
    assert len(calls) == 1
    operator.solve(b, 0.1, tolerance=1e-13, iterations=3)
    assert len(calls) == 1 + 3
    assert torch.equal(operator.solve(0 * b, 0.1), 0 * b)


def test_single_precision_ends_when_it_is_down_at_rounding():
    operator = OPERATORS["blur"]()
    b = image(operator)
    exact = operator.solve(b, 1e-3, tolerance=1e-13)
    calls: list[int] = []
    operator.float().register_forward_pre_hook(lambda *_: calls.append(1))
    found = operator.solve(b.float(), 1e-3, tolerance=1e-12)
    assert len(calls) < 300
    assert (found - exact).norm() < 1e-2 * exact.norm()


def test_derivatives_of_second_order_equal_finite_differences(operator):
    ridge = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    b = image(operator)[:1].requires_grad_()
    torch.autograd.gradgradcheck(lambda b, ridge: operator.solve(b, ridge, tolerance=1e-13), (b, ridge), fast_mode=True)


def test_transforms_agree_with_one_after_another(operator):
    b = torch.stack([image(operator, seed) for seed in range(3)])
    ridges = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)

    def solve(b, ridge):
        return operator.solve(b, ridge, tolerance=1e-13)

    each = torch.stack([solve(one, ridge) for one, ridge in zip(b, ridges, strict=True)])
    torch.testing.assert_close(torch.func.vmap(solve)(b, ridges), each)
    torch.testing.assert_close(torch.func.vmap(solve, (None, 0))(b[0], ridges)[0], each[0])
    _, tangent = torch.func.jvp(lambda ridge: solve(b[0], ridge), (ridges[0],), (torch.ones_like(ridges[0]),))
    torch.testing.assert_close(tangent, -solve(each[0], ridges[0]))  # d/dρ (M + ρ)⁻¹b = −(M + ρ)⁻¹x
    if not operator.complex_images:
        jacobian = torch.func.jacrev(lambda ridge: solve(b[0], ridge))(ridges[0])
        torch.testing.assert_close(jacobian, tangent)


def test_a_learned_matrix_has_gradients_also_by_a_transform():
    operator = OPERATORS["learned"]()
    b = image(operator)
    tensors, ridge = dict(operator.named_parameters()), torch.tensor(0.3, dtype=torch.float64)

    module = Solved(operator)
    given = {f"operator.{name}": tensor for name, tensor in tensors.items()}
    by_transform = torch.func.grad(lambda given: torch.func.functional_call(module, given, (b, ridge)).square().sum())(
        given
    )
    by_tape = torch.autograd.grad(module(b, ridge).square().sum(), list(tensors.values()))
    for found, expected in zip(by_transform.values(), by_tape, strict=True):
        torch.testing.assert_close(found, expected)


class Differences(nn.Module):
    """Learned and complex, and quick to compile: wx minus x one to the left."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(9, 9, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return self.weight * x - x.roll(1, -1)

    def back(self, y):
        return self.weight.conj() * y - y.roll(-1, -1)


def differences():
    module = Differences()
    return as_operator((module, module.back), (1, 9, 9), complex_images=True)


COMPILED = {"differences": differences}
if FULL:  # one is enough for the algorithm; others take many seconds
    COMPILED |= {"coils": OPERATORS["coils"], "learned": OPERATORS["learned"]}


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_to_one_graph_with_its_gradients(name):
    operator = COMPILED[name]()
    b = image(operator).requires_grad_()
    ridge = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    inputs = [b, ridge, *operator.parameters()]
    # By default without the trace of the gradients, which takes as long again.
    compiled = torch.compile(operator.solve, fullgraph=True, backend="aot_eager" if FULL else "eager")
    results = [solve(b, ridge, tolerance=1e-11) for solve in (operator.solve, compiled)]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad(x.abs().square().sum(), inputs) for x in results]
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_bad_arguments_are_refused_by_name():
    operator = as_operator(lambda x: x.sum(-1), shape=(1, 4, 4))
    b = torch.rand(2, 1, 4, 4)
    for ridge in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="ridge must be a finite number > 0"):
            operator.solve(b, ridge)
    for ridge in (torch.ones(3), torch.ones(2), torch.ones((), dtype=torch.complex64)):
        with pytest.raises(ValueError, match="ridge must be real, a scalar or of the shape"):
            operator.solve(b, ridge)
    with pytest.raises(ValueError, match="images must be real"):
        operator.solve(b.to(torch.complex64), 1.0)
    with pytest.raises(ValueError, match="tolerance > 0"):
        operator.solve(b, 1.0, tolerance=0)


def test_the_tape_does_not_grow_with_the_steps(operator):
    b, saved = image(operator).requires_grad_(), []
    for tolerance in (1e-1, 1e-12):
        held: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, held=held: held.append(x) or x, lambda x: x):
            operator.solve(b, 0.01, tolerance=tolerance)
        saved.append(len(held))
    assert saved[0] == saved[1]


def test_a_transform_over_operators_agrees_with_one_after_another():
    operator = OPERATORS["learned"]()
    b, ridge, module = image(operator), torch.tensor(0.3, dtype=torch.float64), Solved(operator)
    several = {f"operator.{name}": torch.stack([one, 1.5 * one]) for name, one in operator.named_parameters()}

    def solve(given):
        return torch.func.functional_call(module, given, (b, ridge))

    each = [solve({name: pair[index] for name, pair in several.items()}) for index in range(2)]
    assert not torch.allclose(*each)
    torch.testing.assert_close(torch.func.vmap(solve)(several), torch.stack(each))


def test_steps_that_were_not_enough_are_told_unless_they_were_asked_for(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 40, generator=generator) * torch.logspace(-3, 0, 40)
    operator = as_operator(lambda x: matrix @ x, shape=(1, 40, 1))
    b = torch.randn(1, 1, 40, 1, generator=generator)
    monkeypatch.setattr("unrolled.operators.linear_map.MANY", 5)
    with pytest.warns(UserWarning, match=r"solve: after 5 steps of conjugate gradients the residual is .* of b"):
        operator.solve(b, 1e-6)
    operator.solve(b, 1e-6, iterations=5)
    operator.solve(b, 1.0, tolerance=0.5)


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_numbers_of_any_size_are_solved_for(size):
    generator = torch.Generator().manual_seed(0)
    matrix, b = torch.randn(12, 12, generator=generator), torch.randn(2, 1, 12, 1, generator=generator)
    operator = as_operator(lambda x: matrix @ x, shape=(1, 12, 1))
    expected = torch.linalg.solve(matrix.double().T @ matrix.double() + torch.eye(12), b[:, 0].double())
    torch.testing.assert_close(operator.solve(size * b, 1.0)[:, 0].double() / size, expected, rtol=1e-3, atol=1e-4)
