"""Laws of penalties on groups, over every separable penalty and every grouping that exist."""

import itertools
import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import concrete_subclasses
from tests.pairs import FULL, first_of, in_turn
from tests.penalties.cases import CLASSES, NAMES, default, drawn
from tests.penalties.groups import (
    GROUPINGS,
    brute_force,
    group_value,
    keeps_the_first_of_the_largest,
    l1_minus_l2_value,
    prox_is_that_of_the_norms,
    prox_is_the_global_minimiser,
    sparse_group_value,
)
from unrolled.penalties import (
    L0,
    L1,
    MCP,
    Blocks,
    Each,
    Exponential,
    Filters,
    Grouped,
    Grouping,
    IndexSets,
    L1MinusL2,
    Pixels,
    SparseGroup,
    Weighted,
    Whole,
)

# Of the penalties whose tables take seconds to make, the quick one stands for all: groups treat all of them alike.
SLOW = ("HardConcrete", "VariationalDropout")
QUICK = [name for name in NAMES if name not in SLOW]
every_penalty = pytest.mark.parametrize("name", QUICK)
every_class = pytest.mark.parametrize("name", [name for name in CLASSES if name not in SLOW])
every_grouping = pytest.mark.parametrize("groups", GROUPINGS)
TYPES = [torch.float64, torch.float32, torch.complex128]
GROUPED = in_turn(QUICK, list(GROUPINGS), 2, whole=FULL)
"""Penalties and groupings: each of them with some of the others, for neither knows the other's kind."""


def grouped_with(values):
    """Those pairs with one of the values each, in turn; or all pairs with all values."""
    if FULL:
        return [(*pair, value) for pair in GROUPED for value in values]
    return [(*pair, value) for pair, value in zip(GROUPED, itertools.cycle(values))]


