"""Half-quadratic splitting: the data and the prior in turn, each on an image of its own."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from unrolled.networks.conditioning import ConditionedNumber, Interval
from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.proximal_data_step import ProximalStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import State
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator


class HalfQuadraticPhase(AlgorithmPhase):
    """x = argmin ½‖Ax − y‖² + λ/2·‖x − z‖²;  z = prior(x, β): half-quadratic splitting.

    Both minimise ½‖Ax − y‖² + λ/2·‖x − z‖² + g(z) in turn, where the prior is the proximal map of g/λ (Geman, Yang,
    IEEE Trans. Image Processing 4(7), 1995). What is handed on is the image that the phase ends with: z, or x, and then
    the prior comes first.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`.
    data_step : DataStep, optional
        by default `ProximalStep()`, whose weight is λ.
    level : float > 0, optional
        where the learned β starts, the one number that the prior is told, (batch, 1). By default there is none, and the
        prior is told what the phase is told.
    ends_with : "prior" or "data step"
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale β; none: it is what it is.
    """

    def __init__(
        self,
        prior: Prior,
        data_step: DataStep | None = None,
        level: float | None = None,
        ends_with: Literal["prior", "data step"] = "prior",
        ranges: Sequence[Interval] = (),
    ):
        super().__init__(prior)
        if ends_with not in ("prior", "data step"):
            raise ValueError(f"HalfQuadraticPhase: ends_with must be 'prior' or 'data step', got {ends_with!r}")
        if len(ranges) and level is None:
            raise ValueError("HalfQuadraticPhase: ranges scale level, so level must be given")
        self.data_step = ProximalStep() if data_step is None else data_step
        self.level = None if level is None else ConditionedNumber("HalfQuadraticPhase", "level", level, ranges)
        self.ends_with = ends_with

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        (image,) = state
        beta = condition if self.level is None else self.level(condition, len(image))
        if self.ends_with == "prior":
            x = self.data_step(image, y, operator, condition)
            return (self.denoised(x, beta),)
        z = self.denoised(image, beta)
        return (self.data_step(z, y, operator, condition),)
