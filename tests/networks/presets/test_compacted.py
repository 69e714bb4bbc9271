"""A compacted EPGN gives the images of the one that it was made of."""

import copy

import pytest
import torch

from tests.helpers import picture
from unrolled import weights
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import L1, MCP
from unrolled.sparsify import sparsity_report

PHASES, FEATURES = 2, 12
OPTIONS = {
    "accelerated": {},
    "plain": {"variant": "plain"},
    "a threshold per map": {"shrink_channels": True, "learn_penalty": True, "penalty": MCP(1.0, 2.0)},
    "a mixture per map": {"shrink_channels": True, "penalty": [L1(), MCP(1.0, 2.0)]},
    "shared": {"shared": True},
}


def network(**options):
    torch.manual_seed(0)
    made = EPGN(phases=PHASES, features=FEATURES, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.double()


def without_filters(made):
    """In each phase 3 maps inside of G, 5 that are shrunk, and 7 inside of G̃ are dead, by their filters or readers."""
    with torch.no_grad():
        for phase in made.phases:
            g, g_back = phase.prox.sparsify, phase.prox.synthesize
            g.pair.second[[0, 4]] = 0
            g.conv.weight[:, 11] = 0
            g.conv.weight[[1, 2, 3]] = 0
            g_back.conv.weight[:, [5, 6]] = 0
            g_back.conv.weight[:4] = 0
            g_back.pair.first[:, [8, 9, 10]] = 0
    return made


def reconstruct(made):
    operator = BlockCompressedSensing(measurements=30, block=9).double()
    return made(operator(picture(18, 27).double().unsqueeze(0)), operator)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_images_without_the_dead_maps(name):
    sparse = without_filters(network(**OPTIONS[name]))
    small = sparse.compacted()
    own = 1 if name == "shared" else PHASES
    assert small.arguments["features"] == own * [[9, 7, 5, 9]]
    assert small.parameter_count < sparse.parameter_count
    torch.testing.assert_close(reconstruct(small), reconstruct(sparse))
    assert reconstruct(sparse).sub(reconstruct(network(**OPTIONS[name]))).abs().max() > 1e-3  # dead maps did matter


def test_nothing_is_dead_but_the_middle_of_pairs_is_folded():
    dense = network()
    small = dense.compacted()
    assert small.arguments["features"] == PHASES * [[FEATURES] * 3 + [9]]
    assert small.phases[0].prox.sparsify.pair.first.shape == (9, 1, 3, 3)
    assert small.phases[0].prox.synthesize.pair.second.shape == (1, 9, 3, 3)
    torch.testing.assert_close(reconstruct(small), reconstruct(dense))


def test_narrow_pairs_stay_as_narrow():
    torch.manual_seed(0)
    dense = EPGN(phases=1, features=4).double()
    torch.nn.init.normal_(dense.phases[0].prox.synthesize.pair.second)
    assert dense.compacted().arguments["features"] == [[4, 4, 4, 4]]
    torch.testing.assert_close(reconstruct(dense.compacted()), reconstruct(dense))


def test_what_is_read_only_by_the_dead_is_dead():
    sparse = network()
    g = sparse.phases[0].prox.sparsify
    with torch.no_grad():
        g.conv.weight[6:] = 0  # so nobody reads the second half of what is shrunk …
        g.conv.weight[:6, 4:] = 0  # … and its filters were the only ones to read these
        sparse.phases[1].prox.synthesize.pair.first.zero_()  # all of the second phase leads nowhere
    small = sparse.compacted()
    assert small.arguments["features"] == [[4, 6, FEATURES, 9], [1, 1, 1, 9]]
    torch.testing.assert_close(reconstruct(small), reconstruct(sparse))


def test_it_is_left_as_it_was_and_the_small_one_is_a_network_like_any_other(tmp_path):
    sparse = without_filters(network()).float()
    before = copy.deepcopy(sparse.state_dict())
    small = sparse.compacted().to(memory_format=torch.channels_last)
    assert all(torch.equal(before[key], value) for key, value in sparse.state_dict().items())
    operator, x = BlockCompressedSensing(measurements=30, block=9), picture(18, 27).unsqueeze(0)
    small.loss(x, operator(x), operator).backward()
    assert all(parameter.grad.isfinite().all() for parameter in small.parameters())
    weights.save(tmp_path / "small.safetensors", small, operator)
    again, operator = weights.load(tmp_path / "small.safetensors")
    with torch.no_grad():
        y = operator(x)
        assert torch.equal(again(y, operator), small(y, operator))
        torch.testing.assert_close(again.fuse()(y, operator), small(y, operator))
    assert sparsity_report(small).total.nonzeros == sparsity_report(small).total.weights
    assert small.compacted().arguments == small.arguments


def test_what_cannot_be_compacted_is_refused():
    for made, why in (
        (EPGN(phases=1, features=4, nonlocal_window=3), "attention reads all feature maps"),
        (EPGN(phases=1, features=4).fuse(), "a fused network is for use only"),
    ):
        with pytest.raises(ValueError, match=why):
            made.compacted()


@pytest.mark.parametrize("features", [[[4] * 4], [[4] * 3] * 2, [4, 4], "ab", [[4, 4, 4, 0], [4] * 4], True])
def test_feature_maps_are_a_number_or_four_for_every_phase(features):
    with pytest.raises(ValueError, match="features must be"):
        EPGN(phases=2, features=features)


def test_a_recipe_cannot_ask_for_feature_maps_that_its_file_has_not(tmp_path):
    path, operator = tmp_path / "x.safetensors", BlockCompressedSensing(measurements=30, block=9)
    weights.save(path, EPGN(phases=1, features=[[2, 2, 2, 2]]), operator)
    card = weights.read_card(path)["network"]["init_args"]
    weights.record(path, {"network": {"init_args": {**card, "features": [[10**4, 10**4, 1, 1]]}}})
    with pytest.raises(ValueError, match="more memory or work than is allowed"):
        weights.load(path)