few = settings(max_examples=4 if FULL else 2, deadline=None, derandomize=True)
some = settings(max_examples=12 if FULL else 6, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
steps = st.floats(0.02, 4)


def normal(seed: int, *shape: int, scale: float = 2.0, dtype=torch.float64) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_group(numbers, groups, shape):
    """Numbers of the groups at their entries, NaN elsewhere."""
    out = torch.full((math.prod(shape),), torch.nan, dtype=numbers.dtype)
    for number, group in zip(numbers.flatten(), groups, strict=True):
        out[group] = number
    return out.reshape(shape)


def test_every_grouping_is_tested():
    assert {type(grouping) for grouping, _, _ in GROUPINGS.values()} == set(concrete_subclasses(Grouping))


@every_grouping
def test_groupings_are_as_written_out_by_hand(groups):
    grouping, shape, members = GROUPINGS[groups]
    w = normal(0, *shape)
    picked = [w.flatten()[group] for group in members]
    for got, expected in (
        (grouping.norm(w), [x.norm() for x in picked]),
        (grouping.sum(w), [x.sum() for x in picked]),
        (grouping.max(w), [x.max() for x in picked]),
        (torch.as_tensor(grouping.size(shape)).double().expand(grouping.shape(shape)), [len(x) for x in picked]),
    ):
        assert got.shape == grouping.shape(shape)
        torch.testing.assert_close(got.flatten(), torch.tensor([float(x) for x in expected]).double())
    numbers = torch.arange(1.0, len(members) + 1).double().reshape(grouping.shape(shape))
    spread = grouping.spread(numbers, shape, outside=math.nan)
    torch.testing.assert_close(spread, by_group(numbers, members, shape), equal_nan=True)


@every_grouping
def test_groupings_are_plain_values(groups):
    grouping, _, _ = GROUPINGS[groups]
    again = type(grouping)(**asdict(grouping))
    assert again == grouping
    assert hash(again) == hash(grouping)


@every_class
@pytest.mark.parametrize("size", [2, 3])
@given(data=st.data(), seed=seeds, step=steps)
@few
def test_prox_is_the_global_minimiser(name, size, data, seed, step):
    penalty = drawn(name, data)
    value = group_value(penalty, size**0.5)
    prox_is_the_global_minimiser(Grouped(penalty, Whole()).prox, value, normal(seed, size), step)


@pytest.mark.parametrize(("name", "groups", "step"), grouped_with([0.1, 0.9]))
def test_prox_is_that_of_the_norms(name, groups, step):
    grouping, shape, members = GROUPINGS[groups]
    prox_is_that_of_the_norms(Grouped(default(name), grouping), shape, members, normal(1, *shape), step)


@pytest.mark.parametrize(("name", "groups"), GROUPED)
def test_numbers_are_one_per_group_and_make_the_value(name, groups):
    grouping, shape, members = GROUPINGS[groups]
    penalty = Grouped(default(name), grouping)
    w = normal(2, *shape)
    size = torch.tensor([float(len(group)) for group in members], dtype=torch.float64)
    norm = torch.stack([w.flatten()[group].norm() for group in members])
    eta = penalty.eta(w)
    for got, expected in (
        (penalty.value(w), size.sqrt() * penalty.penalty.value(norm)),
        (penalty.derivative(w), size.sqrt() * penalty.penalty.derivative(norm)),
        (0.5 * (grouping.norm(w).square() / eta + penalty.dual(eta, shape)), penalty.value(w).flatten()),
        (penalty.keep_probability(w, 0.3), 1 / (1 + 0.3 * penalty.derivative(w).flatten() / norm)),
    ):
        assert got.shape == grouping.shape(shape)
        torch.testing.assert_close(got.flatten(), expected, rtol=1e-6, atol=1e-8)


@every_penalty
@given(data=st.data(), step=steps, seed=seeds)
@few
def test_threshold_is_on_the_norm(name, data, step, seed):
    penalty = Grouped(drawn(name, data), Filters())
    v = normal(seed, 2, 3)
    t = penalty.threshold(step, v.shape)
    assert torch.equal(replace(penalty, weight=3**0.5).threshold(step), t)
    if not penalty.exact_zeros:
        assert t == 0
        assert (penalty.prox(1e-6 * v, step) != 0).all()
        return
    at = v / v.norm(dim=1, keepdim=True) * t
    assert (penalty.prox(at * (1 - 1e-9), step) == 0).all()
    assert (penalty.prox(at * (1 + 1e-9), step) != 0).all()


@every_penalty
@given(data=st.data(), step=steps, seed=seeds)
@few
def test_prox_turns_with_its_group(name, data, step, seed):
    penalty = Grouped(drawn(name, data), Pixels())
    v = normal(seed, 2, 3, 2)
    turn = torch.linalg.qr(normal(seed + 1, 3, 3))[0]
    turned = torch.einsum("ij,bjk->bik", turn, v)
    torch.testing.assert_close(penalty.prox(turned, step), torch.einsum("ij,bjk->bik", turn, penalty.prox(v, step)))
    phase = torch.polar(torch.ones_like(v), v)
    torch.testing.assert_close(penalty.prox(v * phase, step), penalty.prox(v, step) * phase)


@every_penalty
def test_groups_of_one_are_single_numbers(name):
    penalty = default(name)
    w = normal(3, 3, 4)
    for grouping in (Each((0, 1)), Blocks((1, 1))):
        grouped = Grouped(penalty, grouping)
        torch.testing.assert_close(grouped.prox(w, 0.7), penalty.prox(w, 0.7), atol=1e-12, rtol=1e-12)
        steps = torch.linspace(0.1, 3, 12).double().reshape(3, 4)
        torch.testing.assert_close(grouped.prox(w, steps), penalty.prox(w, steps), atol=1e-12, rtol=1e-12)
        for method in ("value", "derivative", "eta"):
            torch.testing.assert_close(getattr(grouped, method)(w), getattr(penalty, method)(w))


@pytest.mark.parametrize(("name", "groups", "dtype"), grouped_with(TYPES))
def test_gradients_are_finite_everywhere(name, groups, dtype):
    grouping, shape, members = GROUPINGS[groups]
    penalty = Grouped(default(name), grouping)
    v = normal(4, *shape, dtype=dtype)
    v.view(-1)[members[0]] = 0
    v.requires_grad_()
    step = torch.tensor(0.3, dtype=v.real.dtype, requires_grad=True)
    outcome = penalty.prox(v, step).abs().sum() + penalty.value(v).sum()
    for gradient in torch.autograd.grad(outcome, (v, step), allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@every_class
@given(data=st.data(), seed=seeds, step=steps)
@settings(few, max_examples=2 if FULL else 1)
def test_gradients_of_prox(name, data, seed, step):
    penalty = Grouped(drawn(name, data), Pixels(), weight=1)
    v, step = normal(seed, 4, 3), torch.tensor(step, dtype=torch.float64)
    norm = v.norm(dim=1)
    around = [penalty.penalty.prox(norm * (1 + d), step) for d in (-1e-4, 0, 1e-4)]
    kinked = ((around[0] + around[2]) / 2 - around[1]).abs() > 1e-7
    v = v[~kinked].requires_grad_()
    torch.autograd.gradcheck(penalty.prox, (v, step.requires_grad_()), eps=1e-6, atol=1e-5, fast_mode=not FULL)


@every_penalty
def test_types_nan_and_infinity(name):
    penalty = Grouped(default(name), Pixels())
    exact = normal(5, 2, 3, 4)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float64, 1e-14)):
        w = exact.to(dtype)
        for result in (penalty.prox(w, 0.3), penalty.value(w), penalty.derivative(w), penalty.eta(w)):
            assert result.dtype == dtype
        assert (penalty.prox(w, 0.3).double() - penalty.prox(w.double(), 0.3)).abs().max() <= tolerance
    assert penalty.prox(exact.to(torch.complex64), 0.3).dtype == torch.complex64
    assert penalty.value(exact.to(torch.complex64)).dtype == torch.float32
    v = torch.zeros(1, 2, 4)
    v[0, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0])
    z = penalty.prox(v, 0.5)
    assert z[0, :, 0].isnan().all()
    assert z[0, 0, 1:3].tolist() == [torch.inf, -torch.inf]
    assert z[0, :, 3].isfinite().all()
    assert penalty.value(v)[0, 0, 0].isnan()


