"""Sparse regression: three algorithms, one problem."""

import numpy as np
import pytest
import scipy.optimize
import torch

from tests.pairs import FULL, first_of
from tests.penalties.cases import NAMES, default
from unrolled.penalties import L0, L1, MCP, Along, Blocks, Grouped, IndexSets, L1MinusL2, LogSum, SparseGroup, Weighted
from unrolled.solvers import adaptive_dropout_descent, irls, proximal_gradient_regression

SOLVERS = [irls, proximal_gradient_regression, adaptive_dropout_descent]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
CASES = [name for name in NAMES if not name.startswith("_")]  # not what is only a part of others
every_penalty = pytest.mark.parametrize("name", CASES)
STRENGTH = 0.5


def short(solver, iterations=4000 if FULL else 2000):
    """Options that keep the noisy one short and repeatable."""
    noisy = solver is adaptive_dropout_descent
    return {"iterations": iterations, "generator": torch.Generator().manual_seed(0)} if noisy else {}


def problem(samples=30, features=12, targets=None, dtype=torch.float64, seed=0):
    """Columns of norms between .5 and 1.5, half of the true weights 0, and some noise."""
    generator = torch.Generator().manual_seed(seed)
    columns = () if targets is None else (targets,)
    X = torch.randn(samples, features, dtype=dtype, generator=generator)
    X = X / X.norm(dim=0) * torch.linspace(0.5, 1.5, features, dtype=dtype)
    w = 3 * torch.randn(features, *columns, dtype=dtype, generator=generator)
    w[::2] = 0
    return X, X @ w + 0.1 * torch.randn(samples, *columns, dtype=dtype, generator=generator)


def objective(X, y, penalty, strength, w, smoothing=0.0):
    magnitude = torch.hypot(w.abs(), torch.full_like(w.real, smoothing))
    return (X @ w - y).abs().square().sum() / 2 + strength * penalty.value(magnitude).sum()


