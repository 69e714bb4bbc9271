"""The prior, then a data step."""

from torch import Tensor

from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.proximal_data_step import ProximalStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import State
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class DataConsistencyPhase(AlgorithmPhase):
    """x⁺ = argmin ½‖Ax − y‖² + λ/2·‖x − prior(x⁻)‖²: the image nearest to what the prior makes that explains y.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`.
    data_step : DataStep, optional
        by default `ProximalStep()`.
    """

    def __init__(self, prior: Prior, data_step: DataStep | None = None):
        super().__init__(prior)
        self.data_step = ProximalStep() if data_step is None else data_step

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        (x,) = state
        return (self.data_step(self.denoised(x, condition), y, operator, condition),)