def test_weights():
    v = normal(6, 4, 3)
    weights = torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64)[:, None]
    z = Grouped(MCP(), Filters(), weights).prox(v, 0.4)
    assert torch.equal(z, Grouped(MCP(), Filters(), weights.tolist()).prox(v, 0.4))
    assert torch.equal(z[0], v[0])
    for row in (1, 2, 3):
        alone = Grouped(MCP(), Filters(), float(weights[row])).prox(v[row : row + 1], 0.4)
        torch.testing.assert_close(z[row : row + 1], alone)
    assert torch.equal(Grouped(MCP(), Filters(), None).prox(v, 0.4), Grouped(MCP(), Filters(), 1).prox(v, 0.4))
    free = Grouped(L0(), Filters(), weights)
    assert (free.value(v)[0], free.eta(v)[0], free.keep_probability(v, 1.0)[0]) == (0, math.inf, 1)


def test_step_of_each_group():
    v = normal(7, 2, 3, 4, 4)
    steps = torch.rand(2, 3, 1, 1, dtype=torch.float64) + 0.1
    grouping = Each((0, 1))
    z = Grouped(MCP(), grouping).prox(v, steps)
    for a in range(2):
        for b in range(3):
            torch.testing.assert_close(z[a, b], Grouped(MCP(), Whole()).prox(v[a, b], float(steps[a, b])))
    blocks = torch.rand(2, 3, 2, 2, dtype=torch.float64) + 0.1
    z = Grouped(MCP(), Blocks((2, 2))).prox(v, blocks)
    torch.testing.assert_close(
        z[1, 2, 2:, :2], Grouped(MCP(), Whole()).prox(v[1, 2, 2:, :2], float(blocks[1, 2, 1, 0]))
    )


