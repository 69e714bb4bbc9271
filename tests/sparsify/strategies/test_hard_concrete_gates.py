"""Hard concrete gates: their moments, their cost and their zeros, against quadrature and closed forms."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.sparsify.strategies.layers import draws, layer_of
from unrolled.penalties import (
    L1,
    Filters,
    HardConcrete,
)
from unrolled.sparsify import HardConcreteGates


def test_gates_have_their_moments_and_are_closed_as_often_as_is_paid_for():
    layer = layer_of(torch.ones(100, 100), torch.float32)
    sparsifier = HardConcreteGates(layer, HardConcrete(0.5, -0.2, 1.3), 1.0, initial_keep=0.4)
    gates = draws(layer, 20).flatten()
    open_share, error = (gates > 0).float().mean().item(), 4 * 0.5 / math.sqrt(len(gates))
    probability = 1 / (1 + math.exp(-(math.log(0.4 / 0.6) - 0.5 * math.log(0.2 / 1.3))))
    assert open_share == pytest.approx(probability, abs=error)
    assert sparsifier.loss().item() == pytest.approx(probability * 10_000, rel=1e-5)
    u = np.linspace(0, 1, 200_001)[1:-1]
    s = 1 / (1 + np.exp(-(np.log(u / (1 - u)) + math.log(0.4 / 0.6)) / 0.5))
    s = np.clip(s * 1.5 - 0.2, 0, 1)
    assert gates.mean().item() == pytest.approx(s.mean(), abs=error)
    assert gates.square().mean().item() == pytest.approx((s**2).mean(), abs=error)
    with torch.no_grad():
        gate = layer.eval()(torch.eye(100))
    torch.testing.assert_close(gate, torch.full((100, 100), 0.4 * 1.5 - 0.2))


def test_the_gate_is_closed_in_the_end_where_its_formula_says_so():
    layer = layer_of([[1.0, 2.0, 3.0]])
    sparsifier = HardConcreteGates(layer, strength=1.0)
    (location,) = sparsifier.parameters()
    with torch.no_grad():
        location.copy_(torch.tensor([[math.log(1 / 11) - 1e-6, 0.0, 5.0]]))  # σ(log a)·1.2 = .1; σ(0)·1.2 − .1 = .5
    x = torch.eye(3, dtype=torch.float64)
    expected = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(layer.eval()(x).detach().T, expected)
    with sparsifier.as_finalized() as model:
        torch.testing.assert_close(model(x).detach().T, expected)
    assert sparsifier.sparsity() == 1 / 3
    sparsifier.finalize()
    torch.testing.assert_close(layer.weight.detach(), expected)
    assert layer.weight[0, 0] == 0
    torch.testing.assert_close(layer.train()(x).detach().T, expected)


def test_a_group_has_one_gate_and_counts_as_many_times_as_it_has_weights():
    layer = layer_of(torch.ones(3, 40), torch.float32)
    single = HardConcreteGates(copy.deepcopy(layer), strength=1.0).loss().item()
    sparsifier = HardConcreteGates(layer, strength=1.0, groups=Filters())
    assert [tuple(parameter.shape) for parameter in sparsifier.parameters()] == [(3, 1)]
    assert sparsifier.loss().item() == pytest.approx(single)
    rows = draws(layer, 50).reshape(-1, 40)
    assert (rows == rows[:, :1]).all()
    assert len(rows[:, 0].unique()) > 20


def test_locations_stay_in_their_range():
    layer = layer_of([[1.0, 1.0]])
    sparsifier = HardConcreteGates(layer, strength=1.0)
    optimizer = torch.optim.SGD([*layer.parameters(), *sparsifier.parameters()], lr=1.0)
    (location,) = sparsifier.parameters()
    location.grad = torch.tensor([[100.0, -100.0]], dtype=torch.float64)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    sparsifier.step(optimizer)
    torch.testing.assert_close(location.detach(), torch.tensor([[0.01, 100.0]], dtype=torch.float64).log())


def test_bad_arguments():
    model = nn.Linear(3, 2)
    for make, message in (
        (lambda: HardConcreteGates(model, L1(), 1.0), "HardConcreteGates: penalty must be HardConcrete"),
        (lambda: HardConcreteGates(model, HardConcrete(beta=torch.tensor(0.5)), 1.0), "must be no tensors"),
        (lambda: HardConcreteGates(model, strength=1.0, initial_keep=0), "initial_keep must be > 0 and < 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
