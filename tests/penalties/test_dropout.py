"""Strategies of dropout and pruning as penalties, against the values and formulas of the literature."""

import itertools

import pytest
import scipy.special
import torch

from tests.pairs import FULL, in_turn
from unrolled.penalties import (
    ARD,
    L1,
    HardConcrete,
    LogSum,
    Ridge,
    Standout,
    TopK,
    VariationalDropout,
    VariationalDropoutFit,
    adaptive_dropout_mask,
)
from unrolled.penalties.dawson_integral import dawson


def f64(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_dawson_and_its_integral():
    x = torch.cat([torch.linspace(0, 15, 20_001), torch.logspace(1, 8, 1001)]).double()
    value, integral = dawson(x)
    assert abs(value.numpy() - scipy.special.dawsn(x.numpy())).max() <= 1e-14
    x.requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(dawson(x)[1].sum(), x)[0], value, rtol=1e-10, atol=1e-13)
    trapezoids = 15 / 20_000 * (value[1:20_001] + value[:20_000]).detach() / 2
    torch.testing.assert_close(integral[20_000].detach(), trapezoids.sum(), rtol=0, atol=1e-6)


def test_variational_dropout_has_its_values():
    w = f64(0.1, 0.5, 1, 2, 5, 10)
    penalty = VariationalDropout()
    value, eta = (
        f64(0.09916, 0.4788, 0.91359, 1.63935, 2.72265, 3.43266),
        f64(0.1017, 0.5468, 1.2139, 3.2104, 23.834, 98.97),
    )
    torch.testing.assert_close(penalty.value(w), value, rtol=0, atol=2e-5)
    torch.testing.assert_close(penalty.eta(w), eta, rtol=4e-4, atol=0)
    torch.testing.assert_close(penalty.derivative(f64(0.0)), f64(1.0))
    torch.testing.assert_close(penalty.value(f64(1e6)) - f64(1e6).log(), f64(1.135), rtol=0, atol=1e-3)


def test_the_fit_is_as_close_as_it_is_said_to_be():
    eta = torch.logspace(-4, 4, 4001, dtype=torch.float64)
    error = ((VariationalDropoutFit().dual(eta) - VariationalDropout().dual(eta)) / 2).abs().max()
    assert 5e-3 < error <= 9.4e-3


def test_hard_concrete_has_its_values():
    penalty = HardConcrete()
    torch.testing.assert_close(penalty.value(f64(0.1, 0.5, 1, 30)), f64(0.2, 0.805, 1, 1), rtol=0, atol=6e-4)
    assert penalty.eta(f64(1.0)) == torch.inf


def test_hard_concrete_is_the_least_over_sampled_gates():
    beta, gamma, zeta = 0.5, -0.2, 1.3
    uniform = ((torch.arange(4_000, dtype=torch.float64) + 0.5) / 4_000).logit()
    location = torch.linspace(-8, 8, 161, dtype=torch.float64)[:, None]
    gates = (torch.sigmoid((uniform + location) / beta) * (zeta - gamma) + gamma).clamp(0, 1)
    noise = gates.var(1, unbiased=False) / gates.mean(1).square()
    w = f64(0.05, 0.2, 0.5, 0.8)[:, None]
    least = 0.5 * (w.square() * noise + 2 * (gates > 0).double().mean(1)).min(1).values
    torch.testing.assert_close(HardConcrete(beta, gamma, zeta).value(w[:, 0]), least, rtol=5e-3, atol=0)


@pytest.mark.parametrize(
    ("step", "numbers"),
    in_turn([1e-7, 1e-4, 0.0039, 0.01, 0.02], [(2 / 3, -0.1, 1.1), (0.85, -0.05, 3.0)], 1, FULL),
)
def test_small_steps_jump_over_the_kink_where_gates_open_for_good(numbers, step):
    penalty = HardConcrete(*numbers)
    top = float(penalty.curve.exact.top(torch.device("cpu")))
    v = torch.linspace(top - 0.02, top + 0.02, 100 if FULL else 20, dtype=torch.float64)
    z = penalty.prox(v, step)
    # Beyond the kink ρ is 1 and z = v; it is best to be there if that costs no more than any z below.
    below = torch.linspace(0, top, 20001, dtype=torch.float64)
    least = (0.5 * (below - v[:, None]).square() + step * penalty.value(below)).min(1).values
    beyond = (v > top) & (step < least - 1e-9)  # the grid misses the least by (top/20000)²/8
    assert beyond.any()
    torch.testing.assert_close(z[beyond], v[beyond], rtol=1e-14, atol=0)
    assert (0.5 * (z - v).square() + step * penalty.value(z) <= least.clamp(max=step) + 1e-12).all()


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (3.0, -2.0), (0.2, 1.0)])
def test_standout_is_its_rule(a, b):
    penalty = Standout(a, b)
    w = torch.linspace(0, 9, 200, dtype=torch.float64)
    torch.testing.assert_close(penalty.keep_probability(w, 1.0), torch.sigmoid(a * w + b))
    expected = torch.exp(f64(-b)) * (1 - (1 + a * w) * torch.exp(-a * w)) / a**2
    torch.testing.assert_close(penalty.value(w), expected, rtol=1e-10, atol=1e-13)
    assert penalty.threshold(2.0) == 0