@given(seed=seeds, spread=st.floats(0, 3), weight=st.floats(0.05, 3))
@some
def test_group_lasso_in_a_diagonal_metric(seed, spread, weight):
    v = normal(seed, 2)
    steps = normal(seed + 1, 2, scale=spread).exp()
    z = Grouped(L1(), Whole(), weight).prox(v, steps)

    def objective(z):
        return ((z - v).square() / (2 * steps)).sum(1) + weight * z.norm(dim=1)

    assert objective(z[None])[0] <= brute_force(objective, v) + 1e-9 * (v.square() / steps).sum()
    same = torch.full((2,), 0.3, dtype=torch.float64)
    torch.testing.assert_close(Grouped(L1(), Whole()).prox(v, same), Grouped(L1(), Whole()).prox(v, 0.3))


def test_gradients_in_a_diagonal_metric():
    v = torch.cat([normal(8, 3, 3), torch.zeros(1, 3)]).requires_grad_()
    steps = normal(9, 4, 3, scale=0.5).exp().requires_grad_()
    penalty = Grouped(L1(), Filters())
    assert (penalty.prox(v, steps).detach()[:3] != 0).any()
    torch.autograd.gradcheck(penalty.prox, (v, steps), atol=1e-6)
    free = Grouped(L1(), Filters(), [[0.0], [1.0], [1.0], [1.0]])
    assert torch.equal(free.prox(v, steps)[0], v[0])


# l1 − α l2


@pytest.mark.parametrize("size", [1, 2, 3])
@given(alpha=st.floats(0.05, 1), seed=seeds, step=steps)
@some
def test_l1_minus_l2_prox_is_the_global_minimiser(size, alpha, seed, step):
    prox = L1MinusL2(alpha).prox
    prox_is_the_global_minimiser(prox, l1_minus_l2_value(alpha), normal(seed, size), step)


def test_l1_minus_l2_keeps_the_first_of_the_largest():
    keeps_the_first_of_the_largest(L1MinusL2().prox)


@every_grouping
def test_l1_minus_l2_of_groups_is_that_of_each(groups):
    grouping, shape, members = GROUPINGS[groups]
    penalty, alone = L1MinusL2(0.7, grouping), L1MinusL2(0.7)
    for dtype in (torch.float64, torch.complex128):
        v = normal(10, *shape, dtype=dtype)
        z = penalty.prox(v, 3.0)
        assert (z == 0).any()
        expected = v.flatten().clone()
        for group in members:
            expected[group] = alone.prox(v.flatten()[group], 3.0)
        torch.testing.assert_close(z.flatten(), expected)
        torch.testing.assert_close(z.abs(), penalty.prox(v.abs(), 3.0).abs())
    values = torch.stack([alone.value(v.flatten()[group])[0] for group in members])
    torch.testing.assert_close(penalty.value(v).flatten(), values)


@given(alpha=st.floats(0.05, 1), step=steps, seed=seeds)
@some
def test_l1_minus_l2_threshold_is_on_the_largest(alpha, step, seed):
    penalty, v = L1MinusL2(alpha), normal(seed, 4)
    t = penalty.threshold(step)
    v = v / v.abs().max() * max(float(t), 1e-3 * step)
    assert (penalty.prox(v * (1 + 1e-9), step) != 0).any()
    if t > 1e-3 * step:
        assert (penalty.prox(v * (1 - 1e-9), step) == 0).all()


