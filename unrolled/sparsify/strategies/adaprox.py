"""AdaProx."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from unrolled.penalties import Penalty
from unrolled.sparsify.groups import Groups
from unrolled.sparsify.machinery.optimizer_metric import step_of
from unrolled.sparsify.schedules import Schedule
from unrolled.sparsify.strategies.by_keep_probability import ByKeepProbability, keep_probability


class AdaProx(ByKeepProbability):
    """After each step of the optimiser, w ← αw with α = η̂(w)/(η̂(w) + strength·step).

    To first order in the step this is gradient descent of the penalty, for (1 − α)w ≈ step·strength·ρ'(w); and it is
    the exact proximal map of the quadratic (strength/2)·w²/η̂ by which the penalty is reweighted. The step is that of
    the optimiser, for its family number by number in Adam's metric (LeJeune, Javadi, Baraniuk, "The Flip Side of the
    Reweighted Coin", NeurIPS 2021).

    A weight counts as zero where its keep probability η̂/(η̂ + strength) < cutoff: with optimisers of Adam's family that
    is seen when the learning rate has become small, so let it decay. With a target, the weights of lowest η̂ are taken
    out on the way.

    Parameters
    ----------
    model, penalty, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`.
    cutoff : float in (0, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        cutoff: float = 0.05,
        target: float | None = None,
        groups: Groups | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float = 0.0,
        steps: int | None = None,
    ):
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

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        shrunk = []
        for weight in self.weights:
            step = step_of(optimizer, weight.parameter, options[id(weight.parameter)])
            shrunk.append(weight.parameter * keep_probability(self.eta(weight), self.strength * step))
        self._overwrite(self.weights, shrunk)
        super().act(optimizer, options)
