"""The penalty as a part of the loss."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unrolled.penalties import Penalty, TopK
from unrolled.sparsify.metric import memory_of, step_of
from unrolled.sparsify.proximal import prox_in_metric
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier


class PenaltyLoss(Sparsifier):
    """Adds strength · Σ ρ(w) to the loss, and lets the optimiser's gradients do the rest.

    Gradients bring weights close to zero, not to it: around 0 the sign of ρ' changes, and a weight goes to and fro by
    about a step, as far as the momentum carries it. So a weight counts as zero if the penalty alone would make it zero
    within the memory of the optimiser: if the proximal map sends it to 0, for the optimiser's step at this moment
    times 1/(1 − β₁) (10 for Adam's defaults; torch's SGD has its momentum in the step already). Such weights `finalize`
    makes 0. A learning rate that decays at the end of the run lets small weights settle.

    Penalties with an infinite slope at 0 are refused: L0 has no gradient at all, that of Lp explodes.
    """

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        for weight in self.weights:
            assert weight.penalty is not None
            zero = torch.zeros_like(weight.parameter)
            # The numbers of TopK are not derivatives: it is constant, but for a jump to infinity.
            if isinstance(penalty, TopK) or not weight.penalty.derivative(zero).isfinite().all():
                raise ValueError(
                    f"PenaltyLoss: {weight.penalty!r} has no finite slope at 0, so that gradients cannot minimise it; "
                    "LogSum(0.1), TransformedL1(0.1) and MCP(1, 0.1) come close to it, and ProximalStep takes it as it "
                    "is"
                )

    def attach(self) -> None:
        self._optimizer: Optimizer | None = None

    def detach(self) -> None:
        self._optimizer = None

    def loss_now(self) -> Tensor:
        total = sum(weight.penalty.value(weight.parameter).sum() for weight in self.weights if weight.penalty)
        return self.strength * total  # type: ignore[return-value]

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        self._optimizer, self._options = optimizer, options
        for weight in self.weights:
            weight.extra.clear()

    def sparse(self, weight: Weight) -> Tensor:
        values = weight.parameter.detach()
        return torch.where(self._is_zero(weight), 0, values)

    def state_dict(self) -> dict[str, Any]:
        for weight in self.weights:  # until the first step after a resume there is no optimiser to ask
            weight.extra["zero"] = self._is_zero(weight)
        return super().state_dict()

    @torch.no_grad()
    def _is_zero(self, weight: Weight) -> Tensor:
        if "zero" in weight.extra:
            return weight.extra["zero"]
        values = weight.parameter.detach()
        strength = self.strength
        if self._optimizer is None or not strength:
            return values == 0
        assert weight.penalty is not None
        options = self._options[id(weight.parameter)]
        step = strength * memory_of(options) * step_of(self._optimizer, weight.parameter, options)
        return prox_in_metric(weight.penalty, values, step) == 0
