"""Combined group and exclusive sparsity, against optimality and closed forms."""

import pytest
import torch
from torch import nn

from tests.sparsify.strategies.images import network, train
from unrolled.penalties import Each, InputChannels
from unrolled.sparsify import CGES, PricedGroups
from unrolled.sparsify.strategies.cges import group_exclusive_prox


def objective(z, v, a, b):
    return (z - v).square().sum(-1) / 2 + a * z.norm(dim=-1) + b / 2 * z.abs().sum(-1).square()


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.3), (0.4, 0.0), (0.4, 0.3), (0.1, 5.0), (2.0, 0.05)])
def test_the_proximal_map_is_the_minimiser(a, b):
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(40, 7, generator=generator, dtype=torch.float64)
    z = group_exclusive_prox(v, Each(0), a, b)
    # a strictly convex objective, whose optimality can be checked: 0 is in v − z ∈ a∂‖z‖ + b‖z‖₁∂‖z‖₁
    for row, point in zip(v, z, strict=True):
        total, norm = point.abs().sum(), point.norm()
        if norm == 0:
            # some u with |u| ≤ 1 has v = a·u, as the square has no slope at 0
            assert row.norm() <= a + 1e-12
            continue
        kept = point != 0
        residual = row - point - a * point / norm
        torch.testing.assert_close(residual[kept], b * total * point[kept].sign(), atol=1e-9, rtol=0)
        assert (residual[~kept].abs() <= b * total + 1e-9).all()
    near = z + 0.01 * torch.randn(200, *z.shape, generator=generator, dtype=torch.float64)
    assert (objective(near, v, a, b) >= objective(z, v, a, b) - 1e-12).all()
    assert (z == 0).any() == (b > 0 or a > 1)


def test_exclusive_sparsity_has_its_closed_form():
    v = torch.randn(30, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    b = 0.7
    largest = v.abs().sort(descending=True).values
    sums = largest.cumsum(1) / (1 + b * torch.arange(1, 10))
    total = sums.amax(1, keepdim=True)  # of k ↦ Σ_k/(1 + bk) the largest is the one at the right k
    torch.testing.assert_close(group_exclusive_prox(v, Each(0), 0.0, b), v.sign() * (v.abs() - b * total).clamp(min=0))


def test_groups_may_lie_along_any_axis_and_numbers_be_of_any_kind():
    v = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(3))
    z = group_exclusive_prox(v, InputChannels(), 0.3, 0.2)
    rows = group_exclusive_prox(v.transpose(0, 1).reshape(5, 12), Each(0), 0.3, 0.2)
    torch.testing.assert_close(z, rows.reshape(5, 4, 3).transpose(0, 1))
    assert group_exclusive_prox(v.bfloat16(), InputChannels(), 0.3, 0.2).dtype == torch.bfloat16
    turned = group_exclusive_prox(v * 1j, InputChannels(), 0.3, 0.2)
    torch.testing.assert_close(turned, z * 1j)
    assert not group_exclusive_prox(torch.zeros(2, 3), Each(0), 0.0, 0.2).any()


def test_lower_layers_lose_groups_and_upper_ones_numbers():
    model = network()
    sparsifier = CGES(model, 0.03)
    assert sparsifier.mu == pytest.approx([1 / 3, 2 / 3, 1])
    train(model, sparsifier, 60)
    figures = sparsifier.figures()
    sparsifier.finalize()
    weights = [model[i].weight for i in (0, 3, 5)]
    assert figures["sparsity"] == pytest.approx(torch.cat([(w == 0).flatten() for w in weights]).double().mean())
    assert 0.2 < figures["sparsity"] < 0.95
    assert (model[3].weight == 0).all(0).sum() > 5
    last = model[5].weight
    assert (last == 0).any()
    assert last.any(0).all()  # exclusive sparsity leaves something of every group


def test_a_step_of_gradient_descent_is_the_proximal_gradient():
    layer = nn.Linear(6, 3, bias=False)
    before = layer.weight.detach().clone()
    sparsifier = CGES(layer, 0.5, mu=[0.25])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 6)).sum().backward()
    optimizer.step()
    sparsifier.step(optimizer)
    wanted = group_exclusive_prox(before - 0.1, InputChannels(), 0.1 * 0.5 * 0.75, 0.1 * 0.5 * 0.25)
    torch.testing.assert_close(layer.weight.detach(), wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: CGES(m, 0.1, mu=[0.5]), r"mu must be 3 numbers in \[0, 1\], one for each weight"),
        (lambda m: CGES(m, 0.1, mu=[0.5, 2.0, 0.5]), r"mu must be 3 numbers in \[0, 1\]"),
        (lambda m: CGES(m, 0.1, groups=lambda *_: None), "a grouping for every weight, got None for 0.weight"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make(network())


def test_groups_cannot_have_prices():
    with pytest.raises(ValueError, match="CGES: groups cannot have prices"):
        CGES(network(), strength=1.0, groups=PricedGroups({"0": 2.0}))
