"""The η-trick, against closed forms and what it must converge to."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from tests.sparsify.strategies.layers import layer_of
from unrolled.penalties import (
    L0,
    L1,
    MCP,
    SCAD,
    Exponential,
    Filters,
    Grouped,
    L1MinusL2,
    LogSum,
    Lp,
    Penalty,
    Ridge,
    SparseGroup,
    Standout,
    TopK,
)
from unrolled.sparsify import AdaProx, ReweightedTikhonov


def regression(seed=0, samples=40, inputs=6):
    """A least-squares problem whose columns have unit norm, and what made it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
    x /= x.norm(dim=0)
    truth = torch.tensor([[2.0, -1.5, 1.0] + [0.0] * (inputs - 3)], dtype=torch.float64)
    noise = 0.05 * torch.randn(samples, 1, generator=generator, dtype=torch.float64)
    return x, x @ truth.T + noise


def loss_of(layer, x, y, sparsifier, optimizer):
    optimizer.zero_grad()
    loss = (layer(x) - y).square().sum() / 2 + sparsifier.loss()
    loss.backward()
    return loss


def minimizer(parameters, iterations):
    return torch.optim.LBFGS(
        parameters, max_iter=iterations, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=0
    )


PENALTIES = [L1(), LogSum(0.3), MCP(1.0, 2.0), SCAD(), Lp(0.5), Grouped(LogSum(0.3), Filters()), L1MinusL2(0.7)]


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_after_freezing_the_gradient_is_that_of_the_penalty(penalty):
    layer = layer_of([[0.7, -0.2, 0.05], [1.5, 0.4, -0.9]])
    ReweightedTikhonov(layer, penalty, 0.3, floor=0).loss().backward()
    w = layer.weight.detach().clone().requires_grad_()
    (0.3 * penalty.value(w).sum()).backward()
    torch.testing.assert_close(layer.weight.grad, w.grad)


@pytest.mark.parametrize("penalty", [*PENALTIES, Exponential()], ids=repr)
def test_with_the_best_eta_the_joint_loss_is_the_penalty_and_with_others_more(penalty):
    layer = layer_of([[0.7, -0.2, 0.05], [1.5, 0.4, -0.9]])
    sparsifier = ReweightedTikhonov(layer, penalty, 0.3, update="joint")
    (log_eta,) = sparsifier.parameters()
    exact = 0.3 * penalty.value(layer.weight).sum()
    eta = penalty.eta(layer.weight).detach().clamp(max=1e9)
    with torch.no_grad():
        log_eta.copy_(eta.log())
        torch.testing.assert_close(sparsifier.loss(), exact, rtol=1e-6, atol=1e-6)
        for factor in (0.5, 2.0):
            log_eta.copy_((factor * penalty.eta(layer.weight).clamp(max=1e3)).log())
            assert sparsifier.loss() >= exact


def test_alternating_it_is_iteratively_reweighted_least_squares():
    x, y = regression()
    penalty, strength = LogSum(0.5), 0.2
    layer = layer_of(torch.ones(1, 6))
    sparsifier = ReweightedTikhonov(layer, penalty, strength, floor=0)
    w = layer.weight.detach().clone()
    for _ in range(3):
        w = torch.linalg.solve(x.T @ x + torch.diag(strength / penalty.eta(w)[0]), x.T @ y).T
        optimizer = minimizer(layer.parameters(), 100)
        optimizer.step(partial(loss_of, layer, x, y, sparsifier, optimizer))  # of which a step is a whole solution
        sparsifier.step(optimizer)
        torch.testing.assert_close(layer.weight.detach(), w, rtol=1e-6, atol=1e-7)


def test_jointly_it_comes_to_rest_where_the_penalty_does():
    x, y = regression()
    strength = 0.1
    layer = layer_of(torch.linalg.lstsq(x, y).solution.T)
    sparsifier = ReweightedTikhonov(layer, L1(), strength, update="joint", cutoff=0.01)
    optimizer = minimizer([*layer.parameters(), *sparsifier.parameters()], 600)
    optimizer.step(lambda: loss_of(layer, x, y, sparsifier, optimizer))
    lasso = torch.zeros_like(layer.weight)  # by proximal gradient
    step = 1 / torch.linalg.matrix_norm(x, 2) ** 2
    for _ in range(3000):
        lasso = L1().prox(lasso - step * (lasso @ x.T - y.T) @ x, step * strength)
    assert 0 < lasso.count_nonzero() < lasso.numel()
    sparsifier.finalize()
    torch.testing.assert_close(layer.weight.detach(), lasso, rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.weight != 0, lasso != 0)


def test_ada_tikhonov_of_the_paper():
    layer = layer_of([[1.0, -0.1, 1e-6, 0.0]])
    strength = 0.02
    sparsifier = ReweightedTikhonov(layer, LogSum(2), strength)
    w = layer.weight.detach().abs()
    alpha = (w * (w + 2) / (w * (w + 2) + strength)).clamp(min=1e-3)
    torch.testing.assert_close(sparsifier.loss(), (w.square() * (1 - alpha) / alpha).sum() / 2)


