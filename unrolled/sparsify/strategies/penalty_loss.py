"""The penalty as a part of the loss."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import Penalty, TopK
from unrolled.sparsify.machinery.arguments import between
from unrolled.sparsify.machinery.control import Control
from unrolled.sparsify.machinery.dropout_rule import keep_probability
from unrolled.sparsify.machinery.metric_prox import radial_step
from unrolled.sparsify.machinery.optimizer_metric import step_of
from unrolled.sparsify.machinery.proximal_updates import first_strength
from unrolled.sparsify.selection import Weight, count_zeros
from unrolled.sparsify.sparsifier import Sparsifier


class PenaltyLoss(Sparsifier):
    """Adds strength · Σ ρ(w) to the loss, and lets the optimiser's gradients do the rest.

    Gradients bring weights close to zero, not to it: around 0 the sign of the gradient of ρ changes, and a weight goes
    to and fro by about a step. So a weight counts as zero if the penalty alone would bring it there within ten steps,
    |w| ≤ 10 step·strength·ρ'(|w|): in terms of the dual dropout, if for the strength 10 step·strength its keep
    probability is at most one half. The step is that of the optimiser, for Adam no more than what moves a weight by the
    learning rate; and the learning rate is averaged over the last tenth of the run (100 steps if its length is not
    known), for weights still lie where larger steps left them. Such weights `finalize` makes 0; the more the rate
    decays, the smaller they are. With a cutoff, a weight counts as zero where its keep probability for the strength
    itself is below it, as for the other faces of the penalty: `AdaProx`, `ReweightedTikhonov`.

    With a target the strength follows the zeros by this rule, and so many of them as the target asks for are set to 0
    on the way, those with the smallest η̂(w) first: see `Capturing`.

    It can only move weights to which the penalty has a slope: those of MCP, SCAD and CappedL1 should be wide enough for
    most of them.

    Penalties with an infinite slope at 0 are refused: L0 has no gradient at all, that of Lp explodes.

    Parameters
    ----------
    model, penalty, strength, target, groups, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`.
    cutoff : float in (0, 1) or None
        of the keep probability η̂/(η̂ + strength), for the rule of LeJeune et al. (2021), who have .05; by default the
        rule of ten steps.
    """

    captures = True

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        strength: float | None = None,
        *,
        cutoff: float | None = None,
        **options: Any,
    ):
        super().__init__(model, penalty, strength, **options)
        self.cutoff = None if cutoff is None else between("PenaltyLoss", "cutoff", cutoff)
        self._optimizer: Optimizer | None = None
        self._options: dict[str, dict[str, Any]] = {}
        self._acted = 0.0
        self._rates: dict[str, float] = {}

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        for weight in self.weights:
            zero = torch.zeros_like(weight.parameter)
            # The numbers of TopK are not derivatives: it is constant, but for a jump to infinity.
            if isinstance(penalty, TopK) or not weight.penalty.derivative(zero).isfinite().all():
                raise ValueError(
                    f"PenaltyLoss: {weight.penalty!r} has no finite slope at 0, so that gradients cannot minimise it; "
                    "LogSum(0.1), TransformedL1(0.1) and MCP(1, 0.1) come close to it, and ProximalStep takes it as it "
                    "is"
                )

    def detach(self) -> None:
        self._optimizer = None

    def loss_now(self) -> Tensor:
        total = sum(weight.penalty.value(weight.parameter).sum() for weight in self.weights)
        return self.strength * total  # type: ignore[return-value]

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        self._optimizer = optimizer
        if self.course.target is not None and self.step_count == 0:
            found = first_strength(self.weights, optimizer, options, self.steps)
            self.base_strength = self.base_strength if found is None else found
        self._acted = self.strength  # what a controller makes of it acts from the next step on
        self._options = {}
        span = 100 if self.steps is None else max(1, self.steps // 10)
        for weight in self.weights:
            weight.extra.pop("zero", None)
            now = options[id(weight.parameter)]
            rate = float(now["lr"])
            before = self._rates.get(weight.name, rate)
            self._rates[weight.name] = before + (rate - before) / span
            self._options[weight.name] = {**now, "lr": self._rates[weight.name]}
        super().act(optimizer, options)

    def make_control(self) -> Control:
        return Control()

    def share_by_rule(self) -> float:
        tensors = [self.zeroed(weight) for weight in self.weights]
        return count_zeros(tensors) / sum(tensor.numel() for tensor in tensors)

    def zeroed(self, weight: Weight) -> Tensor:
        values = weight.parameter.detach()
        return torch.where(self._is_zero(weight), 0, values)

    def state_dict(self) -> dict[str, Any]:
        for weight in self.weights:  # until the first step after a resume there is no optimiser to ask
            weight.extra["zero"] = self._is_zero(weight)
        return {**super().state_dict(), "rates": dict(self._rates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._rates = dict(state["rates"])

    @torch.no_grad()
    def _is_zero(self, weight: Weight) -> Tensor:
        values = weight.parameter.detach()
        if "zero" in weight.extra:
            return weight.extra["zero"]
        if self._optimizer is None or not self._acted:
            return values == 0
        eta = weight.eta
        if self.cutoff is not None:
            return keep_probability(weight.spread(eta), self._acted) < self.cutoff
        options, grouping = self._options[weight.name], weight.grouping
        step = step_of(self._optimizer, weight.parameter, options)
        of_groups = grouping is not None and eta.shape != values.shape
        if isinstance(step, Tensor):
            entry = grouping.spread(eta, values.shape, outside=torch.inf) if grouping and of_groups else eta
            pull = torch.where(entry == 0, 0.0, self._acted * values.abs() / torch.where(entry == 0, 1.0, entry))
            step = step / (step * pull / options["lr"]).clamp(min=1)
        if not of_groups:
            return eta <= _WITHIN * self._acted * step
        assert grouping is not None
        zero = eta <= _WITHIN * self._acted * radial_step(grouping, values, step)
        return grouping.spread(zero, values.shape, outside=False)


_WITHIN = 10
"""Steps within which the penalty alone would bring a weight to 0."""
