"""EPGN, the unrolled extra proximal gradient network."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from unrolled.networks.channelwise import per_channel
from unrolled.networks.conditioning import Factors, Interval, of_images, told
from unrolled.networks.data_steps.gradient_data_step import gradient
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.map_widths import widths_of_phases
from unrolled.networks.phases.phase import Images, Phase, State
from unrolled.networks.positive_numbers import positive
from unrolled.networks.priors.sparsifying_prior import LearnedProx
from unrolled.networks.shrinkage import shrinkage_of
from unrolled.networks.sizes import LARGEST_SIZE, check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.penalties import Penalty


class EPGN(UnrolledNetwork):
    """x½ = prox(x − α∇f(x)), x⁺ = prox(x − β∇f(x½)): two gradient steps, each followed by the same learned map.

    The extra proximal gradient network (Zhang, Ye, Chen, J. Imaging 8(7):178, 2022), local or nonlocal.

    Each phase is one iteration of the extra proximal gradient algorithm on ½‖Ax − y‖² + g(x): two gradient steps, each
    followed by the same learned proximal map, prox(b) = b + G̃(N(S(G(b)))) with a learned sparsifying map G, the
    shrinkage S of a penalty, and G̃, which maps back to an image. It works on images of any size that the operator
    measures; every channel of an image is reconstructed alike. Starting values and the windows of N are our reading;
    the paper leaves them open.

    Parameters
    ----------
    phases : int
        iterations.
    features : int or list of list of int
        feature maps inside the learned proximal map. Of a network that was compacted a list: for each phase (if they
        are shared, for the one) four numbers, see `Widths`.
    variant : "accelerated" or "plain"
        plain: x⁺ = prox(x − β∇f(x½)) with x½ = prox(x − α∇f(x)). Accelerated: both steps start from an extrapolation
        with a learned momentum γ; at γ = 0 they are two ordinary proximal gradient steps.
    nonlocal_window : int or None
        side in pixels of the windows of the nonlocal block N; None: local, N is the identity. It reads all feature
        maps, so that none of them can be left out by `compacted`.
    penalty : Penalty, list of Penalty, or None
        whose proximal map is the shrinkage S; of a list, a learned mixture of their maps. Default: L1.
    learn_penalty : bool
        learn the parameters of the penalties too, in every phase.
    shrink_channels : bool
        a learned threshold for every feature map instead of one for all; also parameters and weights, if learned.
    threshold : float > 0
        where the thresholds start.
    shared : bool
        whether all phases are one, with one set of weights.
    differentiation : Differentiation or None
        how gradients are carried through the phases: `Unroll()` (the default), `Recompute(every)` for less memory, or,
        with shared phases, `Implicit()`.
    start : Start or None
        makes the image that the first phase is given: `LinearStart()` (the default), `AdjointStart()`,
        `ConjugateGradientStart(iterations)`.
    complex_images : bool
        for operators that measure complex images: the learned maps then see the real and the imaginary part of a
        channel together, as two channels of one image.
    noise_range : (low, high) or None
        noise levels to be told, 0 <= low < high: steps and thresholds of every phase then follow the noise level, which
        is given when the network is called. By default it takes none.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in EPGN(phases=9).parameters())
    336996
    """

    def __init__(
        self,
        phases: int = 9,
        features: int | list[list[int]] = 32,
        variant: Literal["accelerated", "plain"] = "accelerated",
        nonlocal_window: int | None = None,
        penalty: Penalty | list[Penalty] | None = None,
        learn_penalty: bool = False,
        shrink_channels: bool = False,
        threshold: float = 0.01,
        shared: bool = False,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("EPGN", phases=phases)
        if variant not in _PHASES:
            raise ValueError(f"EPGN: variant must be one of {', '.join(_PHASES)}, got {variant!r}")
        if nonlocal_window is not None and not 1 <= nonlocal_window <= LARGEST_SIZE:
            raise ValueError(f"EPGN: nonlocal_window must be in 1 … {LARGEST_SIZE:,} or None, got {nonlocal_window!r}")
        ranges = told("EPGN", noise_range, ratio_range)
        super().__init__(
            [
                _PHASES[variant](
                    LearnedProx(
                        each,
                        shrinkage_of(penalty, each.shrunk if shrink_channels else None, threshold, learn_penalty),
                        nonlocal_window,
                        2 if complex_images else 1,
                    ),
                    ranges,
                )
                for each in widths_of_phases("EPGN", features, 1 if shared else phases)
            ],
            phases if shared else 1,
            differentiation,
            start,
            complex_images,
            noise_range,
            ratio_range,
        )

    def compacted_arguments(self) -> dict[str, Any]:
        phases: list[Any] = list(self.phases)
        return {"features": [list(phase.prox.widths) for phase in phases]}


class _ExtraProximalGradient(Phase):
    data_steps = 2

    def __init__(self, prox: LearnedProx, ranges: Sequence[Interval] = ()):
        super().__init__()
        self.prox = prox
        self.reach = 2 * prox.reach
        self.alignment = prox.alignment
        # The operators are normalised, ‖A‖ = 1, where a step of 1 is the classical choice.
        self.raw_alpha, self.raw_beta = positive(1.0), positive(1.0)
        self.factors = Factors(ranges, 3) if ranges else None

    def compact(self) -> None:
        """Leave out the feature maps that are 0 or that nobody reads, see `UnrolledNetwork.compacted`."""
        self.prox = self.prox.compacted()

    @property
    def alpha(self) -> Tensor:
        """Step size of the first half-step, > 0."""
        return F.softplus(self.raw_alpha)

    @property
    def beta(self) -> Tensor:
        """Step size of the second half-step, > 0."""
        return F.softplus(self.raw_beta)

    def prepare(self, condition: Tensor | None, channels: int) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """α, β, and the learned proximal map on images of so many channels, which both half-steps share."""
        alpha, beta, factor = self.alpha, self.beta, None
        if self.factors is not None and condition is not None:
            first, second, threshold = self.factors(condition).unbind(1)
            alpha, beta, factor = alpha * of_images(first), beta * of_images(second), of_images(threshold, channels)
        prox = self.prox.prepare(factor)
        return alpha, beta, lambda b: per_channel(prox, b)


class PlainPhase(_ExtraProximalGradient):
    """x½ = prox(x − α∇f(x));  x⁺ = prox(x − β∇f(x½))."""

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        (x,) = state
        alpha, beta, prox = self.prepare(condition, x.shape[1])
        half = prox(x - alpha * gradient(x, y, operator))
        return (prox(x - beta * gradient(half, y, operator)),)


class AcceleratedPhase(_ExtraProximalGradient):
    """t = x + γ(x − x½⁻), x½ = prox(t − α∇f(t));  s = x½ + γ(x½ − x), x⁺ = prox(s − β∇f(s)).

    The state is (x, x½⁻), with x½⁻ of the phase before; at the start it is x.
    """

    carries = (Images(),)

    def __init__(self, prox: LearnedProx, ranges: Sequence[Interval] = ()):
        super().__init__(prox, ranges)
        self.raw_gamma = positive(0.1)

    @property
    def gamma(self) -> Tensor:
        """Momentum, > 0."""
        return F.softplus(self.raw_gamma)

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        return x, x

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, before = state
        alpha, beta, prox = self.prepare(condition, x.shape[1])
        # At the start both are one tensor. Its momentum would be 0, but the gradients of its two parts would cancel
        # only up to rounding.
        t = x if before is x else x + self.gamma * (x - before)
        half = prox(t - alpha * gradient(t, y, operator))
        s = half + self.gamma * (half - x)
        return prox(s - beta * gradient(s, y, operator)), half


_PHASES = {"accelerated": AcceleratedPhase, "plain": PlainPhase}
