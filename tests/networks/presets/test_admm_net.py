"""ADMM-Net: the laws, and its equation written out by itself."""

import pytest
import torch

from tests.networks.laws import NetworkLaws
from tests.networks.presets.splitting import DenseProblem, disturbed
from tests.networks.training import trained_ten_steps
from tests.pairs import first_of
from unrolled.networks import ADMMNet, ResidualCNN


class TestADMMNet(NetworkLaws):
    network_class = ADMMNet
    cases = {
        "small": lambda **options: ADMMNet(**{"features": 8, "depth": 3, **options}),
        "shared, told the noise": lambda **options: ADMMNet(
            **{"features": 8, "depth": 2, "shared": True, "noise_range": (0.01, 0.2), **options}
        ),
    }
    rate = 3e-3


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    problem = DenseProblem(kind)
    network = disturbed(ADMMNet(3, 4, 2, complex_images=kind == "complex"))
    x, u = problem.start(), 0 * problem.start()
    images = network.iterates(problem.y, problem.operator)
    torch.testing.assert_close(images[0], x)
    for phase, image in zip(network.phases, images[1:], strict=True):
        z = phase.prior(x + u)
        x = problem.nearest(z - u, phase.data_step.weight())
        u = u + x - z
        torch.testing.assert_close(image, x)


def test_its_lambda_and_its_denoiser_follow_the_noise():
    problem, levels = DenseProblem(), torch.tensor([0.02, 0.15], dtype=torch.float64)
    network = disturbed(ADMMNet(1, 4, 2, noise_range=(0.01, 0.2)))
    (phase,), condition = network.phases, levels[:, None]
    z = phase.prior(problem.start(), condition)
    expected = problem.nearest(z, phase.data_step.weight(condition))
    torch.testing.assert_close(network(problem.y, problem.operator, noise=levels), expected)


def test_priors_of_ones_own_are_in_every_phase():
    own, shared = (ADMMNet(3, prior=ResidualCNN(5, 2), shared=shared) for shared in (False, True))
    assert [phase.prior.arguments["features"] for phase in own.phases] == [5, 5, 5]
    assert not torch.equal(own.phases[0].prior.layers[0].weight, own.phases[1].prior.layers[0].weight)
    assert own.parameter_count == 3 * shared.parameter_count
    with pytest.raises(ValueError, match="ADMMNet: complex_images is True, and that of its ResidualCNN is False"):
        ADMMNet(3, prior=ResidualCNN(5, 2), complex_images=True)
    with pytest.raises(ValueError, match="prior: must be a module that maps images to images, got 3"):
        ADMMNet(3, prior=3)


@pytest.mark.parametrize("name", first_of(["MaskedFourier", "Radon"]))
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: ADMMNet(2, 4, 2, complex_images=kind))
