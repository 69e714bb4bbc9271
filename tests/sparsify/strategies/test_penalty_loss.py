"""The penalty in the loss: what it adds, what counts as zero, what it refuses."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from tests.pairs import FULL, first_of, in_turn
from unrolled.penalties import L0, L1, MCP, Filters, Grouped, LogSum, Lp, Ridge, SparseGroup, TopK
from unrolled.sparsify import PenaltyLoss

PENALTIES = [L1(), LogSum(0.3), MCP(), Grouped(L1(), Filters()), SparseGroup(L1(), Grouped(L1(), Filters()))]


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_its_gradient_is_the_strength_times_the_slope(penalty):
    layer = nn.Linear(5, 4, dtype=torch.float64)
    sparsifier = PenaltyLoss(layer, penalty, 0.3)
    loss = sparsifier.loss()
    loss.backward()
    assert loss.item() == pytest.approx(0.3 * float(penalty.value(layer.weight.detach()).sum()))
    for index in [(0, 0), (2, 3)]:
        values = []
        for change in (1e-6, -1e-6):
            moved = layer.weight.detach().clone()
            moved[index] += change
            values.append(0.3 * float(penalty.value(moved).sum()))
        assert float(layer.weight.grad[index]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
    assert layer.bias.grad is None


def descended(penalty, kind, decay=True, groups=None, steps=500, **options):
    """½‖w − truth‖² and the penalty, from the truth on; the sparsifier, and the truth."""
    torch.manual_seed(0)
    truth = torch.randn(6, 8, dtype=torch.float64)
    if groups is not None:
        truth[:3] *= 0.1
    layer = nn.Linear(8, 6, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(truth)
    sparsifier = PenaltyLoss(layer, penalty, 0.5, groups=groups)
    optimizer = kind(layer.parameters(), **options)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps if decay else 10**9)
    for _ in range(steps):
        optimizer.zero_grad()
        ((layer.weight - truth).square().sum() / 2 + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)
        schedule.step()  # the last one makes the rate 0
    return layer, sparsifier, optimizer, truth


OPTIMISERS = {
    "SGD": (torch.optim.SGD, {"lr": 0.02}),
    "momentum": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.5}),
    "Adam": (torch.optim.Adam, {"lr": 0.005}),
}


@pytest.mark.parametrize(("optimiser", "decay"), in_turn(list(OPTIMISERS), [True, False], 1, FULL))
def test_it_finds_the_zeros_of_soft_thresholding(optimiser, decay):
    kind, options = OPTIMISERS[optimiser]
    layer, sparsifier, _, truth = descended(L1(), kind, decay, **options)
    solution = truth.sign() * (truth.abs() - 0.5).clamp(min=0)
    clear = (truth.abs() - 0.5).abs() > 0.11  # others are as small as what the optimiser leaves
    sparsifier.finalize()
    assert torch.equal((layer.weight == 0)[clear], (solution == 0)[clear])
    torch.testing.assert_close(layer.weight.detach(), solution, atol=0.12 if not decay else 0.06, rtol=0)


@pytest.mark.parametrize("optimiser", first_of(OPTIMISERS))
def test_groups_become_zero_together(optimiser):
    kind, options = OPTIMISERS[optimiser]
    layer, sparsifier, *_ = descended(L1(), kind, groups=Filters(), **options)
    sparsifier.finalize()
    assert (layer.weight == 0).all(1).tolist() == [True] * 3 + [False] * 3
    assert layer.weight[3:].count_nonzero() == 24


def test_the_model_is_not_touched_before_the_end():
    layer, sparsifier, *_ = descended(L1(), torch.optim.SGD, lr=0.02, steps=200)
    before = layer.weight.detach().clone()
    assert sparsifier.sparsity() > 0.1
    assert torch.equal(layer.weight, before)
    assert (before != 0).all()


def test_a_loaded_state_knows_its_zeros_before_the_first_step():
    layer, sparsifier, optimizer, _ = descended(L1(), torch.optim.Adam, lr=0.01, steps=100)
    copy = nn.Linear(8, 6, bias=False, dtype=torch.float64)
    copy.load_state_dict(layer.state_dict())
    other = PenaltyLoss(copy, L1(), 0.5)
    other.load_state_dict(sparsifier.state_dict())
    assert 0 < sparsifier.sparsity() == other.sparsity()
    again = torch.optim.Adam(copy.parameters(), lr=0.01)
    again.load_state_dict(deepcopy(optimizer.state_dict()))  # which does not copy tensors
    for own, parts, rule in ((layer, sparsifier, optimizer), (copy, other, again)):
        for group in rule.param_groups:
            group["lr"] = 0.02
        for _ in range(5):
            rule.zero_grad()
            (own.weight.square().sum() + parts.loss()).backward()
            rule.step()
            parts.step(rule)
    assert torch.equal(layer.weight, copy.weight)
    assert torch.equal(sparsifier.sparse_weights()["weight"], other.sparse_weights()["weight"])


@pytest.mark.parametrize("penalty", [L0(), Lp(0.5), TopK(3), Grouped(L0(), Filters())], ids=repr)
def test_penalties_without_a_slope_are_refused(penalty):
    with pytest.raises(ValueError, match=r"no finite slope at 0.*LogSum"):
        PenaltyLoss(nn.Linear(3, 3), penalty, 0.1)


def test_penalties_without_zeros_are_refused():
    with pytest.raises(ValueError, match="never gives exact zeros"):
        PenaltyLoss(nn.Linear(3, 3), Ridge(), 0.1)


@pytest.mark.parametrize("penalty", [LogSum(2.0), Grouped(LogSum(2.0), Filters())], ids=repr)
def test_with_a_cutoff_zeros_are_those_that_the_dropout_would_hardly_keep(penalty):
    layer = nn.Linear(8, 6, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-2, 0, 6)[:, None])
    sparsifier = PenaltyLoss(layer, penalty, 0.4, cutoff=0.2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-9)
    assert sparsifier.sparsity() == 0  # before the first step
    layer(torch.ones(1, 8, dtype=torch.float64)).sum().backward()
    optimizer.step()
    sparsifier.step(optimizer)
    w = layer.weight.detach()
    # of a filter the norm, and the penalty is √8 times as large, for it has eight numbers
    size, times = (w.norm(dim=1, keepdim=True).expand_as(w), 8**0.5) if isinstance(penalty, Grouped) else (w.abs(), 1)
    eta = size * (2 + size) / times
    zero = eta / (eta + 0.4) < 0.2
    assert 0 < zero.sum() < zero.numel()
    assert torch.equal(sparsifier.sparse_weights()["weight"] == 0, zero)


def test_a_cutoff_is_a_probability():
    with pytest.raises(ValueError, match="PenaltyLoss: cutoff must be > 0 and < 1, got 1"):
        PenaltyLoss(nn.Linear(3, 3), L1(), 0.1, cutoff=1)
