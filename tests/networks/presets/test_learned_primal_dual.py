"""Learned primal-dual (Adler, Öktem, IEEE Trans. Med. Imaging 37(6), 2018), written as a user would: it has a memory.

h⁺ = h + D(h, A f₂, y),  f⁺ = f + P(f, Aᴴh₁⁺), with n images f, of which f₁ is the result, and n duals h.
"""

import pytest
import torch
from torch import Tensor, nn

from tests.networks.laws import NetworkLaws, double, measured
from tests.networks.training import trained_ten_steps
from unrolled.networks import Differentiation, Images, Measurements, Phase, UnrolledNetwork
from unrolled.networks.phases.phase import State
from unrolled.operators import LinearOperator


class Update(nn.Module):
    """Three convolutions that see images or measurements (batch, part, …, height, width) of all parts together."""

    def __init__(self, inputs: int, outputs: int, features: int, complex_numbers: bool):
        super().__init__()
        pair = 2 if complex_numbers else 1
        self.layers = nn.Sequential(
            nn.Conv2d(pair * inputs, features, 3, padding=1), nn.PReLU(features),
            nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features),
            nn.Conv2d(features, pair * outputs, 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.layers[-1].weight)

    def forward(self, *stacks: Tensor) -> Tensor:
        z = torch.cat(stacks, dim=1)
        parts = torch.view_as_real(z).movedim(-1, 2).flatten(1, 2) if z.is_complex() else z
        alike = parts.flatten(2, -3).transpose(1, 2)  # channels and the like: (batch, channel, part, height, width)
        found = self.layers(alike.flatten(0, 1)).unflatten(0, alike.shape[:2]).transpose(1, 2)
        found = found.to(z.real.dtype).reshape(len(z), -1, *parts.shape[2:])
        if not z.is_complex():
            return found
        return torch.view_as_complex(found.unflatten(1, (-1, 2)).movedim(2, -1).contiguous())


class PrimalDualPhase(Phase):
    """One update of the duals, one of the images."""

    carries = (Images(), Measurements())
    reach = 3

    def __init__(self, memory: int, features: int, complex_images: bool, complex_measurements: bool):
        super().__init__()
        self.memory = memory
        self.dual = Update(memory + 2, memory, features, complex_measurements)
        self.primal = Update(memory + 1, memory, features, complex_images)

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        others = torch.stack([x] * (self.memory - 1), dim=1)
        return x, others, torch.stack([torch.zeros_like(y)] * self.memory, dim=1)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, others, h = state
        h = h + self.dual(h, operator(others[:, 0]).unsqueeze(1), y.unsqueeze(1))
        f = torch.cat([x.unsqueeze(1), others], dim=1)
        f = f + self.primal(f, operator.adjoint(h[:, 0]).unsqueeze(1))
        return f[:, 0], f[:, 1:], h


class LearnedPrimalDual(UnrolledNetwork):
    """Learned primal-dual with a memory of a few images and duals."""

    def __init__(
        self,
        phases: int = 5,
        memory: int = 3,
        features: int = 8,
        differentiation: Differentiation | None = None,
        complex_images: bool = False,
    ):
        steps = [PrimalDualPhase(memory, features, complex_images, complex_images) for _ in range(phases)]
        super().__init__(steps, differentiation=differentiation, complex_images=complex_images)


class TestLearnedPrimalDual(NetworkLaws):
    network_class = LearnedPrimalDual
    cases = {"small": lambda **options: LearnedPrimalDual(memory=2, features=4, **options)}
    rate = 1e-2
    takes_start = False
    no_tiles = "tile: PrimalDualPhase carries measurements, which are of the image as a whole, so it has no tiles"
    no_implicit = "differentiation by Implicit needs shared=True"


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_images_and_duals_are_carried_through_all_phases(kind):
    network, (operator, x) = TestLearnedPrimalDual().make("small", kind)[0].double(), measured(kind)
    operator = operator.double()
    y = operator(double(x))
    state = network.begin(y, operator)
    assert [entry.shape for entry in state] == [x.shape, (len(x), 1, *x.shape[1:]), (len(x), 2, *y.shape[1:])]
    for phase in network.phases:
        x, others, h = state
        h_next = h + phase.dual(torch.cat([h, operator(others[:, 0])[:, None], y[:, None]], dim=1))
        f = torch.stack([x, others[:, 0]], dim=1)
        f = f + phase.primal(torch.cat([f, operator.adjoint(h_next[:, 0])[:, None]], dim=1))
        state = f[:, 0], f[:, 1:], h_next
    torch.testing.assert_close(network(y, operator), state[0])


@pytest.mark.parametrize("name", ["Radon", "MaskedFourier"])
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: LearnedPrimalDual(2, 2, 4, complex_images=kind))
