"""The primal-dual algorithm of Chambolle and Pock."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from unrolled.networks.conditioning import ConditionedNumber, Interval
from unrolled.networks.data_steps.dual_step import DualStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import Images, Measurements, State
from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class PrimalDualPhase(AlgorithmPhase):
    """x̄ = x + θ(x − x⁻);  h⁺ = (h + σ(Ax̄ − y))/(1 + σ);  x⁺ = prior(x − τAᴴh⁺).

    Algorithm 1 of Chambolle, Pock, J. Math. Imaging Vision 40(1), 2011, for ½‖Ax − y‖² + g(x), where the prior is the
    proximal map of τg; it converges for θ = 1 and στ‖A‖² < 1. The state is (x, x⁻, h), with x⁻ = x and the dual
    variable h = 0 at the start. σ, τ and θ are learned.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`.
    dual_step : DualStep, optional
        whose weight is σ.
    step : float > 0
        where τ starts.
    extrapolation : float > 0
        where θ starts.
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale τ; none: it is what it is.
    """

    carries = (Images(), Measurements())

    def __init__(
        self,
        prior: Prior,
        dual_step: DualStep | None = None,
        step: float = 0.9,
        extrapolation: float = 1.0,
        ranges: Sequence[Interval] = (),
    ):
        super().__init__(prior)
        check_positive("PrimalDualPhase", extrapolation=extrapolation)
        self.dual_step = DualStep() if dual_step is None else dual_step
        self.step = ConditionedNumber("PrimalDualPhase", "step", step, ranges)
        self.raw_theta = positive(extrapolation)

    @property
    def theta(self) -> Tensor:
        """How far x is extrapolated, > 0."""
        return F.softplus(self.raw_theta)

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        return x, x, y.new_zeros(y.shape)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, before, h = state
        tau = self.step(condition, len(x))[..., None, None]
        extrapolated = x + self.theta * (x - before)
        h = self.dual_step(h, extrapolated, y, operator, condition)
        return self.denoised(x - tau * operator.adjoint(h), condition), x, h
