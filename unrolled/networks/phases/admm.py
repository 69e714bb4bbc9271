"""The alternating direction method of multipliers."""

from torch import Tensor

from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.proximal_data_step import ProximalStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import Images, State
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class ADMMPhase(AlgorithmPhase):
    """z = prior(x + u);  x⁺ = argmin ½‖Ax − y‖² + λ/2·‖x − (z − u)‖²;  u⁺ = u + x⁺ − z.

    ADMM for ½‖Ax − y‖² + g(z) with x = z, in its scaled form (Boyd and others, Foundations and Trends in Machine
    Learning 3(1), 2011, section 3.1.1), where the prior is the proximal map of g/λ. The state is (x, u), with the
    multipliers u = 0 at the start.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`.
    data_step : DataStep, optional
        by default `ProximalStep()`, whose weight is λ.
    """

    carries = (Images(),)

    def __init__(self, prior: Prior, data_step: DataStep | None = None):
        super().__init__(prior)
        self.data_step = ProximalStep() if data_step is None else data_step

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        return x, x.new_zeros(x.shape)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, u = state
        z = self.denoised(x + u, condition)
        x = self.data_step(z - u, y, operator, condition)
        return x, u + x - z
