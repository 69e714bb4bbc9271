"""Adaptive dropout of weights."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from unrolled.penalties import Penalty, adaptive_dropout_mask
from unrolled.sparsify.machinery.dropout_rule import KeepProbability
from unrolled.sparsify.machinery.hooks import WeightHooks
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier


class AdaptiveDropout(Sparsifier):
    """The dropout that a penalty amounts to: in training each weight is multiplied by noise of mean 1 and variance
    strength/η̂(w).

    On a least-squares problem with columns of unit norm, ½‖Xw − y‖² with such noise is in expectation that problem plus
    (strength/2)·Σ w²/η̂, whose gradient is that of strength·Σ ρ(w) (LeJeune, Javadi, Baraniuk, "The Flip Side of the
    Reweighted Coin", NeurIPS 2021). With any other loss it is weighted by the curvature of the loss: a strength that
    suits a penalty in a mean loss is too small here, for there the curvature is much below 1.

    In evaluation mode the weights are as they are: the mean of the noisy ones. A weight counts as zero where its keep
    probability α = η̂/(η̂ + strength) < cutoff; with a target, the weights of lowest η̂ are taken out on the way. With a
    penalty on groups, α belongs to the group; the noise of the weights in it is independent.

    Nothing is added to the loss. Masks come from torch's global generator (see `WeightHooks`).

    Parameters
    ----------
    model, penalty, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`.
    noise : "bernoulli" or "gaussian"
        1/α with probability α, else 0; or normal.
    cutoff : float in (0, 1)
    """

    needs_zeros = False
    acts_in_forward = True
    captures = True

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        noise: Literal["bernoulli", "gaussian"] = "bernoulli",
        cutoff: float = 0.05,
        **options: Any,
    ):
        super().__init__(model, penalty, strength, **options)
        if noise not in ("bernoulli", "gaussian"):
            raise ValueError(f"AdaptiveDropout: noise must be 'bernoulli' or 'gaussian', got {noise!r}")
        self.noise = noise
        self.rule = KeepProbability("AdaptiveDropout", cutoff)

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        self.rule.check(penalty, self.weights, None if self.course.target is not None else self.base_strength)

    def initial_strength(self) -> float:
        return 1e-2

    def attach(self) -> None:
        self.hooks = WeightHooks(self.model, self.weights, self.replaced)

    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """What is used instead of the values of a weight; nothing else in evaluation mode, without a generator."""
        if generator is None or self.strength == 0:
            return None
        return values * adaptive_dropout_mask(weight.penalty, values.detach(), self.strength, self.noise, generator)

    def zeroed(self, weight: Weight) -> Tensor:
        return self.rule.cut(weight, weight.eta, self.strength)
