"""Soft data consistency: two images stand for a k that is wider than what is measured, by dense algebra."""

import pytest
import torch
from torch import nn

from unrolled.networks import ComposedNetwork, ConjugateGradientStart, GradientStep, SoftConsistencyPhase
from unrolled.networks.starts import AdjointStart
from unrolled.operators import Dense


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("start", [AdjointStart(), ConjugateGradientStart(2)], ids=["adjoint", "another"])
def test_it_is_its_equation_for_any_operator_of_a_norm_up_to_1(start, direct):
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(9, 20, generator=random, dtype=torch.float64)
    matrix = 0.9 * matrix / torch.linalg.matrix_norm(matrix, 2)
    values, vectors = torch.linalg.eigh(torch.eye(20, dtype=torch.float64) - matrix.T @ matrix)
    wide = torch.cat([matrix, vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T])  # V, with VᵀV = 1 and A = MV
    torch.testing.assert_close(wide.T @ wide, torch.eye(20, dtype=torch.float64))
    operator = Dense(matrix, 4, 5).double()
    y = torch.randn(2, 1, 9, generator=random, dtype=torch.float64)
    torch.manual_seed(0)
    phase = SoftConsistencyPhase(nn.Conv2d(1, 1, 3, padding=1), GradientStep(0.7), direct)
    network = ComposedNetwork(phase, 3, start=start).double()
    found = network.iterates(y, operator)

    def columns(images):
        return images.flatten(1).T

    measured = torch.cat([columns(y), torch.zeros(20, 2, dtype=torch.float64)])
    mask = (torch.arange(29) < 9).double()[:, None]
    k = measured + (1 - mask) * (wide @ columns(found[0]))
    for number, (each, expected) in enumerate(zip(network.phases, found[1:], strict=True)):
        x = wide.T @ k if number else columns(found[0])
        made = columns(each.prior(x.T.reshape(2, 1, 4, 5)))
        k = k - 0.7 * (mask * k - measured) - wide @ (made if direct else x - made)
        torch.testing.assert_close(columns(expected), wide.T @ k)
    assert (found[-1] - found[0]).abs().max() > 0.1
