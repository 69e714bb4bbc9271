"""Soft data consistency in all frequencies, also in those of which no image is the transform."""

import torch
from torch import Tensor

from unrolled.networks.data_steps.gradient_data_step import GradientStep
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import Images, State
from unrolled.networks.priors.prior import Prior
from unrolled.operators import LinearOperator
from unrolled.operators.linear_map import LinearMap
from unrolled.operators.operator import Scaled
from unrolled.operators.sampled_fourier import SampledFourier


class SoftConsistencyPhase(AlgorithmPhase):
    """k⁺ = k − ηM(k − y) − V R(Vᴴk), where A = MV and VᴴV = 1: the phase of an end-to-end VarNet.

    Of k-space, V = F S transforms what every coil sees, M is the mask, and the image of all coils is x = Vᴴk. It
    differs from `VariationalPhase` in that k need not be the transform of an image: what the coils measured and no
    image explains, such as noise, stays in k.

    The phase is that of k exactly, but k is not carried. In k-space it begins with k = y + V(x₀ − Aᴴy), which for the
    adjoint as the start is y itself. Other operators are not so near to orthonormal rows that Aᴴy is an image, and with
    them k begins with y where it is measured and with the start elsewhere, k = y + (1 − M)Vx₀: without a prior that is
    x₀ − Aᴴ(Ax₀ − y); the first prior is given x₀. Every phase then leads to a k of the form

        k = y + MVp + (1 − M)Vq,    p⁺ = (1 − η)p − R(x),    q⁺ = q − R(x),

    with an image p of the changes where the mask samples, which data consistency takes back, and an image q of those
    elsewhere, which nothing takes back. So x = Vᴴk = Aᴴ(y + A(p − q)) + q, and of k-space with many coils two images
    are carried in place of all coils. V itself is not needed: every operator with ‖A‖ <= 1 is the part MV of such a V.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`; R(x) = x − prior(x).
    step : GradientStep, optional
        η is its step; by default `GradientStep()`, which starts at 1.
    direct : bool
        R(x) = prior(x), for networks that make what is taken away.
    """

    carries = (Images(), Images())

    def __init__(self, prior: Prior, step: GradientStep | None = None, direct: bool = False):
        super().__init__(prior)
        self.step = GradientStep() if step is None else step
        self.direct = direct

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        if _measures_kspace(operator):
            change = x - operator.adjoint(y)
            return x, change, change
        return x, torch.zeros_like(x), x

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, sampled, others = state
        made = self.denoised(x, condition)
        taken = made if self.direct else x - made
        sampled = sampled - self.step.weight(condition) * sampled - taken
        others = others - taken
        return operator.adjoint(y + operator(sampled - others)) + others, sampled, others


def _measures_kspace(operator: LinearMap) -> bool:
    return isinstance(operator.operator if isinstance(operator, Scaled) else operator, SampledFourier)
