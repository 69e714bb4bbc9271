"""FISTA-Net: the laws, its equation written out by itself, and the order of its numbers."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.networks.laws import NetworkLaws
from tests.networks.presets.splitting import DenseProblem, disturbed
from tests.networks.training import trained_ten_steps
from tests.pairs import first_of
from unrolled.networks import FISTANet, ModulePrior
from unrolled.networks.presets.fista_net import PhaseNumbers


class TestFISTANet(NetworkLaws):
    network_class = FISTANet
    cases = {
        "small": lambda **options: FISTANet(**{"features": 8, "depth": 3, **options}),
        "own priors, told the noise": lambda **options: FISTANet(
            **{"features": 8, "depth": 2, "shared": False, "noise_range": (0.01, 0.2), **options}
        ),
    }
    rate = 3e-3
    implicit_options = {}
    no_implicit = "FISTANet: differentiation by Implicit needs phases that are one"


def softplus(x):
    return (1 + x.exp()).log()


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    problem, levels = DenseProblem(kind), torch.tensor([0.02, 0.15], dtype=torch.float64)
    network = disturbed(FISTANet(4, 4, 2, complex_images=kind == "complex", noise_range=(0.01, 0.2)), 0.2)
    images = network.iterates(problem.y, problem.operator, noise=levels)
    prior, numbers = network.phases[0].prior, network.phases[0].numbers
    factors = numbers.factors(levels[:, None])
    x = before = problem.start()
    for k, image in enumerate(images[1:], 1):
        mu = softplus(numbers.step.offset - k * softplus(numbers.step.raw_fall)) * factors[:, 0].view(2, 1, 1, 1)
        theta = softplus(numbers.threshold.offset - k * softplus(numbers.threshold.raw_fall)) * factors[:, 1:]
        rise = softplus(numbers.raw_rise)
        first, last = (softplus(rise * each + numbers.rise_offset) for each in (1, k))
        t = x + (last - first) / last * (x - before)
        x, before = prior(t - mu * problem.gradient(t), theta), x
        torch.testing.assert_close(image, x)


@pytest.mark.parametrize("seed", range(5))
def test_steps_and_thresholds_fall_and_momentum_rises_whatever_was_learned(seed):
    numbers = PhaseNumbers(1.0, 0.05)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in numbers.parameters():
            parameter.add_(2 * torch.randn_like(parameter))
        numbers.double()
        steps, thresholds = zip(*(numbers.step_and_threshold(k, None, 1) for k in range(1, 8)), strict=True)
        momenta = [numbers.momentum(k) for k in range(1, 8)]
    for falling in (steps, thresholds):
        assert all(a > b > 0 for a, b in pairwise(falling))
    assert momenta[0] == 0
    assert all(0 <= a < b < 1 for a, b in pairwise(momenta))


def test_it_starts_near_the_numbers_of_fista():
    with torch.no_grad():
        numbers = PhaseNumbers(0.7, 0.05)
        step, threshold = numbers.step_and_threshold(1, None, 1)
        assert float(step) == pytest.approx(0.7, rel=1e-5)
        assert float(threshold) == pytest.approx(0.05, rel=1e-4)
        t = 1.0
        for k in range(1, 8):
            following = (1 + (1 + 4 * t * t) ** 0.5) / 2
            assert float(numbers.momentum(k)) == pytest.approx((t - 1) / following, abs=0.04)
            t = following


def test_phases_share_all_but_their_place():
    network = FISTANet(3, 4, 2)
    assert all(phase.prior is network.phases[0].prior for phase in network.phases)
    assert network.parameter_count == FISTANet(9, 4, 2).parameter_count
    own = FISTANet(3, 4, 2, shared=False)
    assert own.phases[0].prior is not own.phases[1].prior
    deaf = FISTANet(3, prior=ModulePrior(nn.Conv2d(1, 1, 3, padding=1)))
    assert deaf.parameter_count == 10 + 4


@pytest.mark.parametrize("key", ["step", "threshold"])
def test_bad_arguments_are_refused_by_name(key):
    with pytest.raises(ValueError, match=f"FISTANet: {key} must be a finite number > 0, got -1"):
        FISTANet(**{key: -1.0})


@pytest.mark.parametrize("name", first_of(["Radon", "MaskedFourier"]))
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: FISTANet(2, 4, 2, complex_images=kind))
