"""The sparse group lasso by splitting, and combined group and exclusive sparsity."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unrolled.penalties import L0, L1, MCP, SCAD, Each, Filters, Grouped, InputChannels, L1MinusL2, TransformedL1
from unrolled.sparsify import CGES, PricedGroups, ProximalStep, SparseGroupLasso, neurons
from unrolled.sparsify.strategies.cges import group_exclusive_prox


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 12), nn.ReLU(), nn.Linear(12, 3))


def train(model, sparsifier, steps, rate=3e-3):
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        x = torch.randn(32, 1, 6, 6, generator=generator)
        y = torch.stack([x[:, 0, 2, 2], x[:, 0, 3, 3], x[:, 0, 2, 3]], 1).argmax(1)
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)


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
    with pytest.raises(ValueError, match="CGES: groups cannot have prices"):
        CGES(network(), strength=1.0, groups=PricedGroups({"0": 2.0}))


@pytest.mark.parametrize("penalty", [None, L0(), TransformedL1(), SCAD(gamma=0.1, a=3.7), MCP(), L1MinusL2()], ids=str)
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


def objective(z, v, a, b):
    return (z - v).square().sum(-1) / 2 + a * z.norm(dim=-1) + b / 2 * z.abs().sum(-1).square()


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.3), (0.4, 0.0), (0.4, 0.3), (0.1, 5.0), (2.0, 0.05)])
def test_the_proximal_map_is_the_minimiser(a, b):
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(40, 7, generator=generator, dtype=torch.float64)
    z = group_exclusive_prox(v, Each(0), a, b)
    # a strictly convex objective, whose optimality can be checked: 0 is in v − z ∈ a∂‖z‖ + b‖z‖₁∂‖z‖₁
    for row, point in zip(v, z, strict=True):
        total, norm = point.abs().sum(), point.norm()
        if norm == 0:
            # some u with |u| ≤ 1 has v = a·u, as the square has no slope at 0
            assert row.norm() <= a + 1e-12
            continue
        kept = point != 0
        residual = row - point - a * point / norm
        torch.testing.assert_close(residual[kept], b * total * point[kept].sign(), atol=1e-9, rtol=0)
        assert (residual[~kept].abs() <= b * total + 1e-9).all()
    near = z + 0.01 * torch.randn(200, *z.shape, generator=generator, dtype=torch.float64)
    assert (objective(near, v, a, b) >= objective(z, v, a, b) - 1e-12).all()
    assert (z == 0).any() == (b > 0 or a > 1)


def test_exclusive_sparsity_has_its_closed_form():
    v = torch.randn(30, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    b = 0.7
    largest = v.abs().sort(descending=True).values
    sums = largest.cumsum(1) / (1 + b * torch.arange(1, 10))
    total = sums.amax(1, keepdim=True)  # of k ↦ Σ_k/(1 + bk) the largest is the one at the right k
    torch.testing.assert_close(group_exclusive_prox(v, Each(0), 0.0, b), v.sign() * (v.abs() - b * total).clamp(min=0))


def test_groups_may_lie_along_any_axis_and_numbers_be_of_any_kind():
    v = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(3))
    z = group_exclusive_prox(v, InputChannels(), 0.3, 0.2)
    rows = group_exclusive_prox(v.transpose(0, 1).reshape(5, 12), Each(0), 0.3, 0.2)
    torch.testing.assert_close(z, rows.reshape(5, 4, 3).transpose(0, 1))
    assert group_exclusive_prox(v.bfloat16(), InputChannels(), 0.3, 0.2).dtype == torch.bfloat16
    turned = group_exclusive_prox(v * 1j, InputChannels(), 0.3, 0.2)
    torch.testing.assert_close(turned, z * 1j)
    assert not group_exclusive_prox(torch.zeros(2, 3), Each(0), 0.0, 0.2).any()


def test_lower_layers_lose_groups_and_upper_ones_numbers():
    model = network()
    sparsifier = CGES(model, 0.03)
    assert sparsifier.mu == pytest.approx([1 / 3, 2 / 3, 1])
    train(model, sparsifier, 60)
    figures = sparsifier.figures()
    sparsifier.finalize()
    weights = [model[i].weight for i in (0, 3, 5)]
    assert figures["sparsity"] == pytest.approx(torch.cat([(w == 0).flatten() for w in weights]).double().mean())
    assert 0.2 < figures["sparsity"] < 0.95
    assert (model[3].weight == 0).all(0).sum() > 5
    last = model[5].weight
    assert (last == 0).any()
    assert last.any(0).all()  # exclusive sparsity leaves something of every group


def test_a_step_of_gradient_descent_is_the_proximal_gradient():
    layer = nn.Linear(6, 3, bias=False)
    before = layer.weight.detach().clone()
    sparsifier = CGES(layer, 0.5, mu=[0.25])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 6)).sum().backward()
    optimizer.step()
    sparsifier.step(optimizer)
    wanted = group_exclusive_prox(before - 0.1, InputChannels(), 0.1 * 0.5 * 0.75, 0.1 * 0.5 * 0.25)
    torch.testing.assert_close(layer.weight.detach(), wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: SparseGroupLasso(m, L1(), 0.1, samples=0), "samples must be a whole number >= 1, got 0"),
        (lambda m: SparseGroupLasso(m, L1(), 0.1, group_strength=0.0), "group_strength must be a number > 0, got 0.0"),
        (lambda m: SparseGroupLasso(m, Grouped(L1(), Filters()), 0.1), "penalty must be one of single numbers"),
        (lambda m: CGES(m, 0.1, mu=[0.5]), r"mu must be 3 numbers in \[0, 1\], one for each weight"),
        (lambda m: CGES(m, 0.1, mu=[0.5, 2.0, 0.5]), r"mu must be 3 numbers in \[0, 1\]"),
        (lambda m: CGES(m, 0.1, groups=lambda *_: None), "a grouping for every weight, got None for 0.weight"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make(network())
