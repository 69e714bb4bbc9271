"""Weights count as zero where the dropout that a penalty amounts to would hardly ever keep them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unrolled.penalties import L0, Penalty, Ridge, TopK
from unrolled.sparsify.groups import innermost
from unrolled.sparsify.machinery.arguments import between
from unrolled.sparsify.selection import Weight


class KeepProbability:
    """The rule of LeJeune et al. (2021): the keep probability is α = η/(η + strength), and a weight is 0 where
    α < cutoff.

    Parameters
    ----------
    owner : str
        the strategy, named in errors.
    cutoff : float in (0, 1)

    Raises
    ------
    ValueError
        if the cutoff is not in (0, 1).
    """

    def __init__(self, owner: str, cutoff: float):
        self.owner, self.cutoff = owner, between(owner, "cutoff", cutoff)

    def check(self, penalty: Penalty, weights: Sequence[Weight], strength: float | None) -> None:
        """Refuse penalties by which the rule tells no weights apart.

        Parameters
        ----------
        penalty : Penalty
        weights : sequence of Weight
        strength : float or None
            None with a target, where the ranking decides.

        Raises
        ------
        ValueError
            if the penalty reweights nothing (L0, TopK), weighs all alike (Ridge), or keeps 0 too often for the cutoff.
        """
        inner = innermost(penalty)
        if isinstance(inner, (L0, TopK)):
            raise ValueError(
                f"{self.owner}: {penalty!r} is flat but for a jump, nothing can be reweighted; LogSum, MCP … can"
            )
        if isinstance(inner, Ridge):
            raise ValueError(
                f"{self.owner}: {penalty!r} treats all weights alike, none becomes 0; L1, LogSum, MCP … do that"
            )
        for weight in weights if strength is not None else []:
            least = float(weight.penalty.eta(torch.zeros_like(weight.parameter)).min())
            if keep_probability(torch.tensor(least), strength or 0.0) >= self.cutoff:
                raise ValueError(
                    f"{self.owner}: with {penalty!r} nothing would become 0 at strength {strength!r}, "
                    f"but only beyond {least * (1 / self.cutoff - 1):.3g}"
                )

    def cut(self, weight: Weight, eta: Tensor, strength: float) -> Tensor:
        """The values of a weight, 0 where the rule says so.

        Parameters
        ----------
        weight : Weight
        eta : Tensor
            one number for each entry or group of the weight.
        strength : float
        """
        return cut(weight.parameter.detach(), keep_probability(weight.spread(eta), strength), self.cutoff)


def keep_probability(eta: Tensor, strength: Tensor | float) -> Tensor:
    """α = η/(η + strength), and 1 where the strength is 0."""
    return torch.where(torch.as_tensor(strength, device=eta.device) == 0, 1.0, 1 / (1 + strength / eta))


def cut(values: Tensor, keep: Tensor, cutoff: float) -> Tensor:
    """The values, 0 where the keep probability is below the cutoff."""
    return torch.where(keep < cutoff, 0, values)  # NaN stays
