"""Phases in the form that they had before states go on working, with a warning."""

import warnings

import pytest
import torch
from torch import nn

from tests.helpers import picture
from unrolled.networks import Implicit, Phase, Recompute, UnrolledNetwork
from unrolled.networks.unrolled import gradient
from unrolled.operators import BlockCompressedSensing, Blur, GaussianKernel
from unrolled.reconstruction.tiles import in_tiles

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)

    class Momentum(Phase):
        reaches = (2, 1)

        def __init__(self):
            super().__init__()
            self.map, self.second = nn.Conv2d(1, 1, 5, padding=2), nn.Conv2d(1, 1, 3, padding=1)
            for layer in (self.map, self.second):
                nn.init.normal_(layer.weight, std=0.05)

        def forward(self, x, memory, y, operator):
            t = x if memory is None else x + 0.3 * (x - memory)
            half = t + self.map(t - gradient(t, y, operator))
            return half + self.second(half - gradient(half, y, operator)), x

    class Counting(Phase):
        """Its memory is no tensor."""

        reaches = (0,)

        def __init__(self):
            super().__init__()
            self.step = nn.Parameter(torch.tensor(0.9))

        def forward(self, x, memory, y, operator):
            last, n = (x, 0) if memory is None else memory
            t = x + n / (n + 3) * (x - last)
            return t - self.step * gradient(t, y, operator), (x, n + 1)


class Net(UnrolledNetwork):
    def __init__(self, phase, repeats=6, differentiation=None):
        super().__init__([phase], repeats, differentiation)


def problem():
    torch.manual_seed(0)
    operator = BlockCompressedSensing(ratio=0.25, block=6)
    return operator, operator(picture(36, 48).unsqueeze(0))


def test_a_memory_is_handed_on_and_starts_as_none():
    operator, y = problem()
    phase = Momentum()
    x, memory = operator.estimate(y), None
    for _ in range(3):
        t = x if memory is None else x + 0.3 * (x - memory)
        half = t + phase.map(t - gradient(t, y, operator))
        x, memory = half + phase.second(half - gradient(half, y, operator)), x
    torch.testing.assert_close(Net(phase, 3)(y, operator), x)


@pytest.mark.parametrize("tile", [6, 20])
def test_reaches_count_in_tiles(tile):
    operator, y = problem()
    network = Net(Momentum(), 3)
    assert (network.phases[0].reach, network.phases[0].data_steps) == (3, 2)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(y, network, operator, tile), network(y, operator), atol=1e-5, rtol=0)


def damped():
    class Damped(Momentum):
        def forward(self, x, memory, y, operator):
            found, memory = super().forward(x, memory, y, operator)
            return (x + found) / 2, memory

    return Damped()


def test_a_warning_tells_the_new_form_and_subclasses_may_call_their_base():
    with pytest.warns(DeprecationWarning, match=r"Damped: phases are now forward\(state, y, operator, cond"):
        phase = damped()
    operator, y = problem()
    x = operator.estimate(y)
    half = x + phase.map(x - gradient(x, y, operator))
    expected = (x + half + phase.second(half - gradient(half, y, operator))) / 2
    torch.testing.assert_close(Net(phase, 1)(y, operator), expected)


def test_a_memory_that_is_no_tensor_works_where_it_can_and_is_refused_where_not():
    operator = Blur(GaussianKernel(2.0))
    y = operator(torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    phase = Counting()
    expected = Net(phase)(y, operator)
    assert torch.equal(Net(phase, differentiation=Recompute(2))(y, operator), expected)
    implicit = Net(phase, differentiation=Implicit())
    with torch.no_grad():
        assert torch.equal(implicit(y, operator), expected)
    message = "Implicit: a fixed point is made of real or complex tensors, but the phases carry tuple as entry 1"
    with pytest.raises(ValueError, match=message):
        implicit(y, operator)
    blocks, y = problem()
    with pytest.raises(ValueError, match="tile: Counting must carry"):
        in_tiles(y, Net(phase, 2), blocks, 6)
