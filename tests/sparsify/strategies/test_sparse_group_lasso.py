"""The sparse group lasso by splitting, and groups with prices."""

import math

import pytest
import torch
from torch import nn

from tests.pairs import first_of
from tests.sparsify.strategies.images import network, train
from unrolled.penalties import L0, L1, MCP, SCAD, Each, Filters, Grouped, InputChannels, L1MinusL2, TransformedL1
from unrolled.sparsify import PricedGroups, ProximalStep, SparseGroupLasso, neurons


def test_groups_are_filters_and_input_units():
    model = network()
    assert neurons("0.weight", model[0].weight, model[0]) == Filters()
    assert neurons("3.weight", model[3].weight, model[3]) == InputChannels()
    transposed = nn.ConvTranspose2d(2, 5, 3)
    assert neurons("weight", transposed.weight, transposed) == Each(1)


def test_the_loss_is_that_of_the_paper():
    model = network().double()
    sparsifier = SparseGroupLasso(model, TransformedL1(), 0.1, samples=50, beta=2.5)
    groups = [model[0].weight.flatten(1), model[3].weight.T, model[5].weight.T]
    lasso = sum(math.sqrt(g.shape[1]) * g.norm(dim=1).sum() for g in groups)
    torch.testing.assert_close(sparsifier.loss(), 0.1 / 50 * lasso)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier.loss().backward()
    optimizer.step()
    sparsifier.step(optimizer)
    w = [weight.parameter.detach() for weight in sparsifier.weights]
    u = list(sparsifier.sparse_weights().values())
    for dense, sparse in zip(w, u, strict=True):
        torch.testing.assert_close(sparse, TransformedL1().prox(dense, 0.1 / 2.5))
    groups = [w[0].flatten(1), w[1].T, w[2].T]
    lasso = sum(math.sqrt(g.shape[1]) * g.norm(dim=1).sum() for g in groups)
    gap = sum((dense - sparse).square().sum() for dense, sparse in zip(w, u, strict=True))
    assert sparsifier.loss().item() == pytest.approx((0.1 * lasso + 2.5 / 2 * gap).item() / 50)


def test_groups_can_have_prices():
    model = network().double()
    priced = PricedGroups({"0": 7.0, "5.w*": 2})
    first, second, third = model[0].weight.flatten(1), model[3].weight.T, model[5].weight.T
    lasso = 7 * first.norm(dim=1).sum() + math.sqrt(12) * second.norm(dim=1).sum() + 2 * third.norm(dim=1).sum()
    sparsifier = SparseGroupLasso(model, strength=0.1, group_strength=0.3, groups=priced)
    torch.testing.assert_close(sparsifier.loss(), 0.3 * lasso)
    sparsifier.release()
    before = model[0].weight.detach().clone()
    sparsifier = ProximalStep(model, L1(), 0.2, groups=PricedGroups({"0.weight": 7.0}, Filters()), include="0")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    (0 * model[0].weight.sum()).backward()
    optimizer.step()
    sparsifier.step(optimizer)
    shrunk = (before.flatten(1).norm(dim=1) - 0.01 * 0.2 * 7).clamp(min=0)
    torch.testing.assert_close(model[0].weight.detach().flatten(1).norm(dim=1), shrunk)


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"0": 0}, "prices must be finite numbers > 0, got 0 for '0'"),
        ({"0": math.inf}, "prices must be finite numbers > 0, got inf"),
        ({"0": "much"}, "prices must be finite numbers > 0, got 'much'"),
        ({"conv": 2.0}, "prices: 'conv' is none of the weights, 0.weight, 3.weight, 5.weight"),
    ],
)
def test_wrong_prices_are_refused(prices, message):
    for make in (SparseGroupLasso, lambda *given, **named: ProximalStep(given[0], L1(), **named)):
        with pytest.raises(ValueError, match=message):
            make(network(), strength=1.0, groups=PricedGroups(prices))


@pytest.mark.parametrize(
    "penalty", first_of([None, L0(), L1MinusL2(), TransformedL1(), SCAD(gamma=0.1, a=3.7), MCP()], 3), ids=str
)
def test_weights_and_neurons_die(penalty):
    model = network()
    sparsifier = SparseGroupLasso(model, penalty, target=0.8, group_strength=3e-3, steps=100)
    assert sparsifier.penalty == (penalty or L1())
    train(model, sparsifier, 100)
    figures = sparsifier.figures()
    sparsifier.finalize()
    weights = [model[i].weight for i in (0, 3, 5)]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    dead = torch.cat([(weights[0] == 0).flatten(1).all(1), *((w == 0).all(0) for w in weights[1:])])
    assert figures["sparsity"] == pytest.approx(zeros)
    assert zeros == pytest.approx(0.8, abs=0.005)
    assert figures["group_sparsity"] == pytest.approx(dead.double().mean().item())
    assert 0.05 < figures["group_sparsity"] < 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: SparseGroupLasso(m, L1(), 0.1, samples=0), "samples must be a whole number >= 1, got 0"),
        (lambda m: SparseGroupLasso(m, L1(), 0.1, group_strength=0.0), "group_strength must be a number > 0, got 0.0"),
        (lambda m: SparseGroupLasso(m, Grouped(L1(), Filters()), 0.1), "penalty must be one of single numbers"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make(network())
