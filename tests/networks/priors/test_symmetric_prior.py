"""ISTA-Net+'s map as a prior: the laws, and that it is the map of ISTA-Net+."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.laws import double, measured
from tests.networks.priors.laws import PriorLaws, disturb
from tests.networks.proximal_gradient import conv, pair, soft
from unrolled.networks import ComposedNetwork, ISTANetPlus, ProximalGradientPhase, SymmetricPrior
from unrolled.penalties import MCP


class TestSymmetricPrior(PriorLaws):
    prior_class = SymmetricPrior
    cases = {
        "as in the paper": lambda **options: SymmetricPrior(4, threshold=0.05, **options),
        "MCP per channel": lambda **options: SymmetricPrior(
            5, MCP(1.0, 2.0), learn_penalty=True, shrink_channels=True, threshold=0.05, **options
        ),
    }


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_in_a_phase_it_is_ista_net_plus(kind):
    network = ISTANetPlus(2, 4, complex_images=kind == "complex").double()
    disturb(network)
    composed = ComposedNetwork(
        ProximalGradientPhase(SymmetricPrior(4, complex_images=kind == "complex")), 2, complex_images=kind == "complex"
    ).double()
    places = {"raw_step": "data_step.raw_weight"}
    for phase, own in zip(composed.phases, network.phases, strict=True):
        weights = own.state_dict()
        phase.load_state_dict({places.get(key, f"prior.{key}"): value for key, value in weights.items()})
    operator, x = measured(kind)
    operator, x = operator.double(), double(x)
    y = operator(x)
    torch.testing.assert_close(composed(y, operator), network(y, operator))


def test_of_colours_together_it_is_its_equation():
    prior, z = TestSymmetricPrior().make("as in the paper", "colours together")
    features = conv(F.relu(pair(z, prior.analysis.first, prior.analysis.second)), prior.analysis_last, 1)
    features = F.relu(conv(soft(features, prior.shrinkage.threshold), prior.synthesis_first, 1))
    torch.testing.assert_close(prior(z), z + pair(features, prior.synthesis.first, prior.synthesis.second))


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="SymmetricPrior: features must be a whole number"):
        SymmetricPrior(0)
