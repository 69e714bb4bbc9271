"""EPGN's map as a prior: the laws, and that it is the map of EPGN."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.laws import double
from tests.networks.priors.laws import PriorLaws, disturb, images
from tests.networks.proximal_gradient import conv, pair, soft
from unrolled.networks import EPGN, SparsifyingPrior
from unrolled.penalties import L1, MCP


class TestSparsifyingPrior(PriorLaws):
    prior_class = SparsifyingPrior
    cases = {
        "local": lambda **options: SparsifyingPrior(4, threshold=0.05, **options),
        "nonlocal, a mixture per channel": lambda **options: SparsifyingPrior(
            4, 3, [L1(), MCP(1.0, 2.0)], learn_penalty=True, shrink_channels=True, threshold=0.05, **options
        ),
    }


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("window", [None, 3])
def test_it_is_the_map_of_epgn(kind, window):
    network = EPGN(1, 4, nonlocal_window=window, complex_images=kind == "complex").double()
    disturb(network)
    prior = SparsifyingPrior(4, window, complex_images=kind == "complex").double()
    of_epgn = network.phases[0].prox
    prior.prox.load_state_dict(of_epgn.state_dict())
    z = double(images(1, kind == "complex"))
    maps = torch.cat([z.real, z.imag], dim=1) if kind == "complex" else z
    expected = of_epgn(maps)
    torch.testing.assert_close(prior(z), torch.complex(*expected.split(1, 1)) if kind == "complex" else expected)


def test_of_colours_together_it_is_its_equation():
    prior, z = TestSparsifyingPrior().make("local", "colours together")
    g, back = prior.prox.sparsify, prior.prox.synthesize
    features = conv(F.relu(pair(z, g.pair.first, g.pair.second)), g.conv.weight, 1)
    features = F.relu(conv(soft(features, prior.prox.shrinkage.threshold), back.conv.weight, 1))
    torch.testing.assert_close(prior(z), z + pair(features, back.pair.first, back.pair.second))


def test_the_condition_scales_thresholds():
    torch.manual_seed(0)
    prior, z = SparsifyingPrior(4, threshold=0.1, ranges=[(0.01, 0.2)]).double(), images(1, False).double()
    disturb(prior)
    told = torch.tensor([[0.02], [0.2]], dtype=torch.float64)
    for image, factor in enumerate(prior.factors(told)[:, 0].tolist()):
        plain = SparsifyingPrior(4, threshold=prior.prox.shrinkage.threshold.item() * factor).double()
        weights = {key: value for key, value in prior.state_dict().items() if "factors" not in key and "raw" not in key}
        plain.load_state_dict(weights, strict=False)
        torch.testing.assert_close(prior(z, told)[image], plain(z)[image], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0}, "SparsifyingPrior: features must be a whole number"),
        ({"nonlocal_window": 0}, "SparsifyingPrior: nonlocal_window must be a whole number"),
        ({"features": 3, "nonlocal_window": 3}, "features must be even"),
        ({"threshold": 0.0}, "threshold must be a finite number > 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SparsifyingPrior(**options)