def lasso_of_scipy(X, y, strength):
    """w = p − q, p, q ≥ 0: a smooth problem with bounds."""
    X, y, n = X.numpy(), y.numpy(), X.shape[1]

    def smooth(pq):
        residual = X @ (pq[:n] - pq[n:]) - y
        gradient = X.T @ residual
        return residual @ residual / 2 + strength * pq.sum(), np.concatenate([gradient, -gradient]) + strength

    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20_000, "maxfun": 20_000}
    bounds = [(0, None)] * (2 * n)
    found = scipy.optimize.minimize(
        smooth, np.zeros(2 * n), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return torch.from_numpy(found.x[:n] - found.x[n:])


def check_stationary(X, y, penalty, strength, w, zero=1e-5, tolerance=1e-4):
    """0 ∈ Xᴴ(Xw − y) + strength·∂ρ(w); weights below `zero` count as 0."""
    gradient = X.mH @ (X @ w - y)
    slope = strength * penalty.derivative(w)
    off = w.abs() > zero
    assert (gradient + slope * torch.sgn(w)).abs()[off].max() <= tolerance
    at_zero = strength * penalty.derivative(torch.zeros_like(w.real))
    assert (gradient.abs()[~off] <= at_zero[~off] + tolerance).all()


@pytest.mark.parametrize("shape", [(30, 12), (10, 25)], ids=["tall", "wide"])
def test_all_reach_the_lasso_that_another_solver_finds(shape):
    X, y = problem(*shape)
    expected = lasso_of_scipy(X, y, STRENGTH)
    assert 2 <= (expected.abs() > 1e-6).sum() < shape[1]
    for solver in (irls, proximal_gradient_regression):
        found = solver(X, y, L1(), STRENGTH, iterations=20_000, tolerance=1e-9)
        assert found.converged
        torch.testing.assert_close(found.w, expected, atol=2e-5, rtol=0)
        assert found.objective == pytest.approx(objective(X, y, L1(), STRENGTH, expected).item(), abs=1e-6)
    if FULL or shape == (30, 12):
        noisy = adaptive_dropout_descent(X, y, L1(), STRENGTH, **short(adaptive_dropout_descent))
        assert noisy.objective <= 1.01 * found.objective


@every_penalty
def test_irls_falls_to_a_stationary_point(name):
    (X, y), penalty, smoothing = problem(), default(name), 1e-4
    found = irls(X, y, penalty, STRENGTH, tolerance=1e-10, history=True, smoothing=smoothing)
    assert found.converged
    smoothed = torch.stack([objective(X, y, penalty, STRENGTH, w, smoothing) for w in found.iterates])
    assert (smoothed.diff() <= 1e-10).all()
    # Stationary for the smoothed penalty, at 0 as well: its slope there is a subgradient of the penalty.
    magnitude = torch.hypot(found.w, torch.full_like(found.w, smoothing))
    slope = penalty.derivative(magnitude) * found.w / magnitude
    assert (X.T @ (X @ found.w - y) + STRENGTH * slope).abs().max() <= 1e-5


@pytest.mark.parametrize(("name", "accelerated"), [*((name, True) for name in CASES), ("L1", False), ("MCP", False)])
def test_proximal_gradient_falls_to_a_stationary_point(name, accelerated):
    (X, y), penalty = problem(), default(name)
    found = proximal_gradient_regression(X, y, penalty, STRENGTH, history=True, accelerated=accelerated)
    assert found.converged
    assert len(found.iterates) == len(found.objectives) == found.iterations + 1
    assert (found.objectives.diff() <= 1e-10).all()
    check_stationary(X, y, penalty, STRENGTH, found.w, zero=0)


@every_penalty
def test_a_fixed_point_of_one_is_a_fixed_point_of_the_other(name):
    (X, y), penalty = problem(10, 15), default(name)
    by_prox = proximal_gradient_regression(X, y, penalty, STRENGTH, tolerance=1e-8)
    if penalty.prox_has_step_gradient:  # reweighting forgets the zeros of l0
        torch.testing.assert_close(irls(X, y, penalty, STRENGTH, start=by_prox.w).w, by_prox.w, atol=1e-4, rtol=0)
    kept = irls(X, y, penalty, STRENGTH, start=by_prox.w, smoothing=0)
    assert ((kept.w == 0) == (by_prox.w == 0)).all()
    torch.testing.assert_close(kept.w, by_prox.w, atol=1e-4, rtol=0)


@every_penalty
def test_the_mean_step_of_dropout_is_the_gradient_of_the_penalised_problem(name):
    # Every target is the same problem with masks of its own: 20,000 independent first steps.
    (X, y), penalty, targets = problem(8, 4), default(name), 20_000
    w = torch.tensor([0.2, -0.5, 1.0, 3.0], dtype=torch.float64)
    found = adaptive_dropout_descent(
        X,
        y[:, None].expand(-1, targets),
        penalty,
        STRENGTH,
        w[:, None].expand(-1, targets).contiguous(),
        iterations=1,
        history=True,
        generator=torch.Generator().manual_seed(0),
    )
    steps = found.iterates[1] - found.iterates[0]
    gradient = X.T @ (X @ w - y) + STRENGTH * penalty.derivative(w) * w.sign()
    alpha = penalty.keep_probability(w, STRENGTH / X.square().sum(0))
    expected = -alpha * gradient / (2 * torch.linalg.matrix_norm(X, 2) ** 2)
    error = (steps.mean(1) - expected).abs()
    assert (error <= 4 * steps.std(1) / targets**0.5 + 1e-12).all()


@pytest.mark.parametrize("penalty", first_of([MCP(), L1(), LogSum()]), ids=lambda penalty: type(penalty).__name__)
def test_dropout_comes_to_the_penalised_solution(penalty):
    X, y = problem()
    expected = proximal_gradient_regression(X, y, penalty, STRENGTH)
    found = adaptive_dropout_descent(X, y, penalty, STRENGTH, **short(adaptive_dropout_descent))
    check = (found.w - expected.w).abs()
    assert (check <= 0.005 + found.variance.sqrt()).all()
    assert check.max() < 0.03
    assert found.objective <= expected.objective * 1.01


def test_mean_and_variance_of_dropout_are_those_of_the_last_stage():
    X, y = problem()
    found = adaptive_dropout_descent(
        X, y, L1(), STRENGTH, iterations=1600, tolerance=0, history=True, generator=torch.Generator().manual_seed(0)
    )
    last = found.iterates[801:]
    torch.testing.assert_close(found.w, last.mean(0))
    torch.testing.assert_close(found.variance, last.var(0, correction=0))
    assert found.iterations == 1600
    assert not found.converged
    again = adaptive_dropout_descent(
        X, y, L1(), STRENGTH, iterations=1600, tolerance=0, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(again.w, found.w)
    assert again.iterates is None


def test_the_group_lasso_meets_its_conditions():
    X, y = problem()
    penalty = Grouped(L1(), Blocks(3), weight=1.0)
    w = proximal_gradient_regression(X, y, penalty, 1.5, tolerance=1e-10).w.view(4, 3)
    gradient = (X.T @ (X @ w.flatten() - y)).view(4, 3)
    norm = w.norm(dim=1, keepdim=True)
    assert 0 < (norm == 0).sum() < 4
    assert (gradient.norm(dim=1)[norm[:, 0] == 0] <= 1.5).all()
    expected = torch.where(norm == 0, gradient, -1.5 * w / norm)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("penalty", "targets"),
    [
        (Grouped(L1(), IndexSets([[0, 1, 2], [7, 8, 9, 10]])), None),  # the others are free
        (Grouped(MCP(), Along(1)), 3),
        (SparseGroup(L1(), Grouped(L1(), Blocks(3))), None),
        (L1MinusL2(0.5), None),
        (Weighted(LogSum(), 0.5), None),
    ],
    ids=["index sets", "targets", "sparse group", "l1 - l2", "weighted"],
)
def test_penalties_that_are_built_of_others(penalty, targets):
    X, y = problem(targets=targets)
    by_prox = proximal_gradient_regression(X, y, penalty, STRENGTH, tolerance=1e-9)
    by_ridges = irls(X, y, penalty, STRENGTH, tolerance=1e-9)
    torch.testing.assert_close(by_ridges.w, by_prox.w, atol=1e-4, rtol=0)
    if FULL or isinstance(penalty, Weighted):  # whose steps are quick
        noisy = adaptive_dropout_descent(X, y, penalty, STRENGTH, **short(adaptive_dropout_descent))
        assert noisy.objective <= 1.01 * by_prox.objective


@pytest.mark.parametrize("solver", [irls, proximal_gradient_regression])
def test_targets_are_solved_each_for_itself(solver):
    X, y = problem(targets=3)
    together = solver(X, y, MCP(), STRENGTH, tolerance=1e-9)
    for target in range(3):
        alone = solver(X, y[:, target], MCP(), STRENGTH, tolerance=1e-9)
        torch.testing.assert_close(together.w[:, target], alone.w, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(30, 12), (10, 25)], ids=["tall", "wide"])
