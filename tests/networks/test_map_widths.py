"""Every network that holds learned proximal maps gives the same images without the feature maps that were pruned."""

import copy
import inspect

import pytest
import torch

from tests.networks.laws import double, measured
from tests.networks.phases.algorithms import CASES
from tests.networks.priors.laws import disturb
from unrolled.cli.network_list import by_default, preset_classes
from unrolled.networks import (
    ComposedNetwork,
    MapPrior,
    ProximalGradientPhase,
    SparsifyingPrior,
    SymmetricPrior,
    UnrolledNetwork,
)
from unrolled.networks.composed import PARTS
from unrolled.networks.map_widths import live_maps
from unrolled.penalties import MCP, Filters
from unrolled.sparsify import Constant, MagnitudePruning
from unrolled.system.recipes import build, describe, subclasses

FEATURES = 6
OPTIONS = {"real": {}, "complex": {"complex_images": True}}
PRIORS = [cls for cls in subclasses(MapPrior) if hasattr(cls, "compact")]


def made(name, prior=None, **options):
    """A small network of a class, in which the prior stands if it takes one."""
    makes = {} if prior is None else {"prior": prior(FEATURES, **options)}
    if prior is not None and "phase" in takes(name):
        makes = {"phase": ProximalGradientPhase(makes["prior"])}
    return by_default(preset_classes()[name], phases=2, features=FEATURES, **makes, **options)


def takes(name):
    return set(inspect.signature(preset_classes()[name]).parameters)


TAKE_PRIORS = [name for name in preset_classes() if takes(name) & {"prior", "phase"}]


def pruned(network, share=0.5):
    """The network with so many of the filters of its feature maps set to zero by a sparsifier."""
    network = network.double()
    disturb(network)
    around = "sparsify.conv.weight", "synthesize.conv.weight", "analysis_last", "synthesis_first"
    weights = [name for name, _ in network.named_parameters() if name.endswith(around)]
    sparsifier = MagnitudePruning(
        network, share, groups=Filters(), scope="layer", schedule=Constant(), steps=1, include=weights
    )
    optimizer = torch.optim.SGD(network.parameters(), 1e-9)
    sum(parameter.square().sum() for parameter in network.parameters()).backward()
    optimizer.step()
    sparsifier.step(optimizer)
    sparsifier.finalize()
    return network.requires_grad_(True)


def assert_smaller_and_alike(network, kind="real"):
    operator, x = measured(kind)
    operator, y = operator.double(), operator.double()(double(x))
    small = network.compacted()
    assert small.parameter_count < 0.7 * network.parameter_count
    with torch.no_grad():
        expected = network(y, operator)
        assert (expected - network.first_image(y, operator)).abs().max() > 1e-3
        torch.testing.assert_close(small(y, operator), expected, rtol=0, atol=1e-6)
        again = build(describe(small), UnrolledNetwork, *PARTS).double()
        again.load_state_dict(small.state_dict())
        torch.testing.assert_close(again(y, operator), expected, rtol=0, atol=1e-6)
    return small


KINDS = pytest.mark.parametrize("kind", ["real", "complex"])


@KINDS
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", TAKE_PRIORS)
def test_the_same_images_without_the_pruned_maps_of_a_prior(name, prior, kind):
    assert_smaller_and_alike(pruned(made(name, prior, **OPTIONS[kind])), kind)


@KINDS
@pytest.mark.parametrize("name", preset_classes())
def test_the_same_images_without_the_pruned_maps_of_its_own(name, kind):
    if "complex_images" not in takes(name) and kind == "complex":
        return
    network = made(name, **OPTIONS[kind])
    if network.compacts:
        assert_smaller_and_alike(pruned(network), kind)
    else:
        with pytest.raises(ValueError, match=f"{name}: compacted: none of its parts can leave out feature maps"):
            network.compacted()


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("phase", [name for name in CASES if name != "FISTANetPhase"])  # whose numbers are no part
def test_composed_of_every_phase_and_prior_too(phase, prior):
    network = ComposedNetwork(CASES[phase].make(prior(FEATURES, penalty=MCP(1.0, 2.0), shrink_channels=True)), 2)
    small = assert_smaller_and_alike(pruned(network))
    assert len(small.arguments["phase"]) == 2


def test_what_the_loss_adds_is_the_same_too():
    network = pruned(made("ISTANetPlus"))
    operator, x = measured("real")
    operator, y = operator.double(), operator.double()(double(x))
    small = network.compacted()
    torch.testing.assert_close(small.loss(double(x), y, operator), network.loss(double(x), y, operator))


def test_priors_of_a_list_are_those_of_the_phases():
    first, second = SparsifyingPrior([2, 3, 4, 5]), SymmetricPrior([1, 2, 3, 4])
    network = preset_classes()["ADMMNet"](phases=2, prior=[first, second])
    assert [phase.prior for phase in network.phases] == [first, second]
    with pytest.raises(ValueError, match="ADMMNet: prior must be one, or one for each of 3 phases, got 2"):
        preset_classes()["ADMMNet"](phases=3, prior=[first, second])
    with pytest.raises(ValueError, match="ComposedNetwork: phase must be of the class Phase"):
        ComposedNetwork([ProximalGradientPhase(first), second], 2)


def test_maps_are_live_if_they_are_made_and_read():
    first, last = torch.ones(4, 1), torch.ones(3, 1)
    before, after = torch.ones(5, 4, 1, 1), torch.ones(3, 5, 1, 1)
    first[0], before[1], after[:, 2] = 0, 0, 0
    before[3, 1:] = 0  # it reads only what is not made
    last[2] = 0
    assert [each.tolist() for each in live_maps(first, before, after, last)] == [[1, 2, 3], [0, 4], [0, 1]]
    nothing = live_maps(first * 0, before, after, last)
    assert [each.tolist() for each in nothing] == [[0], [0], [0]]


def test_a_network_of_ones_own_says_that_its_arguments_do_not_say_what_is_left():
    class Own(UnrolledNetwork):
        def __init__(self):
            super().__init__([ProximalGradientPhase(SparsifyingPrior(4))])

    with pytest.raises(ValueError, match="Own: compacted: its arguments cannot say how many feature maps are left"):
        Own().compacted()


def test_it_is_left_as_it_was():
    network = pruned(ComposedNetwork(ProximalGradientPhase(SymmetricPrior(FEATURES)), 2))
    before, recipe = copy.deepcopy(network.state_dict()), describe(network)
    network.compacted()
    assert describe(network) == recipe
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
