"""AdaProx, against its formula."""

import pytest
import torch

from tests.sparsify.strategies.layers import layer_of
from unrolled.penalties import L1, Filters, Grouped, LogSum, Standout
from unrolled.sparsify import AdaProx


@pytest.mark.parametrize("adam", [False, True])
def test_ada_prox_shrinks_by_its_formula(adam):
    layer = layer_of([[1.0, -0.5, 1e-3], [0.3, 0.0, -2.0]])
    strength, rate, epsilon = 0.5, 0.1, 0.4
    sparsifier = AdaProx(layer, LogSum(epsilon), strength)
    optimizer = (torch.optim.Adam if adam else torch.optim.SGD)(layer.parameters(), lr=rate)
    gradient = torch.tensor([[1.0, 2.0, 3.0], [0.1, 0.2, -0.3]], dtype=torch.float64)
    (gradient * layer.weight).sum().backward()
    optimizer.step()
    w = layer.weight.detach().clone()
    step = rate / (gradient.abs() + 1e-8) if adam else rate  # of the first step of Adam, √v̂ = |gradient|
    eta = w.abs() * (w.abs() + epsilon)
    sparsifier.step(optimizer)
    torch.testing.assert_close(layer.weight.detach(), w * eta / (eta + strength * step))


def test_ada_prox_shrinks_groups_as_wholes():
    layer = layer_of([[3.0, 4.0], [0.3, 0.4]])
    sparsifier = AdaProx(layer, Grouped(L1(), Filters(), weight=1), 1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    sparsifier.step(optimizer)
    expected = [[3 * 5 / 5.5, 4 * 5 / 5.5], [0.3 * 0.5 / 1, 0.4 * 0.5 / 1]]
    torch.testing.assert_close(layer.weight.detach(), torch.tensor(expected, dtype=torch.float64))


def test_standout_with_enough_strength_is_fine():
    assert AdaProx(layer_of([[0.4, -0.4, 0.5, 0.6]]), Standout(1.0, 0.0), 30.0).sparsity() == 0.5  # log(30/19) = .457
