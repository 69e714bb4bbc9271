"""Networks that are told the noise level: what it scales, and that it reaches the phases by every way."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unrolled
from tests.networks.laws import measured, pictures
from tests.networks.proximal_gradient import randomised
from unrolled.networks import EPGN, Implicit, ISTANetPlus, Recompute
from unrolled.networks.conditioning import Factors
from unrolled.networks.maps import scaled
from unrolled.networks.shrinkage import ShrinkageMixture
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import L1, MCP
from unrolled.reconstruction.tiles import in_tiles
from unrolled.weights.card import read_card

RANGE = (0.01, 0.2)
LEVELS = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)


def told(kind, **options):
    """A network that takes the noise, in double precision with weights at random, an operator and measurements."""
    network = randomised(kind(phases=2, noise_range=RANGE, **{"features": 4, **options}))
    operator, x = measured("real")
    return network, operator.double(), operator.double()(x.double())


def inverse_softplus(value: torch.Tensor) -> torch.Tensor:
    return value.expm1().log()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EPGN, {}),
        (EPGN, {"variant": "plain", "nonlocal_window": 3}),
        (ISTANetPlus, {}),
    ],
)
@torch.no_grad()
def test_each_image_is_that_of_a_network_whose_steps_and_thresholds_are_scaled(kind, options):
    network, operator, y = told(kind, **options)
    found = network(y, operator, noise=LEVELS)
    assert (found - network(y, operator, noise=LEVELS.flip(0))).abs().max() > 1e-3
    for index, level in enumerate(LEVELS):
        plain = kind(phases=2, **{"features": 4, **options}).double()
        plain.load_state_dict({key: value for key, value in network.state_dict().items() if "factors" not in key})
        for own, given in zip(plain.phases, network.phases, strict=True):
            factors = given.factors(level.view(1, 1))[0]
            assert (factors - 1).abs().max() > 1e-3
            *steps, threshold = factors
            for name, factor in zip(("raw_alpha", "raw_beta") if kind is EPGN else ("raw_step",), steps, strict=True):
                raw = getattr(own, name)
                raw.copy_(inverse_softplus(F.softplus(raw) * factor))
            raw = (own.prox if kind is EPGN else own).shrinkage.raw_step
            raw.copy_(inverse_softplus(F.softplus(raw) * threshold))
        torch.testing.assert_close(found[index : index + 1], plain(y[index : index + 1], operator))


def test_the_thresholds_of_every_penalty_are_scaled():
    torch.manual_seed(0)
    shrinkage = ShrinkageMixture([L1(), MCP(1.0, 0.5)], threshold=0.1).double()
    v = torch.linspace(-1, 1, 4001, dtype=torch.float64).view(1, 1, 1, -1).expand(2, 1, 1, -1)
    found = scaled(shrinkage, torch.tensor([0.5, 3.0]).view(2, 1, 1, 1))(v)
    for image, least, factor in zip(v, found, (0.5, 3.0), strict=True):
        assert float(image[least == 0].abs().max()) == pytest.approx(0.1 * factor, abs=1e-3)


def test_before_training_the_noise_level_changes_nothing():
    torch.manual_seed(0)
    factors = Factors([RANGE, (0.1, 0.5)], 3)  # of two numbers, as a sampling ratio beside the noise level
    assert torch.equal(factors(torch.rand(5, 2)), torch.ones(5, 3))
    nn.init.normal_(factors.last.weight)
    low, high, beyond = factors(torch.tensor([[0.01, 0.1], [0.2, 0.5], [1e6, 1e6]]))
    assert ((low - high).abs() > 1e-3).all()
    assert beyond.isfinite().all()
    assert (factors(torch.rand(50, 2)) > 0).all()


@pytest.mark.parametrize("kind", [EPGN, ISTANetPlus])
def test_the_noise_level_goes_every_way(kind):
    network, operator, y = told(kind)
    x = pictures(22, 33).double()
    expected = network(y, operator, noise=LEVELS)
    torch.testing.assert_close(network.iterates(y, operator, noise=LEVELS)[-1], expected)
    torch.testing.assert_close(in_tiles(y, network, operator, 22, noise=LEVELS), expected.detach())
    torch.testing.assert_close(network.fuse()(y, operator, noise=LEVELS), expected)
    alike = network(y, operator, noise=0.05)
    torch.testing.assert_close(alike[1], expected[1])
    assert (alike[0] - expected[0]).abs().max() > 1e-4
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(network.loss(x, y, operator, noise=LEVELS), parameters)
    assert all(gradient.norm() > 0 for gradient in gradients)
    network.differentiation = Recompute()
    again = torch.autograd.grad(network.loss(x, y, operator, noise=LEVELS), parameters)
    torch.testing.assert_close(again, gradients, rtol=1e-12, atol=1e-14)


def test_the_implicit_gradient_knows_the_noise_level():
    network, _, _ = told(EPGN, shared=True)
    operator = BlockCompressedSensing(measurements=81, block=9).double()
    x = pictures(9, 9).double()
    with torch.no_grad():
        network.phases[0].raw_alpha.fill_(-1.508), network.phases[0].raw_beta.fill_(0.2915)
    network.repeats = 40
    parameters, gradients = list(network.phases[0].factors.parameters()), []
    for how in (network.differentiation, Implicit(iterations=300, tolerance=1e-14)):
        network.differentiation = how
        gradients.append(torch.autograd.grad(network.loss(0 * x, operator(x), operator, noise=LEVELS), parameters))
    scale = max(float(gradient.abs().max()) for gradient in gradients[0])
    for unrolled_one, implicit in zip(*gradients, strict=True):
        torch.testing.assert_close(implicit, unrolled_one, rtol=1e-7, atol=1e-9 * scale)


def test_without_a_level_it_is_told_the_lowest():
    network, operator, y = told(EPGN)
    assert torch.equal(network(y, operator), network(y, operator, noise=RANGE[0]))


@pytest.mark.full
@pytest.mark.usefixtures("fresh_compiler")
def test_it_compiles_to_one_graph():
    network, operator, y = told(EPGN)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(y, operator, noise=LEVELS), network(y, operator, noise=LEVELS))


def test_weights_say_the_range_and_older_ones_have_none(tmp_path):
    operator, _ = measured("real")
    torch.manual_seed(0)
    network = EPGN(1, 2, noise_range=[0, 0.5])
    unrolled.save(tmp_path / "w.safetensors", network, operator)
    again, _ = unrolled.load(tmp_path / "w.safetensors")
    assert again.noise_range == (0.0, 0.5)
    assert again.takes_noise
    unrolled.save(tmp_path / "o.safetensors", EPGN(1, 2), operator)
    assert "noise_range" not in read_card(tmp_path / "o.safetensors")["network"]["init_args"]
    assert not unrolled.load(tmp_path / "o.safetensors")[0].takes_noise


@pytest.mark.parametrize(
    "given", [(0.2, 0.1), (0.1, 0.1), (-0.1, 0.2), (0.1,), (0.1, math.inf), (0.1, math.nan), "ab", 0.1, (None, 1)]
)
def test_what_is_no_range_is_refused(given):
    with pytest.raises(ValueError, match="noise_range must be two numbers, 0 <= low < high, or None"):
        EPGN(1, 2, noise_range=given)
