"""FISTA-Net, proximal gradient descent with momentum whose numbers rise and fall with the phases."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Factors, Interval, check_told, of_images, told
from unrolled.networks.data_steps.gradient_data_step import gradient
from unrolled.networks.differentiation import Differentiation, Implicit
from unrolled.networks.map_widths import of_each
from unrolled.networks.phases.algorithm_phase import AlgorithmPhase
from unrolled.networks.phases.phase import Images, State
from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.networks.presets.own_priors import listens, priors_of_phases
from unrolled.networks.priors.prior import Prior
from unrolled.networks.priors.residual_cnn import ResidualCNN
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.system.recipes import Described

FALL = 0.1
"""By how much steps and thresholds fall from phase to phase at first, before the softplus."""


class FISTANet(UnrolledNetwork):
    """t = x + γ_k(x − x⁻);  x⁺ = D(t − μ_k Aᴴ(At − y), θ_k), for the phases k = 1, 2, …

    Xiang, Dong, Yang, IEEE Trans. Med. Imaging 40(5), 2021. All phases have one learned proximal map D, which is told
    the threshold θ_k. Steps, thresholds and momentum are functions of k with two learned numbers each, a > 0 and c:

        μ_k = softplus(c − a·k),  θ_k likewise,  γ_k = 1 − softplus(a + c)/softplus(a·k + c),

    so that μ_k and θ_k are positive and fall, and γ_k rises from 0 towards 1, as the momentum of FISTA does.

    Parameters
    ----------
    phases : int
        iterations.
    features, depth : int
        of D, see `ResidualCNN`.
    step : float > 0
        where μ_1 starts.
    threshold : float > 0
        where θ_1 starts.
    shared : bool
        whether all phases have one D, as in the paper; each has numbers of its own.
    prior : Prior, any module that maps images to images, or a list of them, one for each phase; optional
        in place of D, and then features, depth and channels are its own. Its condition is the one number θ_k: a prior
        that scales by it, as the thresholds of a shrinkage do, is made with one range. One that is made without ranges
        is told nothing.
    channels : int
        of the image that D sees together.
    differentiation, start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`; no `Implicit`, for no two phases are one. The noise level scales μ_k and θ_k.

    Examples
    --------
    >>> FISTANet().parameter_count
    112031
    """

    def __init__(
        self,
        phases: int = 7,
        features: int = 64,
        depth: int = 5,
        step: float = 1.0,
        threshold: float = 0.05,
        shared: bool = True,
        prior: Prior | list[Prior] | None = None,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("FISTANet", phases=phases)
        check_positive("FISTANet", step=step, threshold=threshold)
        if isinstance(differentiation, Implicit):
            raise ValueError(
                "FISTANet: differentiation by Implicit needs phases that are one, and here each has numbers of its "
                "own; DeepEquilibrium repeats one phase"
            )
        priors = priors_of_phases(
            "FISTANet",
            prior,
            lambda: ResidualCNN(features, depth, channels, complex_images, [(threshold / 10, 2 * threshold)]),
            phases,
            shared,
            complex_images,
        )
        numbers = PhaseNumbers(
            step, threshold if listens(priors[0]) else None, told("FISTANet", noise_range, ratio_range)
        )
        super().__init__(
            [FISTANetPhase(each, numbers, k) for k, each in enumerate(priors, 1)],
            1,
            differentiation,
            start,
            complex_images,
            noise_range,
            ratio_range,
        )

    def compacted_arguments(self) -> dict[str, Any]:
        return {"prior": of_each([phase.prior for phase in self.phases])}


class PhaseNumbers(Described, nn.Module):
    """μ_k, θ_k and γ_k of all phases, see `FISTANet`.

    Parameters
    ----------
    step : float > 0
        where μ_1 starts.
    threshold : float > 0, optional
        where θ_1 starts; without it there are none.
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale μ_k and θ_k; none: they are what they are.
    """

    def __init__(self, step: float, threshold: float | None = None, ranges: Sequence[Interval] = ()):
        super().__init__()
        self.step = _Falling(step)
        self.threshold = None if threshold is None else _Falling(threshold)
        # Where they start, γ_k is within .04 of the momentum of FISTA.
        self.raw_rise, self.rise_offset = positive(0.5), nn.Parameter(self.step.offset.new_zeros(()))
        self.factors = Factors(ranges, 1 if threshold is None else 2) if ranges else None

    def momentum(self, k: int) -> Tensor:
        """γ_k in [0, 1), 0 of the first phase."""
        rise = F.softplus(self.raw_rise)
        return 1 - F.softplus(rise + self.rise_offset) / F.softplus(rise * k + self.rise_offset)

    def step_and_threshold(self, k: int, condition: Tensor | None, batch: int) -> tuple[Tensor, Tensor | None]:
        """μ_k, a scalar or (batch, 1, 1, 1), and θ_k, (batch, 1)."""
        step, threshold = self.step(k), None if self.threshold is None else self.threshold(k).expand(batch, 1)
        if self.factors is None:
            return step, threshold
        check_told("FISTANet", condition, len(self.factors.ranges), batch)
        factors = self.factors(condition)
        return step * of_images(factors[:, 0]), None if threshold is None else threshold * factors[:, 1:]


class _Falling(nn.Module):
    """softplus(c − a·k) with a > 0, which starts at a value for k = 1."""

    def __init__(self, first: float):
        super().__init__()
        self.raw_fall = positive(FALL)
        self.offset = nn.Parameter(positive(first).detach() + FALL)

    def forward(self, k: int) -> Tensor:
        return F.softplus(self.offset - F.softplus(self.raw_fall) * k)


class FISTANetPhase(AlgorithmPhase):
    """t = x + γ_k(x − x⁻);  x⁺ = prior(t − μ_k Aᴴ(At − y), θ_k), the state is (x, x⁻).

    Parameters
    ----------
    prior : Prior
    numbers : PhaseNumbers
        of all phases of the network.
    k : int >= 1
        which of the phases it is.
    """

    carries = (Images(),)

    def __init__(self, prior: Prior, numbers: PhaseNumbers, k: int):
        super().__init__(prior)
        self.numbers, self.k = numbers, k

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        return x, x

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, before = state
        step, threshold = self.numbers.step_and_threshold(self.k, condition, len(x))
        t = x + self.numbers.momentum(self.k) * (x - before)
        return self.denoised(t - step * gradient(t, y, operator), threshold), x
