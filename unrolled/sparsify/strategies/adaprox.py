"""AdaProx."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import Penalty
from unrolled.sparsify.machinery.dropout_rule import KeepProbability, keep_probability
from unrolled.sparsify.machinery.optimizer_metric import step_of
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier


class AdaProx(Sparsifier):
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

    needs_zeros = False
    captures = True

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        cutoff: float = 0.05,
        **options: Any,
    ):
        super().__init__(model, penalty, strength, **options)
        self.rule = KeepProbability("AdaProx", cutoff)

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        self.rule.check(penalty, self.weights, None if self.course.target is not None else self.base_strength)

    def initial_strength(self) -> float:
        return 1e-4

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        shrunk = []
        for weight in self.weights:
            step = step_of(optimizer, weight.parameter, options[id(weight.parameter)])
            shrunk.append(weight.parameter * keep_probability(weight.spread(weight.eta), self.strength * step))
        self.survivors.overwrite(self.weights, shrunk)
        super().act(optimizer, options)

    def zeroed(self, weight: Weight) -> Tensor:
        return self.rule.cut(weight, weight.eta, self.strength)
