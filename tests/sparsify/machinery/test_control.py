"""The controller on plants that are simulated, and on a small model."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.pairs import FULL, first_of, pairwise
from unrolled.penalties import L0, L1, MCP, SCAD, Filters, LogSum, TransformedL1
from unrolled.sparsify import Cubic, PenaltyLoss, ProximalStep
from unrolled.sparsify.machinery.control import Control


class Plant:
    """Zeros whose log-odds are `slope` times the logarithm of the strength beside 1e-3, in the end."""

    def __init__(self, steps, slope, lag=0.0, returns=True, groups=100_000):
        self.steps, self.slope, self.lag, self.returns, self.groups = steps, slope, lag, returns, groups
        self.odds = -9.0

    def settle(self, strength):
        end = self.slope * math.log(strength / 1e-3)
        if end > self.odds or self.returns:
            self.odds += (end - self.odds) * (1 - math.exp(-1 / max(1e-9, self.lag * self.steps)))

    def sparsity(self):
        return round(self.groups / (1 + math.exp(-self.odds))) / self.groups


def sparsity_at_the_end(plant, strength, target):
    control, schedule = Control(), Cubic()
    for step in range(plant.steps):
        plant.settle(strength)
        strength = control.adjusted(strength, target * schedule.factor(step / plant.steps), plant.sparsity, plant.steps)
    return plant.sparsity()


PLANTS = {
    "flat": {"slope": 0.5},
    "even": {"slope": 1.0},
    "steep": {"slope": 4.0},
    "slow": {"slope": 1.0, "lag": 0.02},
    "slow and steep": {"slope": 3.0, "lag": 0.01},
    "zeros do not come back": {"slope": 1.0, "returns": False},
    "zeros do not come back, slowly": {"slope": 2.0, "lag": 0.01, "returns": False},
}


@pytest.mark.parametrize(
    ("plant", "steps", "start"),
    pairwise(list(PLANTS), [300, 3000, 30000], [1e-7, 1e-5, 1e-3], whole=FULL),
)
def test_it_meets_the_target(plant, steps, start):
    assert sparsity_at_the_end(Plant(steps, **PLANTS[plant]), start, 0.95) == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("target", [0.3, 0.8, 0.99])
@pytest.mark.parametrize("returns", [True, False])
def test_it_meets_any_target(target, returns):
    assert sparsity_at_the_end(Plant(1000, 1.0, 0.01, returns), 1e-6, target) == pytest.approx(target, abs=0.005)


def test_of_few_groups_it_finds_the_next_share():
    found = sparsity_at_the_end(Plant(1000, 4.0, groups=32), 1e-6, 0.6)
    assert abs(found - 0.6) <= 1 / 32


def test_a_target_of_nothing_leaves_everything():
    assert sparsity_at_the_end(Plant(500, 1.0), 1e-6, 0.0) < 0.005


def test_the_strength_stays_finite_where_nothing_helps():
    control, strength = Control(every=1), 1.0
    for _ in range(50_000):
        strength = control.adjusted(strength, 0.9, lambda: 0.0, 100_000)
    assert strength <= 1e10


def test_it_goes_on_from_a_state():
    first, plant = Control(), Plant(400, 1.0)
    for _ in range(7):
        first.adjusted(1e-3, 0.5, plant.sparsity, 400)
    second = Control()
    second.load_state_dict(first.state_dict())
    plant.odds = 1.0
    for _ in range(6):
        assert second.adjusted(1e-3, 0.4, plant.sparsity, 400) == first.adjusted(1e-3, 0.4, plant.sparsity, 400)


def trained(strategy, penalty, target, groups=None, scale=1.0, steps=150):
    """The share of zeros after training on clusters, with the loss times a scale; outputs before and after the end."""
    torch.manual_seed(0)
    centres = torch.randn(6, 20)
    model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 6))
    sparsifier = strategy(model, penalty, target=target, groups=groups, steps=steps)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        labels = torch.randint(6, (32,))
        loss = scale * F.cross_entropy(model(centres[labels] + torch.randn(32, 20)), labels) + sparsifier.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sparsifier.step(optimizer)
        decay.step()
    labels = torch.randint(6, (1000,))
    inputs = centres[labels] + torch.randn(1000, 20)
    before = (model(inputs).argmax(1) == labels).float().mean()
    sparsifier.finalize()
    after = (model(inputs).argmax(1) == labels).float().mean()
    weights = [model[0].weight, model[2].weight]
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    return zeros, float(before), float(after)


@pytest.mark.parametrize(
    "penalty", first_of([L1(), LogSum(0.1), L0(), TransformedL1(0.1), MCP(1.0, 0.1), SCAD()], 3), ids=repr
)
def test_the_proximal_step_meets_a_target(penalty):
    zeros, before, after = trained(ProximalStep, penalty, 0.9)
    assert zeros == pytest.approx(0.9, abs=0.005)
    assert before == after


@pytest.mark.parametrize("penalty", first_of([L1(), LogSum(0.1), MCP(1.0, 1.0)]), ids=repr)
def test_the_penalty_in_the_loss_meets_a_target(penalty):
    zeros, before, after = trained(PenaltyLoss, penalty, 0.9, steps=400)
    assert zeros == pytest.approx(0.9, abs=0.005)
    assert before == pytest.approx(after, abs=0.0011)


@pytest.mark.parametrize("scale", [1e-2, 1e2])
def test_the_scale_of_the_loss_does_not_matter(scale):
    assert trained(ProximalStep, L1(), 0.9, scale=scale)[0] == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize("penalty", first_of([L0(), L1()]), ids=repr)
def test_groups_come_as_close_as_they_can(penalty):
    zeros, *_ = trained(ProximalStep, penalty, 0.5, Filters())
    assert zeros == pytest.approx(0.5, abs=40 / 1040)  # of the 1,040 numbers a group has 20 or 40
