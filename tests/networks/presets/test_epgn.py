"""EPGN: the laws, and the equations of its paper, written out by themselves."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.laws import double, measured
from tests.networks.proximal_gradient import ProximalGradientLaws, conv, image, pair, parts, randomised, soft
from unrolled.networks import EPGN
from unrolled.networks.maps import WindowAttention
from unrolled.penalties import L1, MCP


class TestEPGN(ProximalGradientLaws):
    network_class = EPGN
    cases = {
        "accelerated": lambda **options: EPGN(features=4, **options),
        "plain, told the noise": lambda **options: EPGN(
            features=4, variant="plain", noise_range=(0.01, 0.2), **options
        ),
        "nonlocal, a mixture per channel": lambda **options: EPGN(
            features=8,
            nonlocal_window=11,
            penalty=[L1(), MCP(1.0, 2.0)],
            learn_penalty=True,
            shrink_channels=True,
            **options,
        ),
    }


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (EPGN(phases=1), 37_444),
        (EPGN(phases=1, nonlocal_window=11), 41_540),
        (EPGN(phases=9), 336_996),
        (EPGN(phases=9, nonlocal_window=11), 373_860),
        (EPGN(phases=9, variant="plain"), 336_996 - 9),
    ],
    ids=str,
)
def test_parameter_counts(network, parameters):
    # Of the published architectures; the plain variant has no momentum.
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def prox_by_the_paper(layer, b):
    """b + D̃(Ã(ReLU(B̃(soft(B(ReLU(A(D(b)))), θ))))), one 3×3 convolution after the other, each pair padded once."""
    g, back, theta = layer.sparsify, layer.synthesize, layer.shrinkage.threshold
    features = conv(F.relu(pair(parts(b), g.pair.first, g.pair.second)), g.conv.weight, 1)
    features = F.relu(conv(soft(features, theta), back.conv.weight, 1))
    return b + image(pair(features, back.pair.first, back.pair.second))


def problem(kind="real", **options):
    network = randomised(EPGN(phases=2, features=5, complex_images=kind == "complex", **options))
    operator, x = measured(kind)
    operator = operator.double()
    return network, operator, operator(double(x))


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_accelerated_phases_are_the_algorithm_of_the_paper(kind):
    network, operator, y = problem(kind)
    x = network.start(y, operator)
    half = x  # so that the first extrapolation is none
    for phase in network.phases:
        t = x + phase.gamma * (x - half)
        half = prox_by_the_paper(phase.prox, t - phase.alpha * operator.adjoint(operator(t) - y))
        s = half + phase.gamma * (half - x)
        x = prox_by_the_paper(phase.prox, s - phase.beta * operator.adjoint(operator(s) - y))
    torch.testing.assert_close(network(y, operator), x)


def test_the_gradient_of_block_compressed_sensing_is_that_of_its_matrix():
    network, operator, y = problem(variant="plain")
    x = network.start(y, operator)
    for phase in network.phases:
        half = prox_by_the_paper(
            phase.prox, x - phase.alpha * operator.apply_per_block(operator.matrix, operator(x) - y)
        )
        x = prox_by_the_paper(
            phase.prox, x - phase.beta * operator.apply_per_block(operator.matrix, operator(half) - y)
        )
    torch.testing.assert_close(network(y, operator), x)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_plain_phases_are_the_algorithm_of_the_paper(kind):
    network, operator, y = problem(kind, variant="plain")
    x = network.start(y, operator)
    for phase in network.phases:
        half = prox_by_the_paper(phase.prox, x - phase.alpha * operator.adjoint(operator(x) - y))
        x = prox_by_the_paper(phase.prox, x - phase.beta * operator.adjoint(operator(half) - y))
    torch.testing.assert_close(network(y, operator), x)


def test_without_momentum_a_phase_is_two_proximal_gradient_steps():
    network, operator, y = problem()
    x = network.start(y, operator)
    with torch.no_grad():
        for phase in network.phases:
            phase.raw_gamma.fill_(-1e4)  # softplus of it is 0
    for phase in network.phases:
        for step in (phase.alpha, phase.beta):
            x = phase.prox(x - step * operator.adjoint(operator(x) - y))
    torch.testing.assert_close(network(y, operator), x)


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


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="variant must be one of accelerated, plain, got 'fast'"):
        EPGN(variant="fast")
    with pytest.raises(ValueError, match="nonlocal_window must be"):
        EPGN(nonlocal_window=0)
    with pytest.raises(ValueError, match="features must be even"):
        EPGN(features=3, nonlocal_window=3)
