"""The alternating direction method of multipliers that ends with the prior, with a relaxed step of the multipliers."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.proximal_data_step import ProximalStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import Images, State
from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class RelaxedADMMPhase(AlgorithmPhase):
    """x = argmin ½‖Ax − y‖² + λ/2·‖x − (z − u)‖²;  z⁺ = prior(x + u);  u⁺ = u + β(x − z⁺).

    ADMM for ½‖Ax − y‖² + g(z) with x = z, in its scaled form (Boyd and others, Foundations and Trends in Machine
    Learning 3(1), 2011, section 3.1.1), where the prior is the proximal map of g/λ, and β is learned. The state is
    (z, u).

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`.
    data_step : DataStep, optional
        by default `ProximalStep()`, whose weight is λ.
    relaxation : float > 0
        where β starts.
    multipliers : "zero" or "start"
        what u is at first: 0, or the image that the network starts from, as deepinv has it.
    """

    carries = (Images(),)

    def __init__(
        self,
        prior: Prior,
        data_step: DataStep | None = None,
        relaxation: float = 1.0,
        multipliers: Literal["zero", "start"] = "zero",
    ):
        super().__init__(prior)
        check_positive("RelaxedADMMPhase", relaxation=relaxation)
        if multipliers not in ("zero", "start"):
            raise ValueError(f"RelaxedADMMPhase: multipliers must be 'zero' or 'start', got {multipliers!r}")
        self.data_step = ProximalStep() if data_step is None else data_step
        self.raw_relaxation = positive(relaxation)
        self.multipliers = multipliers

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        return x, x if self.multipliers == "start" else x.new_zeros(x.shape)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        z, u = state
        x = self.data_step(z - u, y, operator, condition)
        z = self.denoised(x + u, condition)
        return z, u + F.softplus(self.raw_relaxation) * (x - z)
