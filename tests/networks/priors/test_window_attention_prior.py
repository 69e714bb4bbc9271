"""Attention in windows: the laws, and the equation as one dense attention of all pixels."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.priors.laws import PriorLaws
from unrolled.networks import WindowAttentionPrior


class TestWindowAttentionPrior(PriorLaws):
    prior_class = WindowAttentionPrior
    cases = {
        "shifted": lambda **options: WindowAttentionPrior(8, 2, heads=2, window=4, **options),
        "one block, odd windows": lambda **options: WindowAttentionPrior(6, 1, heads=3, window=3, **options),
    }


def by_the_equation(prior, z, factors=(1.0, 1.0, 1.0)):
    """Every pixel looks at all others, and the score of those in other windows is −∞."""
    height, width = z.shape[2:]
    whole, *blocks = factors
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    v = F.conv2d(z, prior.first.weight, prior.first.bias, padding=1)
    v = v.flatten(2).transpose(1, 2)  # (batch, pixels, features)
    for index, (factor, block) in enumerate(zip(blocks, prior.blocks, strict=True)):
        side, heads = block.window, block.heads
        shift = side // 2 if index % 2 else 0
        normal = F.layer_norm(v, v.shape[-1:], block.norm.weight, block.norm.bias)
        query, key, value = F.linear(normal, block.query_key_value.weight, block.query_key_value.bias).chunk(3, dim=-1)
        across, down = rows[:, None] - rows, columns[:, None] - columns
        same = (((rows + shift) // side)[:, None] == (rows + shift) // side) & (
            ((columns + shift) // side)[:, None] == (columns + shift) // side
        )
        table = block.bias.view(heads, 2 * side - 1, 2 * side - 1)
        found = []
        for head in range(heads):
            own = slice(head * query.shape[-1] // heads, (head + 1) * query.shape[-1] // heads)
            scores = query[..., own] @ key[..., own].transpose(1, 2) / (query.shape[-1] / heads) ** 0.5
            limit = side - 1  # of differences within a window; others do not count
            bias = table[head][across.clamp(-limit, limit) + limit, down.clamp(-limit, limit) + limit]
            scores = torch.where(same, scores + bias, -torch.inf)
            found.append(scores.softmax(-1) @ value[..., own])
        v = v + factor * F.linear(torch.cat(found, dim=-1), block.combine.weight, block.combine.bias)
        normal = F.layer_norm(v, v.shape[-1:], block.second_norm.weight, block.second_norm.bias)
        inner = F.gelu(F.linear(normal, block.expand.weight, block.expand.bias))
        v = v + factor * F.linear(inner, block.reduce.weight, block.reduce.bias)
    maps = v.transpose(1, 2).unflatten(2, (height, width))
    return z + whole * F.conv2d(maps, prior.last.weight, prior.last.bias, padding=1)


@pytest.mark.parametrize("size", [(8, 12), (9, 11), (2, 3)])
def test_it_is_its_equation(size):
    prior, _ = TestWindowAttentionPrior().make("shifted", "colours together")
    z = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(prior.double()(z), by_the_equation(prior, z))


def test_a_condition_scales_what_blocks_add():
    prior, z = TestWindowAttentionPrior().make("shifted", ranges=[(0.01, 0.2)])
    prior, z, told = prior.double(), z[:1].double(), torch.tensor([[0.15]], dtype=torch.float64)
    torch.testing.assert_close(prior(z, told), by_the_equation(prior, z, prior.factors(told)[0]))


@pytest.mark.parametrize(("blocks", "reach"), [(1, 1 + 7 + 1), (2, 1 + 11 + 1), (4, 1 + 19 + 1)])
def test_how_far_it_looks(blocks, reach):
    # Windows of 8 pixels, and every further block half of one farther.
    assert WindowAttentionPrior(4, blocks, heads=2).reach == reach


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 6}, "features must be a multiple of 4 heads, got 6"),
        ({"heads": 0}, "heads must be a whole number"),
        ({"window": 0}, "window must be a whole number"),
        ({"expansion": 0}, "expansion must be a whole number"),
        ({"blocks": 0}, "blocks must be a whole number"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=f"WindowAttentionPrior: {message}"):
        WindowAttentionPrior(**options)
