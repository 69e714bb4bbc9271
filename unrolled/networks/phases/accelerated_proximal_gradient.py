"""Proximal gradient descent with momentum."""

import torch.nn.functional as F
from torch import Tensor

from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.gradient_data_step import GradientStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import Images, State
from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class AcceleratedProximalGradientPhase(AlgorithmPhase):
    """t = x + γ(x − x⁻);  x⁺ = prior(t − ρAᴴ(At − y)): FISTA, the prior for a proximal map, its momentum γ learned.

    Beck, Teboulle, SIAM J. Imaging Sciences 2(1), 2009. The state is (x, x⁻), with x⁻ = x at the start, where momentum
    has no effect.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`.
    data_step : DataStep, optional
        another step in place of the gradient's.
    momentum : float > 0
        where γ starts.
    """

    carries = (Images(),)

    def __init__(self, prior: Prior, data_step: DataStep | None = None, momentum: float = 0.3):
        super().__init__(prior)
        check_positive("AcceleratedProximalGradientPhase", momentum=momentum)
        self.data_step = GradientStep() if data_step is None else data_step
        self.raw_gamma = positive(momentum)

    @property
    def gamma(self) -> Tensor:
        """Momentum, > 0."""
        return F.softplus(self.raw_gamma)

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        return x, x

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, before = state
        t = x + self.gamma * (x - before)
        return self.denoised(self.data_step(t, y, operator, condition), condition), x
