"""Every strategy with a strength ends at its target, and by training, not by cutting at the end."""

import inspect
import typing
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import concrete_subclasses
from unrolled.penalties import Filters, LogSum
from unrolled.sparsify import CGES, MagnitudePruning, NetworkSlimming, Sparsifier
from unrolled.sparsify.capturing import Capturing

STEPS, TARGET = 300, 0.8


def variants():
    """Every strategy that has a strength, with each way that it can be told to take."""
    found = {}
    for cls in concrete_subclasses(Sparsifier):
        arguments = inspect.signature(cls).parameters
        if "strength" not in arguments:
            continue
        ways = {name: typing.get_args(argument.annotation) for name, argument in arguments.items()}
        ways = {name: told for name, told in ways.items() if told and all(isinstance(way, str) for way in told)}
        told = [{name: way} for name, ways_of_it in ways.items() for way in ways_of_it] or [{}]
        found |= {" ".join([cls.__name__, *one.values()]): (cls, one) for one in told}
    return found


def make(cls, model, **options):
    if "penalty" in inspect.signature(cls).parameters:
        try:
            return cls(model, LogSum(0.1), **options)
        except ValueError:  # it has one of its own
            pass
    return cls(model, **options)


class Clusters:
    """Six classes in twenty dimensions, and a network of 1,040 weights."""

    def __init__(self):
        torch.manual_seed(0)
        self.centres = torch.randn(6, 20)
        self.model = nn.Sequential(nn.Linear(20, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 6))
        self.test = self.batch(5000)

    def batch(self, size):
        labels = torch.randint(6, (size,))
        return self.centres[labels] + torch.randn(size, 20), labels

    def train(self, sparsifier, steps=STEPS):
        groups = [{"params": self.model.parameters(), "lr": 3e-3}]
        if sparsifier.parameters():
            groups.append({"params": sparsifier.parameters(), "lr": 0.05})
        optimizer = torch.optim.Adam(groups)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        self.model.train()
        for _ in range(steps):
            inputs, labels = self.batch(32)
            optimizer.zero_grad()
            (F.cross_entropy(self.model(inputs), labels) + sparsifier.loss()).backward()
            optimizer.step()
            sparsifier.step(optimizer)
            decay.step()

    @torch.no_grad()
    def outputs(self):
        return self.model.eval()(self.test[0])

    def accuracy(self):
        return float((self.outputs().argmax(1) == self.test[1]).double().mean())


def share(sparsifier):
    values = [weight.parameter for weight in sparsifier.weights]
    return sum(int((value == 0).sum()) for value in values) / sum(value.numel() for value in values)


@pytest.mark.parametrize("name", variants())
def test_the_target_is_met_and_nothing_is_cut_at_the_end(name):
    cls, told = variants()[name]
    task = Clusters()
    sparsifier = make(cls, task.model, target=TARGET, steps=STEPS, **told)
    task.train(sparsifier)
    before, outputs = task.accuracy(), task.outputs()
    sparsifier.finalize()
    count = sum(weight.parameter.numel() for weight in sparsifier.weights)
    assert share(sparsifier) == pytest.approx(TARGET, abs=max(0.005, 1 / count))
    assert task.accuracy() == pytest.approx(before, abs=0.001)
    assert before > 0.9
    if isinstance(sparsifier, Capturing):
        assert torch.equal(task.outputs(), outputs)