def test_parameters_may_be_tensors():
    a = f64(0.5, 1.0, 3.0)
    w = torch.linspace(0.1, 6, 20, dtype=torch.float64)[:, None]
    together = Standout(a, -1.0).prox(w, 2.0)
    for column, each in zip(together.T, a.tolist(), strict=True):
        torch.testing.assert_close(column, Standout(each, -1.0).prox(w[:, 0], 2.0))
    torch.autograd.gradcheck(lambda a: Standout(a, -1.0).prox(w[::4], 0.7), a.requires_grad_())


def test_ridge():
    w = f64(-3, 0, 2)
    penalty = Ridge()
    assert torch.equal(penalty.prox(w, 0.5), w / 1.5)
    assert torch.equal(penalty.value(w), w.square() / 2)
    assert torch.equal(penalty.eta(w), torch.ones(3).double())
    assert torch.equal(penalty.dual(f64(0.5, 1, 2)), f64(0, 0, torch.inf))
    assert torch.equal(penalty.keep_probability(w, 3.0), torch.full((3,), 0.25).double())


def test_top_k_is_the_best_k_sparse_approximation():
    v = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.complex128)
    penalty = TopK(2)
    z = penalty.prox(v, 0.7)
    best = min(
        v.flatten()[[i for i in range(6) if i not in kept]].abs().square().sum()
        for kept in itertools.combinations(range(6), 2)
    )
    torch.testing.assert_close((z - v).abs().square().sum(), best)
    assert (z != 0).sum() == 2
    assert torch.equal(penalty.value(z), torch.zeros(1, 1).double())
    assert torch.equal(penalty.value(v), torch.full((1, 1), torch.inf).double())
    assert torch.equal(penalty.eta(v) == torch.inf, z != 0)
    assert (TopK(2).prox(torch.ones(5), 1.0) != 0).sum() == 2
    with pytest.raises(ValueError, match="at most the number of entries, 6, got 7"):
        TopK(7).prox(v, 1.0)


def ard_brute_force(penalty, v, step):
    """The least of ½|z − v|² + step·ρ(z) over a grid of η."""
    axis = torch.cat([torch.zeros(1), torch.logspace(-3, 2.5, 40)]).double()
    eta = torch.cartesian_prod(*[axis] * len(v))
    return (step / 2 * ((v.square() / (eta + step)).sum(-1) + penalty.dual(eta)[:, 0])).min()


@pytest.mark.parametrize(("p", "seed"), in_turn([2, 3], range(4), 1, FULL))
def test_ard(p, seed):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(4, p, generator=generator, dtype=torch.float64)
    w = 2 * torch.randn(p, generator=generator, dtype=torch.float64)
    penalty = ARD(X, 0.5)
    axis = torch.logspace(-3, 2, 50, dtype=torch.float64)
    eta = torch.cartesian_prod(*[axis] * p)
    grid = 0.5 * ((w.square() / eta).sum(-1) + penalty.dual(eta)[:, 0]).min()
    assert grid - 0.05 <= penalty.value(w) <= grid + 1e-12
    reached = 0.5 * ((w.square() / penalty.eta(w)).sum() + penalty.dual(penalty.eta(w)))
    torch.testing.assert_close(penalty.value(w), reached)
    for step in (0.1, 0.5, 2.0):
        z = penalty.prox(w, step)
        cost = 0.5 * (z - w).square().sum() + step * penalty.value(z)[0]
        assert cost <= ard_brute_force(penalty, w, step) + 1e-9
    torch.autograd.gradcheck(penalty.value, w.requires_grad_())
    torch.testing.assert_close(torch.autograd.grad(penalty.value(w).sum(), w)[0].abs(), penalty.derivative(w).detach())
    torch.autograd.gradcheck(lambda w, step: penalty.prox(w, step), (w, f64(0.1).requires_grad_()))


