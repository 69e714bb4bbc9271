"""EPGN against the equations of its paper, written out by themselves."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import picture
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.networks.maps import WindowAttention
from unrolled.operators import BlockCompressedSensing


def randomised(network):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.double()


def conv(x, weight, padding=0):
    return F.conv2d(x, weight, padding=padding)


def soft(x, t):
    return x.sign() * (x.abs() - t).clamp(min=0)


def prox_by_the_paper(layer, b):
    """b + D̃(Ã(ReLU(B̃(soft(B(ReLU(A(D(b)))), θ))))), one 3×3 convolution after the other, each pair padded once."""
    g, back, theta = layer.sparsify, layer.synthesize, layer.shrinkage.threshold
    features = conv(F.relu(conv(conv(b, g.pair.first, 2), g.pair.second)), g.conv.weight, 1)
    features = F.relu(conv(soft(features, theta), back.conv.weight, 1))
    return b + conv(conv(features, back.pair.first, 2), back.pair.second)


def problem():
    operator = BlockCompressedSensing(measurements=30, block=9).double()
    x = picture(18, 27).double().unsqueeze(0)
    return operator, operator(x)


def test_accelerated_phases_are_the_algorithm_of_the_paper():
    network, (operator, y) = randomised(EPGN(phases=2, features=5)), problem()
    phi = operator.matrix
    gradient = lambda x: operator.apply_per_block(phi, operator(x) - y)  # noqa: E731
    x = network.start(y, operator)
    half = x  # so that the first extrapolation is none
    for phase in network.phases:
        t = x + phase.gamma * (x - half)
        half = prox_by_the_paper(phase.prox, t - phase.alpha * gradient(t))
        s = half + phase.gamma * (half - x)
        x = prox_by_the_paper(phase.prox, s - phase.beta * gradient(s))
    torch.testing.assert_close(network(y, operator), x)


def test_plain_phases_are_the_algorithm_of_the_paper():
    network, (operator, y) = randomised(EPGN(phases=2, features=5, variant="plain")), problem()
    x = network.start(y, operator)
    for phase in network.phases:
        half = prox_by_the_paper(phase.prox, x - phase.alpha * operator.adjoint(operator(x) - y))
        x = prox_by_the_paper(phase.prox, x - phase.beta * operator.adjoint(operator(half) - y))
    torch.testing.assert_close(network(y, operator), x)


def test_without_momentum_a_phase_is_two_proximal_gradient_steps():
    network, (operator, y) = randomised(EPGN(phases=1, features=5)), problem()
    (phase,) = network.phases
    with torch.no_grad():
        phase.raw_gamma.fill_(-1e4)  # softplus of it is 0
    x = network.start(y, operator)
    for step in (phase.alpha, phase.beta):
        x = phase.prox(x - step * operator.adjoint(operator(x) - y))
    torch.testing.assert_close(network(y, operator), x)


def test_ista_net_plus_is_the_algorithm_of_its_paper():
    network, (operator, y) = randomised(ISTANetPlus(phases=2, features=5)), problem()
    x, asymmetry = network.start(y, operator), 0.0
    for phase in network.phases:
        b = x - phase.step * operator.adjoint(operator(x) - y)
        d = conv(b, phase.analysis.first, 1)
        features = F.relu(conv(conv(b, phase.analysis.first, 2), phase.analysis.second))
        features = conv(features, phase.analysis_last, 1)
        back = conv(F.relu(conv(features, phase.synthesis_first, 1)), phase.synthesis.first, 1)
        asymmetry += (back - d).square().mean()
        features = F.relu(conv(soft(features, phase.shrinkage.threshold), phase.synthesis_first, 1))
        x = b + conv(conv(features, phase.synthesis.first, 2), phase.synthesis.second)
    torch.testing.assert_close(network(y, operator), x)
    truth = torch.rand_like(x)
    expected = (x - truth).square().mean() + 0.01 * asymmetry / 2
    torch.testing.assert_close(network.loss(truth, y, operator), expected)


@pytest.mark.parametrize("size", [(9, 9), (6, 9), (7, 10), (2, 2)])
def test_attention_looks_at_all_pixels_of_its_window_and_no_others(size):
    torch.manual_seed(0)
    block = WindowAttention(features=4, window=3).double()
    z = torch.randn(1, 4, *size, dtype=torch.float64)
    out = torch.zeros_like(z)
    for top in range(0, size[0], 3):
        for left in range(0, size[1], 3):
            window = z[0, :, top : top + 3, left : left + 3].flatten(1)
            a, b, c = (layer.weight.flatten(1) @ window for layer in (block.query, block.key, block.content))
            attended = c @ torch.softmax(a.T @ b, dim=1).T
            result = F.relu(block.combine.weight.flatten(1) @ torch.cat([window, attended]))
            shape = z[0, :, top : top + 3, left : left + 3].shape
            out[0, :, top : top + 3, left : left + 3] = result.view(shape)
    torch.testing.assert_close(block(z), out)
