"""Networks bring operators to the norm 1: whatever the units of measurements are, the image is the same."""

import copy

import pytest
import torch
from torch import nn

from tests.helpers import picture
from unrolled.networks import EPGN, AdjointStart, ISTANetPlus, Phase, UnrolledNetwork, gradient
from unrolled.operators import BlockCompressedSensing, Radon
from unrolled.operators.root_ramp import RootRamp
from unrolled.reconstruction.tiles import in_tiles

X = picture(18, 27)[None]


def blocks() -> BlockCompressedSensing:
    return BlockCompressedSensing(ratio=0.4, block=9)


class Told(Phase):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, state, y, operator, condition=None):
        return (state[0] - self.weight * gradient(state[0], y, operator) + condition[:, :, None, None],)


class ToldTheNoise(UnrolledNetwork):
    takes_noise = True

    def __init__(self):
        super().__init__([Told()])


@pytest.mark.parametrize("scale", [64.0, 0.125])
@pytest.mark.parametrize(
    "make", [lambda: EPGN(2, 4), lambda: ISTANetPlus(2, 4), lambda: EPGN(2, 4, start=AdjointStart())]
)
def test_images_do_not_depend_on_the_units_of_measurements(scale, make):
    torch.manual_seed(0)
    network, operator = make(), blocks()
    y, scaled = operator(X), scale * operator
    assert torch.equal(network(scale * y, scaled), network(y, operator))
    for found, expected in zip(network.iterates(scale * y, scaled), network.iterates(y, operator), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(network.first_image(scale * y, scaled), network.first_image(y, operator))
    assert network.loss(X, scale * y, scaled) == network.loss(X, y, operator)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(scale * y, network, scaled, 9), network(y, operator))


def test_the_noise_level_is_in_the_units_of_measurements():
    network, operator = ToldTheNoise(), blocks()
    y = operator(X)
    assert torch.equal(network(64 * y, 64.0 * operator, noise=64 * 0.3), network(y, operator, noise=0.3))


def test_line_integrals_are_reconstructed_as_they_are():
    torch.manual_seed(0)
    network, operator = EPGN(3, 4), Radon(12, 18, 18, pixel_size=1.4)
    x = X[..., :18]
    y = operator(x)
    torch.testing.assert_close(network.first_image(y, operator), operator.estimate(y), atol=1e-5, rtol=0)
    root = RootRamp(operator.detectors)
    unit = (root @ operator).normalized()
    torch.testing.assert_close(network(y, operator), network(root(y) * unit.factor, unit), atol=5e-3, rtol=0)
    # In steps without anything learned, the data are explained sooner than by steps along Aᴴ(Ax − y) alone.
    for phase in network.phases:
        torch.nn.init.zeros_(phase.prox.synthesize.pair.second)
    plain = operator.normalized()
    left, right = network(y, operator), network(plain(x), plain)
    assert (operator(left) - y).norm() < 0.3 * (operator(right) - y).norm()


@pytest.mark.full
def test_a_compiler_meets_the_norm_at_once():
    network, operator = ToldTheNoise(), 64.0 * blocks()
    y = operator(X)
    compiled = torch.compile(lambda y: network(y, operator, noise=0.3), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(y), network(y, operator, noise=0.3))


def test_networks_of_before_take_operators_as_they_are():
    torch.manual_seed(0)
    network, operator = EPGN(1, 2), 4.0 * blocks()
    y = operator(X)
    earlier = copy.deepcopy(network)
    earlier.normalizes = False
    assert earlier.norm_of(operator) == 1
    state = network.phases[0].begin(operator.estimate(y), y, operator)
    assert torch.equal(earlier(y, operator), network.phases[0](state, y, operator)[0])
    assert not torch.equal(earlier(y, operator), network(y, operator))
