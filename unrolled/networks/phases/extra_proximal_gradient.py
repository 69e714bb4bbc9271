"""Two gradient steps, of which the second one goes down the gradient at the image after the first."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from unrolled.networks.conditioning import Factors, Interval, check_told, of_images
from unrolled.networks.data_steps.gradient_data_step import gradient
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import State
from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class ExtraProximalGradientPhase(AlgorithmPhase):
    """x½ = prior(x − α∇f(x));  x⁺ = prior(x − β∇f(x½)), with ∇f(x) = Aᴴ(Ax − y).

    The extra proximal gradient algorithm (Nguyen, Pauwels, Richard, Suter, J. Optim. Theory Appl. 176, 2018), unrolled
    as in Zhang, Ye, Chen, J. Imaging 8(7):178, 2022, with any prior for the proximal map.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`; both halves of a phase have the same.
    first_step, second_step : float > 0
        where the learned α and β start; with an operator of the norm 1, 1 is the classical choice.
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale both steps; none: they are what they are.
    """

    data_steps = 2

    def __init__(
        self, prior: Prior, first_step: float = 1.0, second_step: float = 1.0, ranges: Sequence[Interval] = ()
    ):
        super().__init__(prior)
        check_positive("ExtraProximalGradientPhase", first_step=first_step, second_step=second_step)
        self.raw_alpha, self.raw_beta = positive(first_step), positive(second_step)
        self.factors = Factors(ranges, 2) if ranges else None
        if self.reach is not None:
            self.reach *= 2

    def steps(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """α and β, > 0: scalars, or one for every image, (batch, 1, 1, 1), if the condition scales them."""
        alpha, beta = F.softplus(self.raw_alpha), F.softplus(self.raw_beta)
        if self.factors is None:
            return alpha, beta
        check_told("ExtraProximalGradientPhase", condition, len(self.factors.ranges))
        first, second = self.factors(condition).unbind(1)
        return alpha * of_images(first), beta * of_images(second)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        (x,) = state
        alpha, beta = self.steps(condition)
        half = self.denoised(x - alpha * gradient(x, y, operator), condition)
        return (self.denoised(x - beta * gradient(half, y, operator), condition),)
