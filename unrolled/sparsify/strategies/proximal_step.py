"""The proximal map after each step of the optimiser."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unrolled.penalties import Grouped, Penalty
from unrolled.sparsify.course import TOLERANCE
from unrolled.sparsify.machinery.capture import lowest
from unrolled.sparsify.machinery.proximal_updates import check_top_k, first_strength, order_of_death, proximal_moves
from unrolled.sparsify.selection import count_zeros
from unrolled.sparsify.sparsifier import Sparsifier


class ProximalStep(Sparsifier):
    """Proximal gradient: after each step of the optimiser, w ← prox of (step·strength)·ρ at w.

    The step is that by which the optimiser multiplies a constant gradient, for Adam's family number by number (Yun,
    Lozano, Yang, "Adaptive proximal gradient methods for structured neural networks", NeurIPS 2021); so it ends where
    loss + strength · Σ ρ(w) is stationary. Weights are exactly 0 all the time, and a layer always keeps its largest
    number or group. With TopK there is no target: k says it.
    """

    _held = 0.0  # the share of numbers that the last step did not yet let go

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        check_top_k(type(self).__name__, penalty, self.weights, self.course.target)

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        if self.course.target is not None and self.step_count == 0:
            found = first_strength(self.weights, optimizer, options, self.steps)
            self.base_strength = self.base_strength if found is None else found
        if not self.strength:
            return
        moves = list(proximal_moves(self.weights, optimizer, options, self.strength))
        wanted = self.course.wanted
        if wanted is not None:
            shrunk = [values for _, batch in moves for values in batch]
            grouped = all(isinstance(weight.penalty, Grouped) for weight in self.weights)
            if grouped or (self.course.is_last and self._zeros(shrunk) > wanted + TOLERANCE):
                self._hold_back(shrunk, order_of_death(self.weights, optimizer, options), wanted)
        for weights, batch in moves:
            self.survivors.overwrite(weights, batch)
        if wanted is not None and self.course.is_last:
            missing = wanted - self._zeros([weight.parameter for weight in self.weights])
            if missing > (0 if self.course.fine_tune else TOLERANCE):
                self._complete(optimizer, options, wanted)

    def _zeros(self, values: Sequence[Tensor]) -> float:
        """The share of zeros."""
        return count_zeros(values) / sum(weight.parameter.numel() for weight in self.weights)

    def _complete(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]], wanted: float) -> None:
        """Make zero what is missing to the target: what the smallest strengths would make zero next.

        From here on the strength has no say. Before fine-tuning that is done to the number, for at a target of .99 half
        a point more or less is half the weights; at the end of a run only if it was too short to find the strength.
        """
        order = order_of_death(self.weights, optimizer, options)
        for weight, ranking, (scores, low) in zip(
            self.weights, order, lowest(self.weights, order, wanted), strict=True
        ):
            kept = ~(low & (scores < torch.inf)).reshape(ranking.shape)
            weight.parameter.mul_(weight.spread(kept, outside=True))

    def share_by_rule(self) -> float:
        return self.sparsity() + self._held  # of what was held back the strength should not make even more

    def _hold_back(self, shrunk: Sequence[Tensor], strengths: Sequence[Tensor], wanted: float) -> None:
        """Let nothing die before its time: of what would, the last ones beyond the target stay as they are.

        Groups of one size shrink alike, and with a nonconvex penalty many would die at once and not come back. No
        strength meets a target then; the order in which they die is the penalty's. Single numbers come and go, and are
        held back only where the run ends and its strength was never found. The order is found on the CPU: with groups
        there are few numbers, and how many are held back is needed there anyway.
        """
        numbers, dead = [], []
        for weight, new, order in zip(self.weights, shrunk, strengths, strict=True):
            grouping, values = weight.grouping, weight.parameter.detach()
            if grouping is None or order.shape == values.shape:
                numbers.append(torch.ones(values.numel(), dtype=torch.float64))
                dead.append((new == 0).flatten().cpu())
                continue
            size = torch.as_tensor(grouping.size(values.shape), dtype=torch.float64, device=values.device)
            numbers.append(size.expand(grouping.shape(values.shape)).flatten().cpu())
            dead.append((grouping.norm(new) == 0).flatten().cpu())
        size, dies = torch.cat(numbers), torch.cat(dead)
        rank = torch.where(dies, torch.cat([part.flatten().double().cpu() for part in strengths]), torch.inf).argsort()
        before = size[rank].cumsum(0) - size[rank] / 2
        early = torch.zeros_like(dies)
        early[rank] = before > wanted * sum(weight.parameter.numel() for weight in self.weights)
        self._held = float(size[early & dies].sum() / size.sum())
        if not self._held:
            return
        parts = (early & dies).split([len(part) for part in dead])
        for weight, new, order, held in zip(self.weights, shrunk, strengths, parts, strict=True):
            values = weight.parameter.detach()
            mask = weight.spread(held.to(values.device).reshape(order.shape), outside=False)
            new.copy_(torch.where(mask, values, new))
