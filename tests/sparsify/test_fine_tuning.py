"""When zeros are only kept, a strategy has nothing to say any more: neither by its hooks nor in what it writes."""

import pytest
import torch
from torch import nn

from unrolled.penalties import L1
from unrolled.sparsify import ProximalStep, Sparsifier


class Halved(Sparsifier):
    """Its hook halves what the layer gives; it ends with a half of each weight, and half of them zero."""

    def attach(self):
        self.handle = self.model.register_forward_hook(lambda module, inputs, output: output / 2)

    def detach(self):
        self.handle.remove()

    def sparse(self, weight):
        values = weight.parameter.detach()
        return torch.where(values.abs() > values.abs().median(), values / 2, 0.0)


def halved(layer):
    return Halved(layer, L1(), 0.1, fine_tune=0.5, steps=4)


def steps(layer, sparsifier, count):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(count):
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        sparsifier.step(optimizer)


def test_zeros_are_written_once_and_then_only_kept():
    layer = nn.Linear(3, 3)
    sparsifier = halved(layer)
    steps(layer, sparsifier, 3)
    assert sparsifier.masks is not None
    before = layer.weight.detach().clone()
    assert torch.equal(sparsifier.sparse_weights()["weight"], before)
    assert sparsifier.sparsity() == pytest.approx(5 / 9)
    sparsifier.finalize()
    assert torch.equal(layer.weight, before)


def test_a_state_of_fine_tuning_takes_the_hooks_away():
    layer = nn.Linear(3, 3)
    sparsifier = halved(layer)
    steps(layer, sparsifier, 3)
    state = sparsifier.state_dict()
    sparsifier.release()
    other = nn.Linear(3, 3)
    other.load_state_dict(layer.state_dict())
    again = halved(other)
    again.load_state_dict(state)
    x = torch.randn(4, 3)
    torch.testing.assert_close(other(x), x @ layer.weight.T + layer.bias)


@pytest.mark.parametrize("stepped", [True, False])
def test_looking_at_the_finalized_model_is_no_step_of_the_optimiser(stepped):
    layer = nn.Linear(3, 3)
    sparsifier = ProximalStep(layer, L1(), 0.1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    if stepped:
        optimizer.step()
    with sparsifier.as_finalized():
        pass
    sparsifier.step(optimizer)
    assert sparsifier.step_count == stepped
