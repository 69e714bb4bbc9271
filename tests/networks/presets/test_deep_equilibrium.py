"""Deep equilibrium networks: the laws, and that what they find is a fixed point."""

import pytest
import torch

from tests.networks.laws import NetworkLaws
from tests.networks.presets.splitting import DenseProblem, disturbed
from tests.networks.training import trained_ten_steps
from tests.pairs import first_of
from unrolled.networks import (
    ADMMPhase,
    DeepEquilibrium,
    Implicit,
    ProximalStep,
    ResidualCNN,
    Unroll,
)
from unrolled.operators import Identity
from unrolled.reconstruction.tiles import why_no_tiles

RANGE = (0.01, 0.2)


def unrolled_admm(complex_images=False, **options):
    prior = ResidualCNN(8, 2, complex_images=complex_images, ranges=[RANGE])
    phase = ADMMPhase(prior, ProximalStep(0.2, ranges=[RANGE]))
    how = {"differentiation": Unroll(), "noise_range": RANGE, "complex_images": complex_images}
    return DeepEquilibrium(phase, **{**how, **options})


class TestDeepEquilibrium(NetworkLaws):
    network_class = DeepEquilibrium
    cases = {  # by Implicit, gradients are those of the limit, where two phases do not come
        "proximal gradient": lambda **options: DeepEquilibrium(
            **{"features": 8, "depth": 3, "differentiation": Unroll(), **options}
        ),
        "ADMM, told the noise": unrolled_admm,
    }
    implicit_options = {}
    rate = 2e-3

    def contracting(self, network):
        super().contracting(network)
        step = getattr(network.phases[0], "data_step", None)
        if type(step).__name__ == "GradientStep":
            with torch.no_grad():
                step.raw_weight.fill_(0.2915)  # a step of .85


def contraction():
    """A network whose phase contracts, for its prior takes a quarter of the image away, in a roundabout manner."""
    torch.manual_seed(0)
    network = disturbed(DeepEquilibrium(phases=150, features=4, depth=2), 0.01)
    first, last = network.phases[0].prior.layers
    with torch.no_grad():
        first.bias.zero_()
        first.weight.mul_(0.1)[:, 0, 1, 1] += torch.tensor([0.25, 0.25, -0.25, -0.25])
        last.weight.mul_(0.1)[0, :, 1, 1] += torch.tensor([-0.5, -0.5, 0.5, 0.5])
    return network


def test_it_finds_the_fixed_point_of_its_phase():
    network, problem = contraction(), DenseProblem()
    x = network(problem.y, problem.operator)
    phase = network.phases[0]
    step = phase.data_step.weight()
    torch.testing.assert_close(phase.prior(x - step * problem.gradient(x)), x, rtol=0, atol=1e-8)
    network.repeats = 400
    torch.testing.assert_close(network(problem.y, problem.operator), x, rtol=0, atol=1e-8)


def test_its_gradient_is_that_of_the_fixed_point_in_the_memory_of_one_phase():
    problem, truth = DenseProblem(), torch.rand(2, 1, 5, 6, dtype=torch.float64)
    found = []
    for how in (None, Unroll()):
        network = contraction()
        if how is not None:
            network.differentiation = how
        else:
            assert network.differentiation == Implicit(iterations=150)
            network.differentiation = Implicit(iterations=300, tolerance=1e-12)
        loss = network.loss(truth, problem.y, problem.operator)
        found.append(torch.autograd.grad(loss, list(network.parameters())))
    for implicit, unrolled in zip(*found, strict=True):
        torch.testing.assert_close(implicit, unrolled, rtol=1e-6, atol=1e-9)


def test_anderson_finds_the_same_image_and_gradient_in_fewer_phases():
    problem, truth = DenseProblem(), torch.rand(2, 1, 5, 6, dtype=torch.float64)
    network = contraction()
    exact = network(problem.y, problem.operator)
    network.differentiation = Implicit(iterations=300, tolerance=1e-12)
    gradients = torch.autograd.grad(network.loss(truth, problem.y, problem.operator), list(network.parameters()))
    errors = {}
    for memory in (1, 6):
        network.differentiation, network.repeats = Implicit(iterations=20, tolerance=1e-12, memory=memory), 20
        image = network(problem.y, problem.operator)
        with torch.no_grad():
            assert torch.equal(network(problem.y, problem.operator), image)
        iterates = network.iterates(problem.y, problem.operator)
        assert len(iterates) == 21
        assert torch.equal(iterates[-1], image)
        loss = network.loss(truth, problem.y, problem.operator)
        found = torch.autograd.grad(loss, list(network.parameters()))
        errors[memory] = max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip((image.detach(), *found), (exact.detach(), *gradients), strict=True)
        )
    assert errors[6] < 0.1 * errors[1], errors
    with pytest.raises(ValueError, match="memory must be a whole number in 1 … 10,000, got 0"):
        Implicit(memory=0)
    assert "looks at the image as a whole" in why_no_tiles(network, Identity())


def test_any_phase_has_a_fixed_point():
    problem = DenseProblem()
    network = DeepEquilibrium(ADMMPhase(ResidualCNN(4, 2)), phases=3)
    assert network(problem.y.float(), problem.operator.float()).shape == (2, 1, 5, 6)
    with pytest.raises(ValueError, match="DeepEquilibrium: phase must be of the class Phase, got ResidualCNN"):
        DeepEquilibrium(ResidualCNN(4, 2))
    with pytest.raises(ValueError, match="DeepEquilibrium: complex_images is True, and that of its ResidualCNN is"):
        DeepEquilibrium(ADMMPhase(ResidualCNN(4, 2)), complex_images=True)


@pytest.mark.parametrize("name", first_of(["MaskedFourier", "Radon"]))
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: DeepEquilibrium(None, 4, 4, 2, complex_images=kind))
