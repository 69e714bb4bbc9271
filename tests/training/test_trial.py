"""Trials of compiled code."""

import contextlib

import pytest
import torch
from torch import nn

from unrolled.training import trial


class Clock:
    """Seconds that pass only where something is said to take them."""

    now = 0.0

    def perf_counter(self):
        return self.now


class Loss:
    """A loss that takes so many seconds, far more when it is called first; a compiled one without a graph if asked."""

    def __init__(self, clock, seconds, graph=True):
        self.clock, self.seconds, self.graph = clock, [60.0, seconds + 1, seconds, seconds + 2], graph or None

    def __call__(self, model, batch, step):
        self.clock.now += self.seconds.pop(0)
        return model(batch).square().mean()


@pytest.mark.parametrize(
    ("eager", "compiled", "faster"), [(3.0, 2.0, True), (2.0, 3.0, False), (2.0, 1.9, False), (3.0, None, False)]
)
def test_the_faster_form_is_found_and_nothing_is_learned(eager, compiled, faster, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(trial, "time", clock)
    forms = Loss(clock, eager), Loss(clock, compiled or 0.0, graph=compiled is not None)
    model, batch = nn.Linear(3, 1), torch.ones(2, 3)
    parameters = list(model.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    found = trial.compiled_is_faster(*forms, model, batch, 0, parameters, contextlib.nullcontext)
    assert found is faster
    assert all(parameter.grad is None for parameter in parameters)
    assert all(torch.equal(parameter, old) for parameter, old in zip(parameters, before, strict=True))