@given(alpha=st.floats(0.05, 1), seed=seeds)
@some
def test_l1_minus_l2_has_a_variational_form(alpha, seed):
    penalty, w = L1MinusL2(alpha, Filters()), normal(seed, 5, 3)
    w[0, 1:] = 0
    w[1] = 0
    eta = penalty.eta(w)
    assert eta.shape == w.shape
    reached = 0.5 * (torch.where(w == 0, 0.0, w.square() / eta).sum(1, keepdim=True) + penalty.dual(eta))
    torch.testing.assert_close(reached, penalty.value(w), atol=1e-7, rtol=1e-7)
    # Anywhere else the form is not smaller, and the dual is what it is defined to be.
    other = normal(seed + 1, 2).exp()
    z = torch.cartesian_prod(*[torch.linspace(0, 3 * float(e), 301).double() for e in other])
    dual = L1MinusL2(alpha).dual(other)
    supremum = (2 * l1_minus_l2_value(alpha)(z) - (z.square() / other).sum(1)).max()
    torch.testing.assert_close(dual[0], supremum, rtol=1e-3, atol=1e-4)
    assert dual[0] >= supremum - 1e-12


def test_l1_minus_l2_dual_at_infinity():
    eta = torch.tensor([math.inf, 5.0], dtype=torch.float64)
    assert L1MinusL2(0.5).dual(eta).item() == math.inf
    torch.testing.assert_close(L1MinusL2(1.0).dual(eta).item(), 5.0)
    assert L1MinusL2(1.0).dual(eta[:1]).item() == 0


def test_l1_minus_l2_derivative_is_that_of_the_value():
    w = normal(11, 4, 3).abs().requires_grad_()
    penalty = L1MinusL2(0.8, Filters())
    (slope,) = torch.autograd.grad(penalty.value(w).sum(), w)
    torch.testing.assert_close(penalty.derivative(w), slope)


def test_l1_minus_l2_gradients_types_nan_and_infinity():
    penalty = L1MinusL2(0.9, Filters())
    v = torch.tensor([[2.0, -0.4, 1.1], [0.8, 0.7, -0.3], [0.05, 0.0, 0.02], [0.0, 0.0, 0.0]], dtype=torch.float64)
    v.requires_grad_()
    step = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(penalty.prox, (v, step), atol=1e-6)
    (gradient,) = torch.autograd.grad(penalty.value(v).sum() + penalty.eta(v).sum() + penalty.derivative(v).sum(), v)
    assert gradient.isfinite().all()
    assert penalty.prox(v.bfloat16(), 1.0).dtype == torch.bfloat16
    z = penalty.prox(torch.tensor([[torch.nan, 1.0], [-torch.inf, 1.0]]), 0.5)
    assert z[0].isnan().all()
    assert z[1, 0] == -torch.inf


# Sparse group


@every_class
@given(data=st.data(), seed=seeds, step=steps, alpha=st.floats(0.05, 0.95))
@settings(few, max_examples=2 if FULL else 1)
def test_sparse_group_prox_is_the_global_minimiser(name, data, seed, step, alpha):
    inner, outer = drawn(name, data), data.draw(st.sampled_from([L1(), L0(), MCP(1.0, 0.5), Exponential(0.5)]))
    v = normal(seed, 2)
    penalty = SparseGroup(inner, Grouped(outer, Whole()), alpha)
    value = sparse_group_value(inner, outer, 2**0.5, alpha)
    prox_is_the_global_minimiser(penalty.prox, value, v, step)


def test_sparse_group_prox_is_never_worse_than_the_composition_zero_and_itself():
    v = normal(14, 50, 4)
    for inner, outer in ((L0(), L1()), (MCP(2.0, 0.3), L0()), (MCP(1.0, 1.0), Exponential(0.3))):
        penalty, gains = SparseGroup(inner, Grouped(outer, Filters())), []
        for step in (0.3, 1.0, 2.0):

            def objective(z, penalty=penalty, step=step):
                return 0.5 * (z - v).square().sum(1, keepdim=True) + step * penalty.value(z)

            composition = penalty.grouped.prox(inner.prox(v, step / 2), step / 2)
            reached = objective(penalty.prox(v, step))
            for other in (composition, v, 0 * v):
                assert (reached <= objective(other) + 1e-12).all()
            gains.append((objective(composition) - reached).max())
        assert max(gains) > 1e-2


