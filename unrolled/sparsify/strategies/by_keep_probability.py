"""Strategies whose zeros are weights of low keep probability."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.penalties import L0, Grouped, Penalty, Ridge, TopK
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.sparsify.strategies.capturing import Capturing


class ByKeepProbability(Capturing):
    """Strategies for which a weight is 0 if the dropout that its penalty amounts to would hardly ever keep it.

    That is the rule of LeJeune et al. (2021): the keep probability is α = η/(η + strength), and a weight counts as zero
    where α < cutoff. With a target the weights of lowest η are captured, see `Capturing`.

    Parameters
    ----------
    model, penalty, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`.
    cutoff : float in (0, 1)

    Raises
    ------
    ValueError
        if the penalty reweights nothing (L0, TopK), weighs all alike (Ridge), or keeps 0 too often for the cutoff.
    """

    needs_zeros = False

    @abstractmethod
    def __init__(
        self, model: nn.Module, penalty: Penalty, strength: float | None = None, *, cutoff: float = 0.05, **options: Any
    ):
        self.cutoff = between("cutoff", self, cutoff)
        self._given = strength
        super().__init__(model, penalty, strength, **options)

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        name, inner = type(self).__name__, innermost(penalty)
        if isinstance(inner, (L0, TopK)):
            raise ValueError(
                f"{name}: {penalty!r} is flat but for a jump, nothing can be reweighted; LogSum, MCP … can"
            )
        if isinstance(inner, Ridge):
            raise ValueError(f"{name}: {penalty!r} treats all weights alike, none becomes 0; L1, LogSum, MCP … do that")
        for weight in self.weights if self._given is not None else []:
            assert weight.penalty is not None
            least = float(weight.penalty.eta(torch.zeros_like(weight.parameter)).min())
            if keep_probability(torch.tensor(least), self._given or 0.0) >= self.cutoff:
                raise ValueError(
                    f"{name}: with {penalty!r} nothing would become 0 at strength {self._given!r}, "
                    f"but only beyond {least * (1 / self.cutoff - 1):.3g}"
                )

    def initial_strength(self) -> float:
        return 1e-4

    def eta(self, weight: Weight) -> Tensor:
        """η of each number of a weight."""
        assert weight.penalty is not None
        return entries(weight, weight.penalty.eta(weight.parameter.detach()))

    def ranking(self, weight: Weight) -> Tensor:
        assert weight.penalty is not None
        return weight.penalty.eta(weight.parameter.detach())

    def zeroed(self, weight: Weight) -> Tensor:
        return cut(weight.parameter.detach(), keep_probability(self.eta(weight), self.strength), self.cutoff)


def keep_probability(eta: Tensor, strength: Tensor | float) -> Tensor:
    """α = η/(η + strength), and 1 where the strength is 0."""
    return torch.where(torch.as_tensor(strength, device=eta.device) == 0, 1.0, 1 / (1 + strength / eta))


def cut(values: Tensor, keep: Tensor, cutoff: float) -> Tensor:
    """The values, 0 where the keep probability is below the cutoff."""
    return torch.where(keep < cutoff, 0, values)  # NaN stays


def entries(weight: Weight, numbers: Tensor, outside: float = math.inf) -> Tensor:
    """Numbers of its penalty, one for each group if it is on groups, as one for each entry of the weight."""
    if not isinstance(weight.penalty, Grouped):
        return numbers
    return weight.penalty.grouping.spread(numbers, weight.parameter.shape, outside)


def innermost(penalty: Penalty) -> Penalty:
    """The penalty of single numbers without its weights and groups."""
    while isinstance(inner := getattr(penalty, "penalty", None), Penalty):
        penalty = inner
    return penalty


def between(name: str, strategy: Sparsifier, value: float) -> float:
    """The value of an argument that must lie in (0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{type(strategy).__name__}: {name} must be > 0 and < 1, got {value!r}")
    return value
