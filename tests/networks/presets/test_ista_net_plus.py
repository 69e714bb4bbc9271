"""ISTA-Net+: the laws, and the equations of its paper, written out by themselves."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.laws import double, measured
from tests.networks.proximal_gradient import ProximalGradientLaws, conv, image, pair, parts, randomised, soft
from unrolled.networks import Implicit, ISTANetPlus
from unrolled.penalties import L1, LogSum


class TestISTANetPlus(ProximalGradientLaws):
    network_class = ISTANetPlus
    cases = {
        "soft thresholding": lambda **options: ISTANetPlus(features=4, **options),
        "mixture, told the noise": lambda **options: ISTANetPlus(
            features=4, penalty=[L1(), LogSum(0.1)], learn_penalty=True, noise_range=(0.0, 0.5), **options
        ),
    }
    implicit_options = {"shared": True, "symmetry": 0.0}


def test_parameter_counts():
    assert ISTANetPlus(phases=9).parameter_count == 336_978  # of the published architecture


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_the_algorithm_of_its_paper(kind):
    network = randomised(ISTANetPlus(phases=2, features=5, complex_images=kind == "complex"))
    operator, truth = measured(kind)
    operator, truth = operator.double(), double(truth)
    y, asymmetry = operator(truth), 0.0
    x = network.start(y, operator)
    for phase in network.phases:
        b = x - phase.step * operator.adjoint(operator(x) - y)
        d = conv(parts(b), phase.analysis.first, 1)
        features = conv(F.relu(pair(parts(b), phase.analysis.first, phase.analysis.second)), phase.analysis_last, 1)
        back = conv(F.relu(conv(features, phase.synthesis_first, 1)), phase.synthesis.first, 1)
        asymmetry += (back - d).square().mean()
        features = F.relu(conv(soft(features, phase.shrinkage.threshold), phase.synthesis_first, 1))
        x = b + image(pair(features, phase.synthesis.first, phase.synthesis.second))
    torch.testing.assert_close(network(y, operator), x)
    expected = (x - truth).abs().square().mean() + 0.01 * asymmetry / 2
    torch.testing.assert_close(network.loss(truth, y, operator), expected)


def test_untrained_on_complex_images_it_is_gradient_descent():
    network, (operator, x) = ISTANetPlus(phases=2, features=4, complex_images=True), measured("complex")
    y = operator(x)
    expected = operator.adjoint(y)
    for _ in range(2):
        expected = expected - operator.adjoint(operator(expected) - y)
    torch.testing.assert_close(network(y, operator), expected)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="symmetry must be"):
        ISTANetPlus(symmetry=-0.1)
    with pytest.raises(ValueError, match="symmetry must be 0"):
        ISTANetPlus(phases=3, shared=True, differentiation=Implicit())
