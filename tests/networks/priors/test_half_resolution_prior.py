"""Residual blocks at half resolution: the laws, and the equation written out by itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.networks.priors.laws import PriorLaws
from tests.networks.proximal_gradient import soft
from unrolled.networks import HalfResolutionPrior
from unrolled.penalties import L1, MCP


class TestHalfResolutionPrior(PriorLaws):
    prior_class = HalfResolutionPrior
    cases = {
        "rectified": lambda **options: HalfResolutionPrior(6, **options),
        "a mixture, one block": lambda **options: HalfResolutionPrior(
            5, 1, [L1(), MCP(1.0, 2.0)], learn_penalty=True, threshold=0.05, **options
        ),
    }


def quarters(z):
    """Four maps of every map: of the pixels above on the left, above on the right, below on the left, below."""
    parts = [z[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return torch.stack(parts, dim=2).flatten(1, 2)


@pytest.mark.parametrize("penalty", [None, L1()])
@pytest.mark.parametrize("size", [(8, 6), (7, 6), (5, 9)])
def test_it_is_its_equation(penalty, size):
    torch.manual_seed(0)
    prior = HalfResolutionPrior(6, 2, penalty, threshold=0.1, channels=3).double()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    z = torch.rand(2, 3, *size, dtype=torch.float64)
    even = torch.from_numpy(np.pad(z.numpy(), [(0, 0), (0, 0), (0, size[0] % 2), (0, size[1] % 2)], mode="edge"))
    v = F.conv2d(quarters(even), prior.first.weight, prior.first.bias, padding=1)
    for block in prior.blocks:
        inner = F.conv2d(v, block.first.weight, block.first.bias, padding=1)
        inner = F.relu(inner) if penalty is None else soft(inner, block.shrinkage.threshold.view(-1, 1, 1))
        v = v + F.conv2d(inner, block.second.weight, block.second.bias, padding=1)
    change = F.conv2d(v, prior.last.weight, prior.last.bias, padding=1)
    torch.testing.assert_close(
        quarters((prior(z) - z)[..., : size[0] // 2 * 2, : size[1] // 2 * 2]),
        change[..., : size[0] // 2, : size[1] // 2],
    )
    # And where a row or a column was added, of what it was added to.
    changed = prior(z) - z
    torch.testing.assert_close(changed[:, :, -1, 0], change[:, (2 * (1 - size[0] % 2)) :: 4, -1, 0])


def test_a_condition_scales_blocks_and_thresholds():
    torch.manual_seed(0)
    prior = HalfResolutionPrior(4, 2, L1(), threshold=0.1, ranges=[(0.01, 0.2)]).double()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    z, told = torch.rand(1, 1, 6, 8, dtype=torch.float64), torch.tensor([[0.15]], dtype=torch.float64)
    whole, *blocks, thresholds = prior.factors(told)[0]
    assert len(blocks) == 2
    v = F.conv2d(quarters(z), prior.first.weight, prior.first.bias, padding=1)
    for factor, block in zip(blocks, prior.blocks, strict=True):
        inner = F.conv2d(v, block.first.weight, block.first.bias, padding=1)
        inner = soft(inner, thresholds * block.shrinkage.threshold.view(-1, 1, 1))
        v = v + factor * F.conv2d(inner, block.second.weight, block.second.bias, padding=1)
    change = whole * F.conv2d(v, prior.last.weight, prior.last.bias, padding=1)
    torch.testing.assert_close(quarters(prior(z, told) - z), change)


def test_its_size():
    # 4·64·9 and 64·4·9 weights to and from 64 maps, four times 64·64·9 between, and biases.
    assert sum(parameter.numel() for parameter in HalfResolutionPrior().parameters()) == 2 * 2304 + 4 * 36_864 + 324


@pytest.mark.parametrize("key", ["features", "blocks"])
def test_bad_arguments_are_refused_by_name(key):
    with pytest.raises(ValueError, match=f"HalfResolutionPrior: {key} must be a whole number"):
        HalfResolutionPrior(**{key: 0})
