"""A data step and a prior that act on the same image."""

from torch import Tensor

from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.gradient_data_step import GradientStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import State
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class VariationalPhase(AlgorithmPhase):
    """x⁺ = x − ρAᴴ(Ax − y) − R(x) with R(x) = x − prior(x), gradient descent on data and regulariser at once.

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
        regularizer = x - self.denoised(x, condition)
        return (self.data_step(x, y, operator, condition) - regularizer,)
