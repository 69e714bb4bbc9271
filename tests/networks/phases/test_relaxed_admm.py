"""ADMM that ends with the prior, against its equations by a dense matrix."""

import pytest
import torch

from unrolled.networks import ComposedNetwork, ProximalStep, RelaxedADMMPhase, ResidualCNN
from unrolled.operators import Dense


@pytest.mark.parametrize("multipliers", ["zero", "start"])
def test_it_is_its_equations(multipliers):
    torch.manual_seed(0)
    matrix = torch.randn(9, 20, dtype=torch.float64) / 5
    operator = Dense(matrix, height=4, width=5).double()
    phase = RelaxedADMMPhase(ResidualCNN(3, 2), ProximalStep(0.3), relaxation=0.7, multipliers=multipliers)
    network = ComposedNetwork(phase, 3, shared=True).double()
    torch.nn.init.normal_(phase.prior.layers[-1].weight, std=0.2)
    network.normalizes = False
    x = torch.rand(2, 1, 4, 5, dtype=torch.float64)
    y = operator(x)
    z = network.start(y, operator)
    u = z if multipliers == "start" else torch.zeros_like(z)
    inverse = torch.linalg.inv(matrix.T @ matrix + phase.data_step.weight() * torch.eye(20))
    for _ in range(3):
        right = y.flatten(1) @ matrix + phase.data_step.weight() * (z - u).flatten(1)
        x = (right @ inverse).view_as(z)
        z = phase.prior(x + u)
        u = u + 0.7 * (x - z)
    torch.testing.assert_close(network(y, operator), z, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relaxation": 0.0}, "relaxation must be a finite number > 0, got 0.0"),
        ({"multipliers": "one"}, "multipliers must be 'zero' or 'start', got 'one'"),
    ],
)
def test_what_it_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RelaxedADMMPhase(ResidualCNN(3, 2), **options)
