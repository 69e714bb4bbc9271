"""The proximal step against closed forms, and a whole run on a small model."""

import torch
from torch import nn

from unrolled.penalties import L1
from unrolled.sparsify import ProximalStep


def test_with_gradient_descent_it_is_the_iteration_of_ista():
    torch.manual_seed(0)
    layer = nn.Linear(5, 3, bias=False)
    before = layer.weight.detach().clone()
    sparsifier = ProximalStep(layer, L1(), strength=0.5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 5)).sum().backward()
    optimizer.step()
    sparsifier.step(optimizer)
    moved = before - 0.1
    torch.testing.assert_close(layer.weight.detach(), moved.sign() * (moved.abs() - 0.05).clamp(min=0))
