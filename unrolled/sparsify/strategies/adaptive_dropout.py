"""Adaptive dropout of weights."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from unrolled.penalties import Penalty, adaptive_dropout_mask
from unrolled.sparsify.groups import Groups
from unrolled.sparsify.machinery.hooks import WeightHooks
from unrolled.sparsify.schedules import Schedule
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.sparsify.strategies.by_keep_probability import ByKeepProbability


class WhileRunning(Sparsifier):
    """Strategies that replace weights while the model runs; see `WeightHooks`."""

    acts_in_forward = True

    @abstractmethod
    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """What is used instead of the values of a weight; without a generator, in evaluation mode."""

    def attach(self) -> None:
        super().attach()
        self.hooks = self.hooked()

    def hooked(self) -> WeightHooks:
        """The hooks that do it."""
        return WeightHooks(self.model, self.weights, self.replaced)

    def detach(self) -> None:
        self.hooks.remove()

    def loss_now(self) -> Tensor:
        self.hooks.clear()
        return super().loss_now()

    @contextmanager
    def _silent(self) -> Iterator[None]:
        enabled, self.hooks.enabled = self.hooks.enabled, False
        try:
            yield
        finally:
            self.hooks.enabled = enabled


class AdaptiveDropout(WhileRunning, ByKeepProbability):
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

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        noise: Literal["bernoulli", "gaussian"] = "bernoulli",
        cutoff: float = 0.05,
        target: float | None = None,
        groups: Groups | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float = 0.0,
        steps: int | None = None,
    ):
        if noise not in ("bernoulli", "gaussian"):
            raise ValueError(f"AdaptiveDropout: noise must be 'bernoulli' or 'gaussian', got {noise!r}")
        self.noise = noise
        super().__init__(
            model,
            penalty,
            strength,
            cutoff=cutoff,
            target=target,
            groups=groups,
            include=include,
            exclude=exclude,
            schedule=schedule,
            fine_tune=fine_tune,
            steps=steps,
        )

    def initial_strength(self) -> float:
        return 1e-2

    def replaced(self, weight: Weight, values: Tensor, generator: torch.Generator | None) -> Tensor | None:
        if generator is None or self.strength == 0:
            return None
        assert weight.penalty is not None
        return values * adaptive_dropout_mask(weight.penalty, values.detach(), self.strength, self.noise, generator)