@every_class
@given(data=st.data(), seed=seeds, step=steps)
@few
def test_after_l1_the_composition_is_exact_with_every_group_penalty(name, data, seed, step):
    outer, v = drawn(name, data), normal(seed, 3)
    penalty = SparseGroup(L1(), Grouped(outer, Whole()), 0.4)
    assert penalty.exact
    prox_is_the_global_minimiser(penalty.prox, sparse_group_value(L1(), outer, 3**0.5, 0.4), v, step)


def test_only_l1_inside_is_exact():
    assert not SparseGroup(L0(), Grouped(L1(), Whole())).exact
    assert SparseGroup(Weighted(L1(), [0.0, 2.0]), Grouped(MCP(), Whole())).exact


@every_grouping
def test_sparse_groups_are_each_on_their_own(groups):
    grouping, shape, members = GROUPINGS[groups]
    for inner in (L1(), MCP(2.0, 0.4)):
        penalty = SparseGroup(inner, Grouped(MCP(1.0, 0.8), grouping), 0.6)
        alone = SparseGroup(inner, Grouped(MCP(1.0, 0.8), Whole()), 0.6)
        for dtype in first_of((torch.float64, torch.complex128)) if inner == L1() else (torch.complex128,):
            v = normal(12, *shape, dtype=dtype)
            expected = v.flatten().clone()
            for group in members:
                expected[group] = alone.prox(v.flatten()[group], 0.8)
            torch.testing.assert_close(penalty.prox(v, 0.8).flatten(), expected)
        values = torch.stack([alone.value(v.flatten()[group])[0] for group in members])
        torch.testing.assert_close(penalty.value(v).flatten(), values)


# Not Ridge: its η lies on the edge of where its dual is finite, and rounding decides.
@pytest.mark.parametrize("name", [name for name in CLASSES if name not in (*SLOW, "Ridge")])
def test_sparse_group_has_a_variational_form(name):
    penalty = SparseGroup(default(name), Grouped(MCP(1.0, 3.0), Filters()), 0.3)
    w = normal(13, 3, 4)
    eta = penalty.eta(w)
    assert eta.shape == w.shape
    reached = 0.5 * (torch.where(eta.isinf(), 0.0, w.square() / eta).sum(1, keepdim=True) + penalty.dual(eta))
    torch.testing.assert_close(reached, penalty.value(w), rtol=1e-5, atol=1e-6)
    slope = penalty.derivative(w)
    torch.testing.assert_close(w.abs() * (eta != math.inf), eta.clamp(max=1e300) * slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("inner", "rows"), first_of([(L1(), 3), (MCP(1.5, 2.0), 2), (Exponential(0.8), 1)], 2))
def test_sparse_group_threshold_and_gradients(inner, rows):
    penalty = SparseGroup(inner, Grouped(L1(), Filters(), 1), 0.6)
    t = penalty.threshold(0.7)
    v = torch.cat([torch.full((1, 1), 50.0), torch.stack([t * 0.999, t * 1.01])[None]], 1).double()
    assert penalty.prox(v, 0.7).ne(0).tolist() == [[True, False, True]]
    v = torch.tensor([[2.0, -1.4, 0.1], [0.3, 0.2, -0.1], [0.0, 0.0, 0.0]], dtype=torch.float64)
    step = torch.tensor(0.7, dtype=torch.float64)
    assert penalty.prox(v, step).count_nonzero() == 2
    v = v[:rows].requires_grad_()
    torch.autograd.gradcheck(penalty.prox, (v, step.requires_grad_()), eps=1e-5, atol=1e-5, fast_mode=True)


