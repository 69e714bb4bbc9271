"""A decoder as language models have it ends within seconds: what is known goes, and what is not is told."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unrolled.sparsify import compaction

WIDTH, HEADS, SHARED, HIDDEN, WORDS = 32, 4, 2, 64, 50
EACH = WIDTH // HEADS


def rotated(x, cos, sin, halves):
    """Rotary embedding of x, (batch, head, time, EACH), its halves cut in one of several ways."""
    a, b = halves(x)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


HALVES = {
    "slices": lambda x: (x[..., : EACH // 2], x[..., EACH // 2 :]),
    "chunk": lambda x: x.chunk(2, -1),
}
REPEATS = {
    "expand": lambda x: x[:, :, None].expand(-1, -1, HEADS // SHARED, -1, -1).reshape(len(x), HEADS, x.shape[2], EACH),
    "interleave": lambda x: x.repeat_interleave(HEADS // SHARED, 1),
}


class Attention(nn.Module):
    """Of grouped queries, causal."""

    def __init__(self, halves, repeat):
        super().__init__()
        self.q, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(WIDTH, SHARED * EACH, bias=False) for _ in range(2))
        self.halves, self.repeat = halves, repeat

    def forward(self, x, cos, sin):
        q, k, v = (layer(x).view(*x.shape[:2], -1, EACH).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = (rotated(u, cos, sin, self.halves) for u in (q, k))
        x = F.scaled_dot_product_attention(q, self.repeat(k), self.repeat(v), is_causal=True)
        return self.o(x.transpose(1, 2).flatten(2))


class Root(nn.Module):
    """The norm by the root of the mean of squares, written out."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return self.scale * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    def __init__(self, halves, repeat):
        super().__init__()
        self.before, self.between, self.attention = Root(), Root(), Attention(halves, repeat)
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.before(x), cos, sin)
        z = self.between(x)
        return x + self.down(F.silu(self.gate(z)) * self.up(z))


class Decoder(nn.Module):
    def __init__(self, halves="slices", repeat="expand", depth=2):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(Block(HALVES[halves], REPEATS[repeat]) for _ in range(depth))
        self.end, self.head = Root(), nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words):
        rates = 10_000 ** (-torch.arange(0, EACH, 2) / EACH)
        angles = torch.outer(torch.arange(words.shape[1]), rates).repeat(1, 2)
        x = self.words(words)
        for block in self.blocks:
            x = block(x, angles.cos().to(x), angles.sin().to(x))
        return self.head(self.end(x))


@pytest.mark.parametrize(("halves", "repeat"), [("slices", "expand"), ("chunk", "interleave")])
def test_hidden_units_go_heads_stay_and_the_outputs_are_the_same(halves, repeat):
    model, words = Decoder(halves, repeat), torch.arange(8)[None]
    dead = model.blocks[0]
    with torch.no_grad():
        for weight in (dead.gate.weight, dead.up.weight):
            weight[: HIDDEN // 2] = 0
        dead.attention.q.weight[:4] = 0
        wanted = model(words)
    begun = time.process_time()
    found = compaction(model, words)
    assert time.process_time() - begun < 10
    gone = list(range(HIDDEN // 2))
    assert found.removed == {"blocks.0.gate": gone, "blocks.0.up": gone}
    assert set(found.kept) == {"blocks.0.attention.q"}
    assert list(found.kept["blocks.0.attention.q"]) == [0, 1, 2, 3]
    assert all(reason.startswith("it is coupled") for reason in found.kept["blocks.0.attention.q"].values())
    torch.testing.assert_close(found.model(words), wanted, rtol=1e-5, atol=1e-5)


class Growing(nn.Module):
    """Of its own output it takes the upper half, again and again."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.first(x)
        for _ in range(3):
            x = x + torch.cat((x[..., 4:], x[..., :4]), dim=-1)
        return self.last(x)


def test_halves_that_change_places_are_kept_or_verified():
    model = Growing()
    with torch.no_grad():
        model.first.weight[1] = model.first.bias[1] = 0
    x = torch.randn(3, 2, 4)
    found = compaction(model, x)
    torch.testing.assert_close(found.model(x), model(x))
    assert 1 in found.removed.get("first", []) or 1 in found.kept["first"]