@pytest.mark.parametrize("targets", [None, 3])
def test_all_start_at_the_ridge_solution(shape, targets):
    X, y = problem(*shape, targets=targets)
    ridge = torch.linalg.solve(X.T @ X + STRENGTH * torch.eye(shape[1]), X.T @ y)
    for solver in SOLVERS:
        found = solver(X, y, L1(), STRENGTH, iterations=1, history=True)
        torch.testing.assert_close(found.iterates[0], ridge)
    # Where the ridge is lost in rounding there is still a start.
    assert irls(torch.ones(4, 6), torch.ones(4), L1(), 1e-30, iterations=1).w.isfinite().all()


def test_dropout_that_draws_nothing_has_not_converged():
    X, y = problem()
    found = adaptive_dropout_descent(X, y, L1(), 1e9, iterations=400, generator=torch.Generator().manual_seed(0))
    assert not found.converged
    assert found.iterations == 400


@every_solver
def test_complex_problems(solver):
    X, y = problem(dtype=torch.complex128)
    found = solver(X, y, L1(), STRENGTH, **short(solver))
    assert found.w.dtype == torch.complex128
    noisy = solver is adaptive_dropout_descent
    check_stationary(X, y, L1(), STRENGTH, found.w, zero=0.05 if noisy else 1e-5, tolerance=0.05 if noisy else 1e-4)


@every_solver
def test_single_precision(solver):
    X, y = problem()
    exact = proximal_gradient_regression(X, y, L1(), STRENGTH)
    found = solver(X.float(), y.float(), L1(), STRENGTH, **short(solver, 4000))
    assert found.w.dtype == torch.float32
    noisy = solver is adaptive_dropout_descent
    torch.testing.assert_close(found.w.double(), exact.w, atol=0.03 if noisy else 1e-4, rtol=0)