def test_eta_is_frozen_for_as_many_steps_as_asked_and_over_a_resume():
    def trained(stop=None):
        layer = layer_of([[1.0, 2.0, 3.0]])
        sparsifier = ReweightedTikhonov(layer, L1(), 0.1, every=4)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
        gradients = []
        for step in range(10):
            if step == stop:
                state = copy.deepcopy(sparsifier.state_dict())
                sparsifier.release()
                sparsifier = ReweightedTikhonov(layer, L1(), 0.1, every=4)
                sparsifier.load_state_dict(state)
            layer.zero_grad()
            if step % 4 == 0:
                frozen = layer.weight.detach().clone()
            sparsifier.loss().backward()
            torch.testing.assert_close(layer.weight.grad, 0.1 * layer.weight.detach() / frozen)
            gradients.append(layer.weight.grad.clone())
            optimizer.step()
            sparsifier.step(optimizer)
        return gradients

    assert all(torch.equal(a, b) for a, b in zip(trained(), trained(stop=6), strict=True))


@pytest.mark.parametrize("strategy", [AdaProx, ReweightedTikhonov])
def test_zero_is_what_dropout_would_hardly_ever_keep(strategy):
    layer = layer_of([[1.0, 0.0054, -0.0052, 0.001]])  # of l1, α = |w|/(|w| + strength) < .05: |w| < strength/19
    sparsifier = strategy(layer, L1(), 0.1)
    assert sparsifier.sparsity() == 0.5
    sparsifier.finalize()
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[1.0, 0.0054, 0, 0]], dtype=torch.float64))


def test_zero_of_learned_eta_is_by_what_was_learned():
    layer = layer_of([[1.0, 1e-9]])
    sparsifier = ReweightedTikhonov(layer, L1(), 0.1, update="joint")
    assert sparsifier.sparsity() == 0
    (log_eta,) = sparsifier.parameters()
    torch.testing.assert_close(log_eta.detach().exp() / 0.1, torch.full_like(log_eta, 0.9933 / (1 - 0.9933)))
    with torch.no_grad():
        log_eta[0, 0] = math.log(0.1) - 3  # α = σ(−3) = .047
    sparsifier.finalize()
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[0, 1e-9]], dtype=torch.float64))


def test_the_further_term_is_linear_in_log_eta():
    losses = []
    for weight in (0.0, 0.01):
        sparsifier = ReweightedTikhonov(
            layer_of([[1.0, 2.0]]), L1(), 0.5, update="joint", log_eta_weight=weight, initial_keep=0.8
        )
        losses.append(sparsifier.loss())
    torch.testing.assert_close(
        losses[1] - losses[0], torch.tensor(0.25 * 0.01 * 2 * math.log(2.0), dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (L0(), "flat but for a jump"),
        (TopK(2), "flat but for a jump"),
        (Grouped(L0(), Filters()), "flat but for a jump"),
        (Ridge(), "treats all weights alike"),
        (Standout(1.0, 0.0), r"but only beyond 19"),
        (Penalty.from_dropout(lambda z: torch.sigmoid(z)), r"but only beyond 19"),
    ],
    ids=["l0", "top-k", "groups", "ridge", "standout", "a rule"],
)
@pytest.mark.parametrize("strategy", [AdaProx, ReweightedTikhonov])
def test_a_penalty_that_reweights_nothing_to_zero_is_refused(strategy, penalty, message):
    with pytest.raises(ValueError, match=message):
        strategy(nn.Linear(3, 2), penalty, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": "both"}, "update must be"),
        ({"every": 0}, "every must be a whole number >= 1, got 0"),
        ({"every": True}, "every must be"),
        ({"cutoff": 0}, "cutoff must be > 0 and < 1, got 0"),
        ({"cutoff": 1.0}, "cutoff must be"),
        ({"floor": -1e-3}, "floor must be"),
        ({"floor": 1}, "floor must be"),
        ({"initial_keep": 1.0}, "initial_keep must be"),
        ({"log_eta_weight": -1}, "log_eta_weight must be"),
        ({"log_eta_weight": math.nan}, "log_eta_weight must be"),
    ],
)
def test_bad_arguments(options, message):
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=message):
        ReweightedTikhonov(model, L1(), 1.0, **options)
    ReweightedTikhonov(model, L1(), 1.0)  # which nothing holds any more


def test_a_dual_without_gradient_cannot_be_learned_by():
    penalty = SparseGroup(LogSum(0.5), Grouped(LogSum(0.5), Filters()))
    with pytest.raises(ValueError, match="has no gradient"):
        ReweightedTikhonov(nn.Linear(3, 2), penalty, 1.0, update="joint")
    assert ReweightedTikhonov(nn.Linear(3, 2), penalty, 1.0).loss() > 0


def test_complex_weights():
    layer = nn.Linear(2, 1, bias=False, dtype=torch.complex64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3 + 4j, 1e-6j]]))
    sparsifier = ReweightedTikhonov(layer, L1(), 0.1)
    torch.testing.assert_close(sparsifier.loss(), torch.tensor(0.05 * 5))
    sparsifier.finalize()
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[3 + 4j, 0]]))
