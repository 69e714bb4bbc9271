"""Variable splitting: its equations, its target, its bounds, and what it says of itself."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.pairs import FULL, in_turn
from unrolled.classifiers.activations import BinaryActivation
from unrolled.penalties import (
    L0,
    L1,
    MCP,
    SCAD,
    Filters,
    Grouped,
    IndexSets,
    InputChannels,
    L1MinusL2,
    LogSum,
    Lp,
    Ridge,
    SparseGroup,
    TopK,
    TransformedL1,
    Weighted,
)
from unrolled.sparsify import Constant, Growth, VariableSplitting, WarmUp

PENALTIES = [
    L1(),
    L0(),
    TransformedL1(0.1),
    MCP(),
    SCAD(),
    LogSum(0.1),
    Lp(0.5),
    Weighted(L1(), 2.0),
    L1MinusL2(),
    L1MinusL2(0.5, Filters()),
    Grouped(L0(), Filters()),
    Grouped(LogSum(0.1), InputChannels(), weight=1),
    Grouped(L1(), IndexSets([[0, 1], [2, 3, 4], [7]])),
    SparseGroup(L1(), Grouped(L1(), Filters())),
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 4))


def train(model, sparsifier, optimizer, steps, loss=None, seed=1):
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(12, 4, generator=generator) * (torch.arange(12) < 3)[:, None]
    for _ in range(steps):
        x = torch.randn(32, 12, generator=generator)
        value = F.mse_loss(model(x), (x @ teacher).tanh()) + sparsifier.loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        sparsifier.step(optimizer)
    return value.item()


def zeros(model) -> float:
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def test_steps_are_those_of_the_paper():
    torch.manual_seed(0)
    layer = nn.Linear(6, 3, bias=False).double()
    w = layer.weight.detach().clone()
    u, rate, beta, strength = w.clone(), 0.1, 0.7, 0.05
    sparsifier = VariableSplitting(layer, L1(), strength, beta=beta)
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate)
    x = torch.randn(5, 6, dtype=torch.float64)
    for _ in range(4):
        optimizer.zero_grad()
        (layer(x).square().sum() / 2 + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)
        w = w - rate * (w @ x.T @ x) - rate * beta * (w - u)
        u = w.sign() * (w.abs() - strength / beta).clamp(min=0)
        torch.testing.assert_close(layer.weight.detach(), w)
        torch.testing.assert_close(sparsifier.sparse_weights()["weight"], u)
    assert sparsifier.lagrangian(2.0) == pytest.approx(
        2 + strength * u.abs().sum().item() + beta / 2 * (w - u).square().sum().item()
    )
    sparsifier.finalize()
    torch.testing.assert_close(layer.weight.detach(), u)


def test_group_splitting_adds_the_gradient_of_the_group_lasso():
    torch.manual_seed(0)
    layer = nn.Linear(6, 3, bias=False).double()
    w = layer.weight.detach().clone()
    rate, lasso = 0.1, 0.3
    sparsifier = VariableSplitting(layer, L0(), 0.05, beta=1.0, group_lasso=lasso, groups=Filters())
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate)
    sparsifier.loss().backward()
    optimizer.step()
    sparsifier.step(optimizer)
    w = w - rate * lasso * math.sqrt(6) * w / w.norm(dim=1, keepdim=True)
    u = w * (w.norm(dim=1, keepdim=True) > math.sqrt(2 * 0.05 * math.sqrt(6)))
    assert 0 < (u == 0).sum() < u.numel()
    torch.testing.assert_close(layer.weight.detach(), w)
    torch.testing.assert_close(sparsifier.sparse_weights()["weight"], u)
    assert sparsifier.figures()["group_lasso"] == pytest.approx(lasso * math.sqrt(6) * w.norm(dim=1).sum().item())


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_every_penalty_ends_with_exact_zeros_at_the_target(penalty):
    model = network()
    sparsifier = VariableSplitting(model, penalty, target=0.5, steps=60)
    train(model, sparsifier, torch.optim.Adam(model.parameters(), 1e-2), 60)
    assert sparsifier.sparsity() == pytest.approx(zeros_of(sparsifier))
    before = {name: value.clone() for name, value in sparsifier.sparse_weights().items()}
    groups = isinstance(penalty, Grouped)
    few = groups and isinstance(penalty.grouping, IndexSets)  # whose groups cannot be half of it
    with pytest.warns(UserWarning, match="the target of 0.5 is missed") if few else nullcontext():
        sparsifier.finalize()
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    if not few:
        assert zeros(model) == pytest.approx(0.5, abs=0.05 if groups else 0.006)


def zeros_of(sparsifier) -> float:
    values = list(sparsifier.sparse_weights().values())
    return 1 - sum(int(value.count_nonzero()) for value in values) / sum(value.numel() for value in values)


def test_groups_of_different_sizes_and_single_numbers_share_one_target():
    model = network()

    def groups(name, parameter, module):
        return Filters() if name == "0.weight" else None

    sparsifier = VariableSplitting(model, LogSum(0.1), target=0.6, groups=groups, fine_tune=0, steps=50)
    train(model, sparsifier, torch.optim.Adam(model.parameters(), 1e-2), 50)
    assert zeros_of(sparsifier) == pytest.approx(0.6, abs=0.02)
    # one strength for both: no kept number or norm is below the threshold of its penalty
    step = sparsifier.strength / sparsifier.beta
    kept = model[2].weight.abs()[sparsifier.weights[1].extra["u"] != 0]
    norms = model[0].weight.norm(dim=1)[sparsifier.weights[0].extra["u"].any(1)]
    assert kept.min() > LogSum(0.1).threshold(step) * (1 - 1e-5)
    assert norms.min() > LogSum(0.1).threshold(step * math.sqrt(12)) * (1 - 1e-5)


@pytest.mark.parametrize(("penalty", "optimizer"), in_turn([L0(), TransformedL1(0.1)], ["adam", "sgd"], 1, FULL))
def test_at_the_end_the_dense_weights_are_where_the_sparse_ones_are(penalty, optimizer):
    model, steps = network(), 200
    sparsifier = VariableSplitting(model, penalty, target=0.7, steps=steps)
    make = {"adam": lambda p: torch.optim.Adam(p, 1e-2), "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)}
    learner = make[optimizer](model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(learner, 8)
    for _ in range(8):
        train(model, sparsifier, learner, steps // 8)
        schedule.step()
    x = torch.randn(100, 12)
    dense = model(x)
    with sparsifier.as_finalized():
        assert (model(x) - dense).norm() < 0.02 * dense.norm()


def test_beta_grows_but_not_beyond_what_gradient_descent_can_follow():
    for aim, lr, ends_at in [
        ({"target": 0.5}, 1e-4, 1e-2 * 1.2**49),
        ({"strength": 1e-3}, 1e-4, 1e-2 * 1.1**49),
        ({"target": 0.5}, 0.25, 2.0),
        ({"target": 0.5}, 1000.0, 1e-2),
    ]:
        layer = nn.Linear(3, 3)
        sparsifier = VariableSplitting(layer, L1(), steps=50, **aim)
        optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
        for _ in range(49):
            layer.weight.grad = torch.zeros_like(layer.weight)
            optimizer.step()
            sparsifier.step(optimizer)
        assert sparsifier.beta == pytest.approx(ends_at)
    explicit = VariableSplitting(nn.Linear(3, 3), L1(), 1e-3, beta=2, beta_schedule=Growth(3, 0.5), steps=4)
    explicit.course.step_count, explicit.beta_limit = 2, 1.0
    assert explicit.beta == 6
    assert VariableSplitting(nn.Linear(3, 3), L1(), 1e-3, beta=2).beta == 2


def test_without_a_length_beta_stays_and_a_schedule_needs_one():
    for schedule, fits in [(None, True), (Constant(), True), (Growth(), False)]:
        layer = nn.Linear(3, 3)
        sparsifier = VariableSplitting(layer, L1(), 1e-3, beta_schedule=schedule)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        if fits:
            sparsifier.step(optimizer)
            assert sparsifier.beta == 1e-2
        else:
            with pytest.raises(ValueError, match="how many steps the run takes"):
                sparsifier.step(optimizer)


def test_u_may_be_renewed_less_often_but_is_fresh_at_the_end():
    model = network()
    sparsifier = VariableSplitting(model, L0(), target=0.5, every=7, fine_tune=0, steps=20)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    seen = []
    for _ in range(20):
        train(model, sparsifier, optimizer, 1)
        seen.append(sparsifier.weights[0].extra["u"])
    renewed = [step for step in range(1, 20) if seen[step] is not seen[step - 1]]
    assert renewed == [7, 14, 19]
    assert zeros_of(sparsifier) == pytest.approx(0.5, abs=0.01)


def test_a_strength_of_zero_leaves_the_sparse_weights_dense():
    model = network()
    sparsifier = VariableSplitting(model, L0(), 1.0, schedule=WarmUp(end=1.0, begin=0.5), steps=10)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    train(model, sparsifier, optimizer, 5)
    assert sparsifier.sparsity() == 0
    train(model, sparsifier, optimizer, 5)
    assert sparsifier.sparsity() > 0.5


def test_fine_tuning_keeps_the_zeros_and_trains_the_rest():
    model = network()
    sparsifier = VariableSplitting(model, L1(), target=0.75, steps=40, fine_tune=0.25)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    train(model, sparsifier, optimizer, 30)
    assert zeros(model) == pytest.approx(0.75, abs=0.006)
    start = copy.deepcopy(model.state_dict())
    train(model, sparsifier, optimizer, 10)
    assert sparsifier.lagrangian(3.0) == 3
    for name, value in sparsifier.sparse_weights().items():
        assert torch.equal(value == 0, start[name] == 0)
        assert not torch.equal(value, start[name])
        assert torch.equal(value, dict(model.named_parameters())[name])


def test_a_run_is_the_same_after_its_state_was_saved():
    def start():
        model = network()
        return model, VariableSplitting(model, TransformedL1(), target=0.6, steps=30), model.parameters()

    def step(model, sparsifier, optimizer, seeds):
        for seed in seeds:
            train(model, sparsifier, optimizer, 1, seed=seed)

    model, sparsifier, parameters = start()
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    step(model, sparsifier, optimizer, range(15))
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(sparsifier.state_dict())
    step(model, sparsifier, optimizer, range(15, 30))
    again, resumed, parameters = start()
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    step(again, resumed, torch.optim.SGD(parameters, lr=0.5), range(15, 30))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert resumed.figures() == sparsifier.figures()


def test_copies_are_plain_and_numbers_of_several_kinds_are_no_trouble():
    model = network()
    model[2].double()
    model[2].weight = nn.Parameter(model[2].weight.to(torch.complex64))
    model[0].bfloat16()
    sparsifier = VariableSplitting(model, L0(), target=0.5, steps=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(10):
        (sum((p * p.conj()).real.sum().float() for p in model.parameters()) + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)
    assert list(copy.deepcopy(model).state_dict()) == list(network().state_dict())
    assert zeros_of(sparsifier) == pytest.approx(0.5, abs=0.03)


def test_the_first_step_has_no_coupling_and_the_end_may_come_before_it():
    model = network()
    sparsifier = VariableSplitting(model, L1(), 1e-3, beta=1e-2)
    assert sparsifier.loss() == 0
    wanted = {weight.name: L1().prox(weight.parameter.detach(), 0.1) for weight in sparsifier.weights}
    sparsifier.finalize()
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in wanted.items())
    model = network()
    with pytest.warns(UserWarning, match="the target of 0.5 is missed, 0 of the weights are zero, after 0 of 9 steps"):
        VariableSplitting(model, L1(), target=0.5, steps=9).finalize()
    assert zeros(model) == 0


def test_topk_keeps_as_many_in_each_weight_and_takes_no_target():
    model = network()
    sparsifier = VariableSplitting(model, TopK(7), 1.0, beta=1.0)
    train(model, sparsifier, torch.optim.Adam(model.parameters(), 1e-2), 10)
    sparsifier.finalize()
    assert [int(model[i].weight.count_nonzero()) for i in (0, 2)] == [7, 7]
    with pytest.raises(ValueError, match=r"TopK\(k=7\) says itself how many numbers stay"):
        VariableSplitting(network(), TopK(7), target=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta must be a finite number > 0, got 0.0"),
        ({"beta": math.inf}, "beta must be a finite number > 0, got inf"),
        ({"beta_schedule": 2.0}, "beta_schedule must be a Schedule, got 2.0"),
        ({"every": 0}, "every must be a whole number >= 1, got 0"),
        ({"group_lasso": -1.0}, "group_lasso must be a finite number >= 0, got -1.0"),
        ({"group_lasso": 1.0}, "group_lasso needs groups: give groups or lasso_groups"),
        ({"penalty": Ridge()}, "never gives exact zeros"),
        ({"penalty": TopK(100)}, "at most the size of each weight, 2.weight has 80 numbers"),
    ],
)
def test_bad_input(options, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        VariableSplitting(model, **({"penalty": L1(), "strength": 1e-3} | options))
    VariableSplitting(model, L1(), 1e-3)  # nothing was attached


def test_binarised_activations_are_trained_to_exact_zeros():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), BinaryActivation("clipped_relu"), nn.Linear(32, 1))
    x = torch.randn(4000, 12)
    y = (x[:, :1] + x[:, 1:2] > 0.5).float()  # ten of the inputs say nothing
    steps = 300
    sparsifier = VariableSplitting(model, L0(), target=0.8, include="0", steps=steps)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(4000, (64,))
        loss = F.binary_cross_entropy_with_logits(model(x[batch]), y[batch]) + sparsifier.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sparsifier.step(optimizer)
        schedule.step()
    sparsifier.finalize()
    weight = model[0].weight
    assert (weight == 0).float().mean() == pytest.approx(0.8, abs=0.005)
    assert weight[:, :2].norm() > 3 * weight[:, 2:].norm()
    assert ((model(x) > 0) == y.bool()).float().mean() > 0.93