def test_sparse_group_at_zero_infinity_and_nan():
    for inner in (L1(), MCP()):
        penalty = SparseGroup(inner, Grouped(L1(), Filters()))
        zero = torch.zeros(2, 3, requires_grad=True)
        for method in (lambda v, p=penalty: p.prox(v, 0.3), penalty.value, penalty.derivative, penalty.eta):
            result = method(zero)
            if result.requires_grad:
                assert torch.autograd.grad(result.sum(), zero)[0].isfinite().all(), method
        z = penalty.prox(torch.tensor([[torch.nan, 1.0], [-torch.inf, 4.0], [0.2, 9.0]]), 0.3)
        assert z[0].isnan().all()
        assert z[1, 0] == -torch.inf
        assert z[1:].isnan().sum() == 0
        torch.testing.assert_close(penalty.prox(torch.tensor([[0.2, 9.0]]), 0.3), z[2:])
        assert penalty.prox(zero.bfloat16(), 0.3).dtype == torch.bfloat16
        assert penalty.value(zero.to(torch.complex64)).dtype == torch.float32


def test_a_parameter_of_a_sparse_group_has_a_gradient():
    gamma = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    v = torch.tensor([[2.0, -1.4, 0.1]], dtype=torch.float64)

    def prox(gamma):
        return SparseGroup(MCP(gamma, 2.0), Grouped(L1(), Filters()), 0.6).prox(v, 0.5)

    torch.autograd.gradcheck(prox, (gamma,), eps=1e-5, atol=1e-5)


# Weights for each number


@every_class
@given(data=st.data(), step=steps, weight=st.floats(0.1, 4), v=st.floats(-6, 6))
@few
def test_weighted_is_the_penalty_times_its_weight(name, data, step, weight, v):
    penalty = drawn(name, data)
    one = Weighted(penalty, weight)
    v = torch.tensor([v], dtype=torch.float64)
    prox_is_the_global_minimiser(one.prox, lambda z: weight * penalty.value(z)[:, 0], v, step)
    w = v.abs() + 0.05
    torch.testing.assert_close(one.value(w), weight * penalty.value(w))
    torch.testing.assert_close(0.5 * (w.square() / one.eta(w) + one.dual(one.eta(w))), one.value(w))
    several = Weighted(penalty, [weight, 0.0, 1.0])
    v = v.expand(3)
    expected = [one.prox(v[:1], step), v[:1], penalty.prox(v[:1], step)]
    torch.testing.assert_close(several.prox(v, step), torch.cat(expected))
    assert several.value(v)[1] == several.derivative(v)[1] == several.threshold(step)[1] == 0
    assert several.eta(v)[1] == math.inf
    assert several.dual(v.abs())[1] == 0


# What is refused


def refused(message):
    return pytest.raises(ValueError, match=message)


def test_bad_groupings_are_refused_by_name():
    w = torch.ones(4, 6)
    for grouping, message in (
        (Each(2), r"Each\(axes=2\): the tensor has no axis 2, its shape is \(4, 6\)"),
        (Each((0, -2)), "the axes must differ"),
        (Pixels(), None),
        (Blocks((3, 3)), r"must be multiples of the block, its shape is \(4, 6\)"),
        (Blocks((1, 1, 1)), "last 3 sizes"),
        (IndexSets([[24]]), "index 24, but the flattened tensor has only 24 entries"),
        (IndexSets([[0], [6]], axis=1), "index 6, but axis 1 has only 6 entries"),
        (IndexSets([[0]], axis=2), "no axis 2"),
    ):
        if message is None:
            Grouped(L1(), grouping).prox(w, 1.0)
            continue
        for method in (lambda g: Grouped(L1(), g).prox(w, 1.0), lambda g: L1MinusL2(1, g).value(w)):
            with refused(message):
                method(grouping)
    for make, message in (
        (lambda: Blocks(0), "block must have one side >= 1 or more of them, got 0"),
        (lambda: Blocks(()), "block must have one side"),
        (lambda: Blocks((1.5,)), "block must be whole numbers"),
        (lambda: Each("0"), "axes must be whole numbers, got '0'"),
        (lambda: Each(True), "axes must be whole numbers"),
        (lambda: IndexSets([]), "one or more lists"),
        (lambda: IndexSets("01"), "one or more lists"),
        (lambda: IndexSets([[0], []]), r"one or more numbers >= 0, got \(\)"),
        (lambda: IndexSets([[0], [-1]]), r"numbers >= 0, got \(-1,\)"),
        (lambda: IndexSets([0, 1]), "must be a list"),
        (lambda: IndexSets([[0, 1], [2, 1]]), "disjoint, but 1 occurs twice"),
        (lambda: IndexSets([[3, 3]]), "disjoint, but 3 occurs twice"),
        (lambda: IndexSets([[0]], axis=0.5), "axis must be whole numbers, got 0.5"),
    ):
        with refused(message):
            make()


