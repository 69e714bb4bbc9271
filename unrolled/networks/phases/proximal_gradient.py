"""A data step, then the prior."""

from torch import Tensor

from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.gradient_data_step import GradientStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import State
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class ProximalGradientPhase(AlgorithmPhase):
    """x⁺ = prior(x − ρAᴴ(Ax − y)), proximal gradient descent, the prior for a proximal map.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`.
    data_step : DataStep, optional
        another step in place of the gradient's.
    """

    def __init__(self, prior: Prior, data_step: DataStep | None = None):
        super().__init__(prior)
        self.data_step = GradientStep() if data_step is None else data_step

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        (x,) = state
        return (self.denoised(self.data_step(x, y, operator, condition), condition),)
