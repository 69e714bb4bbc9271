"""What phases, priors and states are, and that they may be any."""

from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import picture
from unrolled.networks import (
    FeatureMaps,
    Images,
    Phase,
    Prior,
    UnrolledNetwork,
    apart,
    gradient,
    mean_square,
    per_channel,
    positive,
    together,
)
from unrolled.operators import BlockCompressedSensing, Identity, MaskedFourier, RadialMask
from unrolled.reconstruction.tiles import in_tiles


class Coarse(Phase):
    """Carries feature maps at half the resolution of the image, which only the prior changes."""

    alignment = 2
    reach = 4  # a pixel of the coarse maps on either side, from either half

    def __init__(self, scale: int = 2):
        super().__init__()
        self.carries = (FeatureMaps(scale),)
        self.down, self.up = nn.Conv2d(1, 3, 4, 2, 1), nn.ConvTranspose2d(3, 1, 4, 2, 1)
        self.mix = nn.Conv2d(3, 3, 1)

    def begin(self, x, y, operator):
        return x, x.new_zeros(len(x), 3, x.shape[2] // 2, x.shape[3] // 2)

    def forward(self, state, y, operator, condition=None):
        x, maps = state
        x = x - gradient(x, y, operator)
        maps = torch.tanh(self.mix(maps) + self.down(x))
        return x + self.up(maps), maps


class Net(UnrolledNetwork):
    def __init__(self, phases):
        super().__init__(phases)


def coarse(**options):
    torch.manual_seed(0)
    operator = BlockCompressedSensing(ratio=0.25, block=6)
    return Net([Coarse(**options) for _ in range(3)]), operator, operator(picture(36, 48).unsqueeze(0))


@pytest.mark.parametrize("tile", [1, 6, 20])
def test_feature_maps_at_a_scale_go_through_tiles(tile):
    network, operator, y = coarse()
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(y, network, operator, tile), network(y, operator), atol=1e-5, rtol=0)


def test_entries_that_are_not_what_a_phase_says_are_refused_by_tiles():
    network, operator, y = coarse(scale=1)
    with pytest.raises(ValueError, match=r"tile: Coarse must carry \(FeatureMaps\(scale=1\),\), which for 36×48"):
        in_tiles(y, network, operator, 6)


def test_maps_of_sides_that_are_no_multiples_of_the_scale_are_to_be_rounded_up():
    network = Net([Coarse()])
    operator = BlockCompressedSensing(ratio=0.5, block=3)
    with pytest.raises(ValueError, match=r"tile: Coarse must carry .* \(5, 6\)\], got \[\(9, 12\), \(4, 6\)\]"):
        in_tiles(operator(picture(9, 12).unsqueeze(0)), network, operator, 6)


def test_a_phase_that_looks_everywhere_has_no_tiles():
    network, operator, y = coarse()
    network.phases[1].reach = None
    with pytest.raises(ValueError, match=r"tile: Coarse looks at the image as a whole \(its reach is None\)"):
        in_tiles(y, network, operator, 6)


class Plain(nn.Module):
    def forward(self, x, memory, y, operator):
        return 0 * x + 7, None


def test_what_is_no_phase_is_refused():
    with pytest.raises(ValueError, match="Net: phases must be of the class Phase, but number 1 is Plain"):
        Net([Coarse(), Plain()])
    with pytest.raises(ValueError, match="Net: phases must be at least one, got none"):
        Net([])


@pytest.mark.parametrize("scale", [0, -1, 1.5, True, "2"])
def test_a_scale_is_a_whole_number(scale):
    with pytest.raises(ValueError, match="FeatureMaps: scale must be a whole number >= 1"):
        FeatureMaps(scale)


def test_what_phases_carry_are_small_values():
    assert FeatureMaps(2) == FeatureMaps(2) != FeatureMaps(4)
    assert Images() == Images()
    with pytest.raises(FrozenInstanceError):
        FeatureMaps(2).scale = 3


class Told(Prior):
    """Shrinks by the noise level that it is told."""

    def forward(self, z, condition=None):
        noise = z.new_zeros(len(z), 1) if condition is None else condition
        return z / (1 + noise[..., None, None])


class Conditioned(Phase):
    reach = 0

    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def forward(self, state, y, operator, condition=None):
        (x,) = state
        return (self.prior(x - gradient(x, y, operator), condition),)


class Adaptive(UnrolledNetwork):
    takes_noise = True

    def __init__(self):
        super().__init__([Conditioned(Told())], repeats=2)


def test_noise_levels_reach_the_prior():
    network, operator, x = Adaptive(), Identity(), torch.rand(3, 1, 5, 6)
    levels = torch.tensor([0.0, 0.5, 1.0])
    expected = x / (1 + levels.view(3, 1, 1, 1))
    for noise, wanted in ((levels, expected), (0.5, x / 1.5), (None, x)):
        torch.testing.assert_close(network(x, operator, noise=noise), wanted)
        torch.testing.assert_close(network.iterates(x, operator, noise=noise)[-1], wanted)


def test_noise_levels_of_complex_measurements_are_real():
    operator = MaskedFourier(RadialMask(0.5), 5, 6)
    y = operator(torch.rand(2, 1, 5, 6))
    assert Adaptive().condition(y, operator, 0.1).dtype == torch.float32
    assert Adaptive()(y, operator, noise=0.1).dtype == torch.float32


@pytest.mark.usefixtures("fresh_compiler")
def test_a_network_that_is_told_the_noise_compiles_to_one_graph():
    network, operator, x = Adaptive(), Identity(), torch.rand(2, 1, 5, 6)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, operator, noise=0.5), network(x, operator, noise=0.5))


def test_the_gradient_is_that_of_half_the_squared_residual():
    operator = MaskedFourier(RadialMask(0.5), 5, 6).double()
    x, y = torch.rand(1, 1, 5, 6).double().requires_grad_(), operator(torch.rand(1, 1, 5, 6).double())
    (expected,) = torch.autograd.grad((operator(x) - y).abs().square().sum() / 2, x)
    torch.testing.assert_close(gradient(x, y, operator), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_channels_apart_and_together_again(dtype):
    x = torch.randn(2, 3, 4, 5, dtype=dtype)
    single = apart(x)
    assert single.shape == (6, 2 if dtype.is_complex else 1, 4, 5)
    assert not single.is_complex()
    assert torch.equal(together(single, x), x)
    assert together(single.bfloat16(), x).dtype == dtype
    assert torch.equal(per_channel(lambda each: 2 * each, x), 2 * x)
    torch.testing.assert_close(mean_square(x), x.abs().square().mean())


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, 20.0])
def test_a_positive_parameter_starts_where_it_was_asked_to(value):
    assert F.softplus(positive(value)).item() == pytest.approx(value, rel=1e-4)


class Faster(nn.Module):
    """Says by itself that it can be fused."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def forward(self, z, condition=None):
        return self.factor * z

    def fused(self):
        return nn.Identity()


def test_modules_say_themselves_how_they_are_fused():
    network = Net([Conditioned(Faster())])
    assert isinstance(network.fuse().phases[0].prior, nn.Identity)
    assert isinstance(network.phases[0].prior, Faster)
    assert network.fuse().fused
    assert not network.fused