def test_ard_with_orthogonal_columns_is_separable_and_its_prox_global():
    penalty, alone = ARD(torch.diag(f64(1.0, 3.0)), 0.5), [ARD(f64(1.0)[:, None], 0.5), ARD(f64(3.0)[:, None], 0.5)]
    v = torch.linspace(-6, 6, 41 if FULL else 17, dtype=torch.float64)
    both = torch.cartesian_prod(v, v)
    for step in (0.05, 1.0, 5.0):
        z = penalty.prox(both, step)
        for j in range(2):
            torch.testing.assert_close(z[:, j], alone[j].prox(both[:, j : j + 1], step)[:, 0])
            t = float(penalty.threshold(step)[j])
            near = f64(t * (1 - 1e-6), t * (1 + 1e-6))[:, None]
            assert (alone[j].prox(near, step) != 0).flatten().tolist() == [False, True]


@pytest.mark.parametrize("noise", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("penalty", [LogSum(0.5), VariationalDropout(), Standout(2.0, -1.0), L1()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_masks_add_the_predicted_penalty(penalty, noise, dtype):
    generator, strength, count = torch.Generator().manual_seed(0), 0.3, 20_000
    w = torch.tensor([0.2, -0.4, 1.3, 3.0], dtype=dtype)
    if dtype.is_complex:
        w = w * torch.tensor([1, 1j, -1j, 0.6 + 0.8j], dtype=dtype)
    columns = torch.linalg.qr(torch.randn(6, 4, generator=generator, dtype=dtype))[0]
    columns[:, 0] = columns[:, 0] * 0.6 + columns[:, 1] * 0.8  # of unit norm, not orthogonal
    y = torch.randn(6, generator=generator, dtype=dtype)
    masks = adaptive_dropout_mask(penalty, w.expand(count, 4), strength, noise, generator)
    losses = ((masks * w) @ columns.T - y).abs().square().sum(1)
    predicted = (columns @ w - y).abs().square().sum() + strength * (w.abs().square() / penalty.eta(w)).sum()
    assert abs(losses.mean() - predicted) <= 5 * losses.std() / count**0.5


@pytest.mark.parametrize("noise", ["bernoulli", "gaussian"])
def test_masks_of_what_is_dropped_are_zero(noise):
    assert torch.equal(adaptive_dropout_mask(TopK(1), f64(3, -1), 0.5, noise), f64(1, 0))
    assert torch.equal(adaptive_dropout_mask(L1(), f64(0, 0), 0.5, noise), f64(0, 0))


def test_bad_arguments_are_refused():
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="TopK: k must be an integer >= 1"):
            TopK(bad)
    with pytest.raises(ValueError, match="Standout: b must be a finite number"):
        Standout(1.0, float("nan"))
    with pytest.raises(ValueError, match=r"ARD: X must be \(n, p\), none of them 0, got \(3,\)"):
        ARD(torch.ones(3), 1.0)
    with pytest.raises(ValueError, match="ARD: tau must be a finite number > 0"):
        ARD(torch.ones(3, 2), 0.0)
    with pytest.raises(ValueError, match="last axis of 2"):
        ARD(torch.ones(3, 2), 1.0).value(torch.ones(3))
    with pytest.raises(ValueError, match="'bernoulli' or 'gaussian', got 'uniform'"):
        adaptive_dropout_mask(L1(), f64(1), 1.0, "uniform")
    with pytest.raises(ValueError, match="strength must be a finite number > 0"):
        adaptive_dropout_mask(L1(), f64(1), 0.0)


def test_top_k_as_dropout_and_as_a_dual():
    w, penalty = f64(-3, 0.5, 2, 1), TopK(2)
    assert penalty.keep_probability(w, 0.7).tolist() == [1, 0, 1, 0]
    assert penalty.derivative(w).tolist() == [0, torch.inf, 0, torch.inf]
    assert penalty.threshold(0.3) == torch.inf
    # f(η) = sup over w of |w|²/η − 2ρ(w): 0 on vectors of at most k numbers, else without a bound.
    assert [penalty.dual(eta).item() for eta in (f64(0, 3, 0, 1), f64(0, 3, 1, 1))] == [0, torch.inf]


def test_ard_needs_data_in_every_column():
    for X, message in (
        (torch.ones(3), r"X must be \(n, p\), none of them 0, got \(3,\)"),
        ("text", "X: must be an array of numbers, got 'text'"),
        (torch.eye(3)[:, :2] * torch.tensor([1.0, 0.0]), "must be finite and have no column of zeros"),
        (torch.full((3, 2), torch.nan), "must be finite and have no column of zeros"),
    ):
        with pytest.raises(ValueError, match=f"ARD: .*{message}"):
            ARD(X, 1.0)