def test_bad_penalties_are_refused_by_name():
    group = Grouped(L1(), Whole())
    for make, message in (
        (lambda: Grouped(group, Whole()), "Grouped: penalty must be one of single numbers"),
        (lambda: Grouped(L1(), 0), "Grouped: grouping must be a Grouping"),
        (lambda: Grouped(L1(), Whole(), "size"), "weight must be 'sqrt_size', None or numbers, got 'size'"),
        (lambda: Grouped(L1(), Whole(), -1.0), "Grouped: weight must be finite floating point numbers >= 0, got -1.0"),
        (lambda: Grouped(L1(), Whole(), True), "Grouped: weight must be finite floating point numbers >= 0, got True"),
        (lambda: Grouped(L1(), Whole(), torch.tensor([1])), "weight must be finite floating point"),
        (lambda: Grouped(Weighted(L1(), [1.0, 2.0]), Whole()), "groups have weights of their own"),
        (lambda: Weighted(L1(), [1.0, -2.0]), "Weighted: weights must be finite floating point numbers >= 0, got -2.0"),
        (lambda: Weighted(L1(), torch.tensor(math.nan)), "weights must be finite"),
        (lambda: Weighted(L1(), "one"), "weights must be finite"),
        (lambda: Weighted(group, 1.0), "Weighted: penalty must be one of single numbers"),
        *(
            (lambda a=a: L1MinusL2(a), "alpha must be a number > 0 and <= 1, got")
            for a in (0, -0.5, 1.01, math.nan, True, "1", torch.tensor(1))
        ),
        (lambda: L1MinusL2(1, None), "L1MinusL2: grouping must be a Grouping"),
        *(
            (lambda a=a: SparseGroup(L1(), group, a), "SparseGroup: alpha must be a finite number > 0 and < 1")
            for a in (0, 1, math.nan)
        ),
        (lambda: SparseGroup(group, group), "SparseGroup: penalty must be one of single numbers"),
        (lambda: SparseGroup(L1(), L1()), "SparseGroup: grouped must be Grouped"),
    ):
        with refused(message):
            make()


def test_bad_arguments_are_refused_by_name():
    w = torch.ones(4, 6)
    mcp = Grouped(MCP(), Filters())
    for penalty in (mcp, L1MinusL2(), SparseGroup(L1(), mcp), SparseGroup(L0(), mcp), Weighted(L1(), 2.0)):
        for bad in (0.0, -1.0, math.nan):
            with refused("step must be a finite number > 0"):
                penalty.prox(w, bad)
        for method in (penalty.value, penalty.derivative, penalty.eta, lambda v, penalty=penalty: penalty.prox(v, 1.0)):
            for numbers in (w.long(), w.numpy(), w.tolist()):
                assert torch.equal(method(numbers), method(w))
    for penalty in (mcp, L1MinusL2(grouping=Filters()), SparseGroup(L0(), mcp)):
        with refused(r"the step must be the same within a group, of shape \(4, 1\)"):
            penalty.prox(w, torch.rand(4, 6) + 0.1)
        with refused(r"step must broadcast against the groups, of shape \(4, 1\)"):
            penalty.prox(w, torch.ones(5, 1))
    for method in (mcp.threshold, lambda step: mcp.dual(torch.tensor(step))):
        with refused("depend on the tensor: give its shape"):
            method(1.0)
