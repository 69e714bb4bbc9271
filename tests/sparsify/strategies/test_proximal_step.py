"""The proximal step against closed forms and optimality conditions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import LBFGS, SGD, Adagrad, Adam, RMSprop

from tests.pairs import FULL, in_turn
from unrolled.penalties import L0, L1, MCP, Filters, Grouped, IndexSets, LogSum, SparseGroup, TopK, TransformedL1
from unrolled.sparsify import Constant, ProximalStep, WarmUp
from unrolled.sparsify.machinery import proximal_updates
from unrolled.sparsify.machinery.metric_prox import prox_in_metric

OPTIMISERS = {
    "SGD": lambda w: SGD(w, 0.4),
    "momentum": lambda w: SGD(w, 0.1, momentum=0.8),
    "Adam": lambda w: Adam(w, 0.1),
    "amsgrad": lambda w: Adam(w, 0.1, amsgrad=True),
    "RMSprop": lambda w: RMSprop(w, 0.04),
    "Adagrad": lambda w: Adagrad(w, 1.0),
}


def step_once(layer, sparsifier, optimizer):
    optimizer.zero_grad()
    layer(torch.ones(1, layer.in_features)).sum().backward()
    optimizer.step()
    sparsifier.step(optimizer)


def solved(penalty, strength, optimiser, groups=None):
    """A regression with a penalty: its weight (6, 5), and the gradient of the loss there."""
    torch.manual_seed(0)
    inputs = torch.randn(40, 5, dtype=torch.float64)
    truth = torch.randn(6, 5, dtype=torch.float64) * (torch.rand(6, 5) < 0.5)
    wanted = inputs @ truth.T + 0.1 * torch.randn(40, 6, dtype=torch.float64)
    layer = nn.Linear(5, 6, bias=False, dtype=torch.float64)
    sparsifier = ProximalStep(layer, penalty, strength, groups=groups)
    optimizer = OPTIMISERS[optimiser](layer.parameters())
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 250)
    for _ in range(250):
        optimizer.zero_grad()
        (F.mse_loss(layer(inputs), wanted, reduction="sum") / 80).backward()
        optimizer.step()
        sparsifier.step(optimizer)
        decay.step()
    weight = layer.weight.detach()
    return weight, (weight @ inputs.T - wanted.T) @ inputs / 40


def test_with_gradient_descent_it_is_the_iteration_of_ista():
    torch.manual_seed(0)
    layer = nn.Linear(5, 3, bias=False)
    before = layer.weight.detach().clone()
    step_once(layer, ProximalStep(layer, L1(), strength=0.5), SGD(layer.parameters(), lr=0.1))
    moved = before - 0.1
    torch.testing.assert_close(layer.weight.detach(), moved.sign() * (moved.abs() - 0.05).clamp(min=0))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_it_ends_where_the_lasso_is_optimal(optimiser):
    weight, gradient = solved(L1(), 0.2, optimiser)
    kept = weight != 0
    assert 5 < kept.sum() < 25
    torch.testing.assert_close(gradient[kept], -0.2 * weight[kept].sign(), atol=2e-3, rtol=0)
    assert gradient[~kept].abs().max() < 0.202


@pytest.mark.parametrize(
    ("penalty", "optimiser"), in_turn([L1(), TransformedL1(1.0), MCP(1.0, 3.0)], ["momentum", "Adam"], 1, FULL)
)
def test_it_ends_where_penalties_on_groups_are_stationary(penalty, optimiser):
    weight, gradient = solved(penalty, 0.1, optimiser, Filters())
    norm = weight.norm(dim=1, keepdim=True)
    kept = norm[:, 0] > 0
    assert kept.any()
    slope = 0.1 * 5**0.5 * penalty.derivative(norm)
    torch.testing.assert_close(gradient[kept], (-slope * weight / norm)[kept], atol=3e-3, rtol=0)


def test_groups_become_zero_together_where_the_group_lasso_says_so():
    weight, gradient = solved(L1(), 0.3, "Adam", Filters())
    zero = (weight == 0).all(1)
    assert 0 < zero.sum() < 6
    assert ((weight == 0).any(1) == zero).all()
    assert gradient[zero].norm(dim=1).max() <= 0.3 * 5**0.5 * 1.01


PENALTIES = [L1(), L0(), MCP(1.0, 0.7), TransformedL1(0.5), LogSum(0.2)]


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_in_a_metric_it_is_close_to_the_best_point_of_a_group(penalty):
    """Of two numbers, against all points of a grid."""
    torch.manual_seed(1)
    penalty = Grouped(penalty, Filters(), weight=1)
    axis = torch.linspace(-3, 3, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    for _ in range(12):
        v, step = torch.randn(1, 2, dtype=torch.float64), 0.05 + torch.rand(1, 2, dtype=torch.float64)

        def cost(z, v=v, step=step):
            return ((z - v) ** 2 / (2 * step)).sum(1) + penalty.value(z)[:, 0]

        z = prox_in_metric(penalty, v, step)
        shares = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
        assert cost(z) <= cost(shares * v).min() + 1e-9  # the best multiple of v; 0 and v are among them
        assert cost(z) <= cost(grid).min() * 1.1 + 1e-9
        if isinstance(penalty.penalty, L1):
            assert cost(z) <= cost(grid).min()


def test_in_a_metric_the_largest_are_those_that_cost_most_to_lose():
    v, step = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 4.0, 1.0])
    assert prox_in_metric(TopK(1), v, step).tolist() == [1.0, 0.0, 0.0]  # v²/step is 10, 1, 9
    assert prox_in_metric(TopK(2), v, step).tolist() == [1.0, 0.0, 3.0]


def test_numbers_in_no_group_are_left_alone():
    penalty = Grouped(MCP(), IndexSets([[0, 1]]))
    z = prox_in_metric(penalty, torch.tensor([0.1, 0.1, 0.1]), torch.tensor([0.5, 0.6, 0.7]))
    assert z.tolist() == pytest.approx([0, 0, 0.1])


def test_groups_with_l1_inside_may_have_any_penalty():
    penalty = SparseGroup(L1(), Grouped(MCP(), Filters()))
    z = prox_in_metric(penalty, torch.tensor([[3.0, -2.0, 0.01]]), torch.tensor([[0.1, 0.2, 0.3]]))
    assert (z != 0).tolist() == [[True, True, False]]


@pytest.mark.parametrize("penalty", [L1(), LogSum(0.1)], ids=repr)
@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
def test_several_weights_at_once_are_as_each_alone(penalty, optimiser, monkeypatch):
    ends = []
    for together in (1, 2**20):
        monkeypatch.setattr(proximal_updates, "TOGETHER", together)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        sparsifier, optimizer = ProximalStep(model, penalty, 0.05), OPTIMISERS[optimiser](model.parameters())
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
            sparsifier.step(optimizer)
        ends.append([parameter.detach().clone() for parameter in model.parameters()])
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("groups", [None, Filters()])
@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
def test_a_layer_is_never_emptied_and_it_is_said_once(groups, optimiser, recwarn):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3, bias=False)
    sparsifier, optimizer = ProximalStep(layer, L1(), 1e3, groups=groups), OPTIMISERS[optimiser](layer.parameters())
    for _ in range(3):
        step_once(layer, sparsifier, optimizer)
        assert layer.weight.count_nonzero() == (1 if groups is None else 4)
    assert [str(warning.message) for warning in recwarn] == ["weight would become all zero; its largest group is kept"]


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_without_a_learning_rate_or_a_strength_nothing_shrinks(rate):
    layer = nn.Linear(4, 3, bias=False)
    schedule = Constant() if rate == 0 else WarmUp(begin=0.5, end=1)
    sparsifier = ProximalStep(layer, L1(), 0.5, schedule=schedule, steps=10)
    optimizer = SGD(layer.parameters(), lr=rate)
    before = layer.weight.detach().clone()
    step_once(layer, sparsifier, optimizer)
    assert torch.equal(layer.weight, before - rate)


def test_k_numbers_stay_of_each_weight():
    layer = nn.Linear(4, 3, bias=False)
    sparsifier, optimizer = ProximalStep(layer, TopK(5), 1.0), Adam(layer.parameters())
    step_once(layer, sparsifier, optimizer)
    assert sparsifier.sparsity() == pytest.approx(7 / 12)


def test_bad_use_is_refused():
    with pytest.raises(ValueError, match="says itself how many numbers stay"):
        ProximalStep(nn.Linear(3, 3), TopK(2), target=0.5)
    with pytest.raises(ValueError, match=r"k of TopK.* weight has 9 numbers"):
        ProximalStep(nn.Linear(3, 3), TopK(10), 1.0)
    layer = nn.Linear(3, 3, bias=False)
    optimizer = LBFGS(layer.parameters())
    optimizer.step(lambda: layer(torch.ones(1, 3)).sum())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step(lambda: layer(torch.ones(1, 3)).sum())
    sparsifier = ProximalStep(layer, L1(), 0.1)
    with torch.no_grad():
        layer.weight += 1
    with pytest.raises(ValueError, match="LBFGS"):
        sparsifier.step(optimizer)


def test_it_goes_on_bit_for_bit():
    def made():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        optimizer = Adam(model.parameters(), 0.02)
        return model, optimizer, ProximalStep(model, LogSum(0.1), target=0.6, steps=40)

    def train(model, optimizer, sparsifier, start, end):
        for seed in range(start, end):
            inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            (model(inputs) - 1).square().mean().backward()
            optimizer.step()
            sparsifier.step(optimizer)

    whole = made()
    train(*whole, 0, 40)
    first, second = made(), made()
    train(*first, 0, 17)
    for part, other in zip(first, second, strict=True):
        other.load_state_dict(part.state_dict())
    train(*second, 17, 40)
    assert whole[2].sparsity() > 0.3
    assert whole[2].base_strength == second[2].base_strength
    for one, other in zip(whole[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(one, other)
