"""Groupings with their groups written out by hand, a brute-force search, and the laws as functions of a penalty."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from unrolled.penalties import (
    Along,
    Blocks,
    Each,
    FeatureMaps,
    Filters,
    Grouped,
    Grouping,
    IndexSets,
    InputChannels,
    Penalty,
    Pixels,
    Whole,
)
from unrolled.sparsify import AttentionHeads


def _case(grouping: Grouping, shape: tuple[int, ...], pick: Callable) -> tuple:
    index = np.arange(np.prod(shape)).reshape(shape)
    return grouping, shape, [torch.as_tensor(np.ascontiguousarray(group).ravel()) for group in pick(index)]


# name: grouping, shape of a tensor, indices of each group's entries in the flattened tensor, in the order of groups
GROUPINGS = {
    "whole": _case(Whole(), (2, 3), lambda i: [i]),
    "each": _case(Each((-1, 0)), (2, 3, 2), lambda i: [i[a, :, c] for a in range(2) for c in range(2)]),
    "along": _case(Along((0, 2)), (2, 3, 2), lambda i: [i[:, b] for b in range(3)]),
    "filters": _case(Filters(), (3, 2, 2, 1), lambda i: [i[a] for a in range(3)]),
    "input channels": _case(InputChannels(), (2, 3), lambda i: [i[:, b] for b in range(3)]),
    "feature maps": _case(FeatureMaps(), (2, 2, 2, 2), lambda i: [i[a, b] for a in range(2) for b in range(2)]),
    "pixels": _case(Pixels(), (1, 3, 2, 2), lambda i: [i[0, :, a, b] for a in range(2) for b in range(2)]),
    "blocks": _case(
        Blocks((2, 3)),
        (2, 4, 3),
        lambda i: [i[a, b : b + 2] for a in range(2) for b in (0, 2)],
    ),
    "heads": _case(
        AttentionHeads(2, stacked=3), (12, 2), lambda i: [i[[a, a + 1, a + 4, a + 5, a + 8, a + 9]] for a in (0, 2)]
    ),
    "heads of the outcome": _case(
        AttentionHeads(3, output=True), (2, 6), lambda i: [i[:, a : a + 2] for a in (0, 2, 4)]
    ),
    "sets": _case(IndexSets([[4, 0], [2], [1, 3, 7]]), (2, 4), lambda i: [i.flat[[4, 0]], i[0, 2], i.flat[[1, 3, 7]]]),
    "sets of an axis": _case(IndexSets([[0], [3, 1]], axis=-1), (2, 4), lambda i: [i[:, 0], i[:, [3, 1]]]),
}


def brute_force(objective: Callable[[Tensor], Tensor], v: Tensor, points: int = 0, rounds: int = 7) -> float:
    """The lowest value of an objective of (candidates, n), on grids of all n numbers that narrow around the best.

    Every coordinate of a candidate is on a grid, or 0, or that of v; so 0 and v are among them.
    """
    points = points or {1: 501, 2: 101, 3: 25}[len(v)]
    reach = 1.3 * v.abs().max().clamp(min=1e-3)
    low, high, best = -reach.expand(len(v)), reach.expand(len(v)), float("inf")
    for _ in range(rounds):
        grids = [torch.linspace(float(a), float(b), points) for a, b in zip(low, high, strict=True)]
        axes = [torch.cat([grid.double(), torch.zeros(1), x[None]]) for grid, x in zip(grids, v, strict=True)]
        candidates = torch.cartesian_prod(*axes).reshape(-1, len(v))
        values = objective(candidates)
        at = int(values.argmin())
        best = min(best, float(values[at]))
        width = (high - low) / points * 2
        low, high = candidates[at] - width, candidates[at] + width
        points = min(points, 15)
    return best


def objective_of(value: Callable[[Tensor], Tensor], v: Tensor, step: float) -> Callable[[Tensor], Tensor]:
    return lambda z: 0.5 * (z - v).square().sum(1) + step * value(z)


# What the penalties of these tests are, written out for rows of numbers.


def group_value(penalty: Penalty, weight: float) -> Callable[[Tensor], Tensor]:
    return lambda z: weight * penalty.value(z.square().sum(1).sqrt())


def l1_minus_l2_value(alpha: float) -> Callable[[Tensor], Tensor]:
    return lambda z: z.abs().sum(1) - alpha * z.square().sum(1).sqrt()


def sparse_group_value(inner: Penalty, outer: Penalty, weight: float, alpha: float) -> Callable[[Tensor], Tensor]:
    return lambda z: alpha * inner.value(z).sum(1) + (1 - alpha) * weight * outer.value(z.square().sum(1).sqrt())


# Laws


def prox_is_the_global_minimiser(prox: Callable, value: Callable, v: Tensor, step: float, tolerance: float = 1e-9):
    """No candidate of a brute-force search over one group is better than what `prox(v, step)` gives."""
    z = prox(v, step)
    assert z.shape == v.shape
    objective = objective_of(value, v, step)
    reached = float(objective(z[None])[0])
    assert reached <= brute_force(objective, v) + tolerance * max(1.0, float(v.square().sum()))


def prox_is_that_of_the_norms(penalty: Grouped, shape: tuple, groups: list[Tensor], v: Tensor, step: float):
    """Group by group prox_{scρ}(‖v‖)·v/‖v‖ with c = √size, and nothing happens elsewhere."""
    expected = v.flatten().clone()
    for group in groups:
        norm = v.flatten()[group].abs().square().sum().sqrt()
        expected[group] *= penalty.penalty.prox(norm, step * len(group) ** 0.5) / norm
    torch.testing.assert_close(penalty.prox(v, step), expected.reshape(shape))


def keeps_the_first_of_the_largest(prox: Callable):
    """Of l1 − l2: between its two thresholds one number is left, and its sign does not matter."""
    for v, at in (([0.3, -0.8], 1), ([-0.9, 0.5], 0), ([-0.7, 0.7, 0.7], 0), ([0.1, 0.7, -0.7], 1)):
        z = prox(torch.tensor(v).double(), 1.0)
        assert z.nonzero().flatten().tolist() == [at]
