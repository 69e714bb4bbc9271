"""That priors look exactly as far as they say, and that networks of them have tiles without seams."""

import pytest
import torch

from tests.networks.laws import pictures
from tests.networks.priors.laws import disturb
from unrolled.networks import (
    ComposedNetwork,
    FieldsOfExperts,
    HalfResolutionPrior,
    ProximalGradientPhase,
    ResidualCNN,
    SparsifyingPrior,
    SymmetricPrior,
    WindowAttentionPrior,
)
from unrolled.operators import BlockCompressedSensing
from unrolled.reconstruction.tiles import in_tiles

PRIORS = {
    "fields of experts": lambda: FieldsOfExperts(3, size=5, functions=7),
    "half resolution": lambda: HalfResolutionPrior(6),
    "residual": lambda: ResidualCNN(4, depth=3),
    "sparsifying": lambda: SparsifyingPrior(4),
    "sparsifying, nonlocal": lambda: SparsifyingPrior(4, nonlocal_window=3),
    "symmetric": lambda: SymmetricPrior(4),
    "windows of an odd side": lambda: WindowAttentionPrior(4, 3, heads=2, window=3),
    "windows": lambda: WindowAttentionPrior(4, 4, heads=2, window=4),
}


def made(name):
    torch.manual_seed(0)
    prior = PRIORS[name]().double()
    disturb(prior, strength=0.3)
    return prior


@pytest.mark.parametrize("name", PRIORS)
def test_some_pixel_is_seen_from_as_far_as_the_prior_says(name):
    prior = made(name)
    align = prior.alignment
    first = (-(-prior.reach // align) + 1) * align
    side = 2 * first + align
    z = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    image, distances = prior(z), []
    for place in range(first, first + align):
        (seen,) = torch.autograd.grad(image[0, 0, place, place], z, retain_graph=True)
        rows = (seen[0, 0] != 0).any(1).nonzero()
        distances += [place - int(rows.min()), int(rows.max()) - place]
    assert max(distances) == prior.reach


@pytest.mark.parametrize("name", PRIORS)
def test_tiles_give_the_image_of_the_whole(name):
    prior = made(name)
    network = ComposedNetwork(ProximalGradientPhase(prior), 2).double()
    disturb(network)
    operator = BlockCompressedSensing(measurements=36, block=12).double()
    y = operator(pictures(24, 60)[:1].double())
    with torch.no_grad():
        expected = network(y, operator)
    torch.testing.assert_close(in_tiles(y, network, operator, 12), expected, atol=1e-9, rtol=1e-9)