@every_solver
def test_takes_arrays_as_users_have_them(solver):
    X, y = problem()
    X, y, start = (4 * X).round(), (4 * y).round(), torch.ones(12, dtype=torch.float64)

    def solved(*given, strength=STRENGTH):
        generator = torch.Generator().manual_seed(0)
        options = {"generator": generator} if solver is adaptive_dropout_descent else {}
        return solver(given[0], given[1], L1(), strength, given[2], np.int64(40), np.float32(1e-3), **options).w

    expected, single = solved(X, y, start), solved(X.float(), y.float(), start.float())
    torch.testing.assert_close(solved(X.numpy(), y.numpy(), start.numpy(), strength=np.float64(STRENGTH)), expected)
    torch.testing.assert_close(solved(X, y.float(), start.tolist()), expected)
    torch.testing.assert_close(solved(X.long(), y, start.int()), expected)  # in the precision of y
    for of in (torch.Tensor.half, torch.Tensor.long, torch.Tensor.tolist):
        torch.testing.assert_close(solved(of(X), of(y), of(start)), single)
    torch.testing.assert_close(solved(X.T.contiguous().T, y, start), expected)


def test_unpenalised_features_that_nothing_determines_do_no_harm():
    # Far beyond the flat part of MCP there is no penalty: two equal columns leave their weights' difference free.
    X, y = torch.eye(3, dtype=torch.float64)[:, [0, 0, 1]], torch.tensor([40.0, 20.0, 0.0], dtype=torch.float64)
    for solver in (irls, proximal_gradient_regression):
        found = solver(X, y, MCP(), 0.1, start=torch.tensor([30.0, 20.0, 9.0], dtype=torch.float64))
        torch.testing.assert_close(found.w, torch.tensor([25.0, 15.0, 20.0], dtype=torch.float64))


@every_solver
def test_a_feature_without_data_gets_no_weight(solver):
    X, y = problem()
    X[:, 3] = 0
    found = solver(X, y, L1(), STRENGTH, start=torch.ones(12, dtype=torch.float64), **short(solver))
    assert found.w[3].abs() <= 1e-6
    assert solver(torch.zeros_like(X), y, L1(), STRENGTH, **short(solver)).w.abs().max() == 0


def test_l0_drops_what_it_is_told_to():
    X, y = torch.eye(4, dtype=torch.float64), torch.tensor([3.0, 1.1, 0.9, -2.0], dtype=torch.float64)
    found = proximal_gradient_regression(X, y, L0(), 0.5)  # hard thresholding at √(2·.5) = 1
    torch.testing.assert_close(found.w, torch.tensor([3.0, 1.1, 0.0, -2.0], dtype=torch.float64))
    assert found.objective == pytest.approx(0.9**2 / 2 + 3 * 0.5)


@every_solver
def test_bad_arguments_are_refused_by_name(solver):
    X, y = problem()
    nan = y.clone()
    nan[3] = torch.nan
    for message, change in {
        r"X must be \(samples, features\)": {"X": y},
        r"X must be finite": {"X": X * torch.inf},
        r"y must be \(30,\) or \(30, targets\).*got \(29,\)": {"y": y[1:]},
        r"y must be .*got \(30, 1, 1\)": {"y": y[:, None, None]},
        r"y must be real as X, got torch.complex128": {"y": y + 0j},
        r"start must be real as X, got torch.complex128": {"start": nan[:12] + 0j},
        r"y must be finite": {"y": nan},
        r"start must be of shape \(12,\), got \(1,\)": {"start": y[:1]},
        r"start must be finite": {"start": nan[:12]},
        r"strength must be a finite number > 0, got 0": {"strength": 0},
        r"strength must be a finite number > 0, got nan": {"strength": float("nan")},
        r"strength must be a finite number > 0, got True": {"strength": True},
        r"X: must be an array of numbers": {"X": "X"},
        r"y: must be an array of numbers": {"y": None},
        r"iterations must be a whole number >= 1, got 0": {"iterations": 0},
        r"tolerance must be a finite number >= 0, got -1": {"tolerance": -1},
    }.items():
        with pytest.raises(ValueError, match=f"{solver.__name__}: {message}"):
            solver(**({"X": X, "y": y, "penalty": L1(), "strength": STRENGTH} | change))
    if solver is not proximal_gradient_regression:
        with pytest.raises(ValueError, match="smoothing must be a finite number >= 0"):
            solver(X, y, L1(), STRENGTH, smoothing=-0.1)
