"""Targets that are met by taking out of the training, little by little, what a strategy ranks lowest."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from unrolled.penalties import L1MinusL2
from unrolled.sparsify.course import Course
from unrolled.sparsify.machinery.survivors import Survivors, answers
from unrolled.sparsify.selection import Weight


class Capture:
    """Sets to 0 the numbers or groups of lowest rank, ever more of them, and keeps them there.

    It is for strategies whose own rule for zeros does not set the weights themselves to 0. With a strength, the rule
    alone says what is 0, and nothing is captured. With a target, the numbers or groups of lowest rank are captured
    while the trajectory of the target rises, as gradual pruning does by magnitude: they are set to 0 and stay so, have
    neither noise nor gates and no part in the loss. So the share of zeros is at every step what it shall be, the rest
    has the remainder of the run to adapt, and nothing is left to be cut at the end. What the rule would call 0 beyond
    that is not counted.

    The strength stays what it is at first, unless a strategy says otherwise: it shapes the ranking, and how soon the
    rule calls 0 what will be captured; how many are 0 it does not decide. A weight keeps at least one number or group.

    Parameters
    ----------
    weights : sequence of Weight
        their `extra["kept"]` is False for what was captured: one for each number or group.
    course : Course
    survivors : Survivors
        which warns when a weight is left with its last number or group.
    scope : "global" or "layer"
        whether all weights are compared, or each weight gets the same share of zeros.
    every : int, optional
        steps between two captures, by default a hundred captures a run.
    """

    def __init__(
        self,
        weights: Sequence[Weight],
        course: Course,
        survivors: Survivors,
        scope: Literal["global", "layer"] = "global",
        every: int | None = None,
    ):
        self.weights, self.course, self.survivors = weights, course, survivors
        self.scope, self.every = scope, every

    def act(self, ranking: Callable[[Weight], Tensor]) -> None:
        """Once more set to 0 what was captured, and capture more if it is time; to be called at every step.

        Parameters
        ----------
        ranking : function
            what is lowest is captured first, of equals the smaller in magnitude: of the shape of the weight, or with
            one number for each of its groups.
        """
        if self.course.target is None:
            return
        assert self.course.steps is not None
        self._hold()
        every = self.every or max(1, self.course.steps // 100)
        if self.course.step_count % every == 0 or self.course.is_last:
            self._capture([ranking(weight) for weight in self.weights])

    def _hold(self) -> None:
        for weight in self.weights:
            kept = kept_entries(weight)
            if kept is not None:
                weight.parameter.mul_(kept)

    def _capture(self, rankings: Sequence[Tensor]) -> None:
        wanted = self.course.wanted
        assert wanted is not None
        pairs = lowest(self.weights, rankings, wanted, self.scope)
        gone = [zero & (scores < torch.inf) for scores, zero in pairs]
        for weight, ranking, zero in zip(self.weights, rankings, gone, strict=True):
            weight.extra["kept"] = ~zero.reshape(ranking.shape)
        self._warn(rankings, pairs, gone)
        self._hold()

    def _warn(self, rankings: Sequence[Tensor], pairs: Sequence[tuple[Tensor, Tensor]], gone: Sequence[Tensor]) -> None:
        """Warn of weights whose last number or group would have gone too, had it not been the last."""
        device = gone[0].device
        captured = [torch.where(zero, scores, -torch.inf).max() for (scores, _), zero in zip(pairs, gone, strict=True)]
        level = torch.stack([score.to(device) for score in captured]).max()
        emptied = []
        for ranking, (_, low), zero in zip(rankings, pairs, gone, strict=True):
            due = low.all()
            if self.scope == "global":
                due = due | (ranking.max() < level.to(ranking.device))
            emptied.append((zero.sum() == len(zero) - 1) & due)
        for weight, empty in zip(self.weights, answers(emptied), strict=True):
            if empty:
                self.survivors.warn(weight)


def kept_entries(weight: Weight) -> Tensor | None:
    """False where numbers were captured, of the shape of the weight; None if none were."""
    kept = weight.extra.get("kept")
    return kept if kept is None else weight.spread(kept, outside=True)


def lowest(
    weights: Sequence[Weight],
    rankings: Sequence[Tensor],
    share: float,
    scope: Literal["global", "layer"] = "global",
) -> list[tuple[Tensor, Tensor]]:
    """Of each weight what its numbers or groups are compared by, flat, and which of them make the share of zeros.

    What must stay is compared by ∞, also where it would have to be among the zeros.
    """
    units = [_units(weight, ranking) for weight, ranking in zip(weights, rankings, strict=True)]
    if scope == "layer":
        zeros = [_lowest(*unit, share) for unit in units]
    else:
        device = units[0][0].device
        scores, magnitude, sizes = (
            torch.cat([part.to(device) for part in parts]) for parts in zip(*units, strict=True)
        )
        zeros = list(_lowest(scores, magnitude, sizes, share).split([len(unit[0]) for unit in units]))
    return [(unit[0], zero.to(unit[0].device)) for unit, zero in zip(units, zeros, strict=True)]


def magnitudes(weight: Weight) -> Tensor:
    """Of each number or group: of a group the root of the mean of squares, so that groups of other sizes compare."""
    grouping, values = weight.grouping, weight.parameter.detach()
    return values.abs() if grouping is None else grouping.norm(values) / _group_sizes(weight).sqrt()


def largest_unit(weight: Weight) -> float:
    """How many numbers of a weight stand and fall together, at most."""
    single = weight.grouping is None or isinstance(weight.penalty, L1MinusL2)
    return 1.0 if single else float(_group_sizes(weight).max())


def _group_sizes(weight: Weight) -> Tensor:
    grouping = weight.grouping
    assert grouping is not None
    shape = weight.parameter.shape
    size = torch.as_tensor(grouping.size(shape), dtype=torch.float32, device=weight.parameter.device)
    return size.expand(grouping.shape(shape))


def _units(weight: Weight, ranking: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the numbers or groups of a weight, flat: what they are ranked by, their magnitudes, and of how many numbers.

    What was captured comes first, and the best is ∞, for it stays.
    """
    single = ranking.shape == weight.parameter.shape
    magnitude = (weight.parameter.detach().abs() if single else magnitudes(weight)).float().flatten()
    size = torch.ones_like(magnitude) if single else _group_sizes(weight).flatten()
    scores = ranking.detach().float().clamp(max=torch.finfo(torch.float32).max).flatten()
    if "kept" in weight.extra:
        scores = scores.masked_fill(~weight.extra["kept"].flatten(), -torch.inf)
    best = torch.where(scores == scores.max(), magnitude, -1.0).argmax()
    return scores.index_fill(0, best, torch.inf), magnitude, size


def _lowest(scores: Tensor, magnitude: Tensor, sizes: Tensor, share: float) -> Tensor:
    """Which numbers or groups should become zero: the lowest, so many that their share is as close as can be."""
    order = magnitude.argsort(stable=True)
    order = order[scores[order].argsort(stable=True)]
    sizes = sizes[order].double()
    # a group belongs to it if the middle of what it covers is below the share
    below = sizes.cumsum(0) - sizes / 2 < share * sizes.sum()
    zero = torch.zeros_like(below)
    zero[order] = below
    return zero
