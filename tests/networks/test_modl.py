"""MoDL (Aggarwal, Mani, Jacob, IEEE Trans. Med. Imaging 38(2), 2019), written as a user would: a prior and a data step.

x⁺ = (AᴴA + λ)⁻¹(Aᴴy + λD(x)), with one learned denoiser D and one λ in all phases.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.laws import NetworkLaws, double, measured
from tests.networks.training import trained_ten_steps
from unrolled.networks import Differentiation, Phase, Prior, UnrolledNetwork, per_channel, positive
from unrolled.networks.phases import State
from unrolled.operators import LinearOperator


class Denoiser(Prior):
    """z + a small convolutional network of z, which starts at 0 and sees a complex image as two channels."""

    def __init__(self, features: int, parts: int):
        super().__init__()
        last = nn.Conv2d(features, parts, 3, padding=1)
        self.layers = nn.Sequential(
            nn.Conv2d(parts, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, features, 3, padding=1), nn.ReLU(),
            last,
        )  # fmt: skip
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z + per_channel(self.layers, z)


class DataConsistency(Phase):
    """The prior, then the image nearest to what it gives that explains the measurements."""

    reach = 3  # of three 3×3 convolutions

    def __init__(self, prior: nn.Module):
        super().__init__()
        self.prior = prior
        self.raw_ridge = positive(0.2)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        ridge = F.softplus(self.raw_ridge)
        z = self.prior(state[0], condition)
        return (operator.solve(operator.adjoint(y) + ridge * z, ridge),)


class MoDL(UnrolledNetwork):
    """MoDL with a small denoiser."""

    def __init__(
        self,
        phases: int = 5,
        features: int = 8,
        differentiation: Differentiation | None = None,
        complex_images: bool = False,
    ):
        phase = DataConsistency(Denoiser(features, 2 if complex_images else 1))
        super().__init__([phase], phases, differentiation, complex_images=complex_images)


class TestMoDL(NetworkLaws):
    network_class = MoDL
    cases = {"small": lambda **options: MoDL(features=8, **options)}
    rate = 3e-3
    implicit_options = {}


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    network, (operator, x) = MoDL(1, 4, complex_images=kind == "complex").double(), measured(kind)
    nn.init.normal_(network.phases[0].prior.layers[-1].weight, std=0.1)
    operator, x = operator.double(), double(x)
    y = operator(x)
    (phase,), ridge = network.phases, F.softplus(network.phases[0].raw_ridge)
    assert ridge.item() == pytest.approx(0.2)
    start, image = network.iterates(y, operator)
    torch.testing.assert_close(
        operator.gram(image) + ridge * image, operator.adjoint(y) + ridge * phase.prior(start), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["Radon", "MaskedFourier"])
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: MoDL(2, 4, complex_images=kind))
