"""ISTA-Net+, the unrolled iterative shrinkage-thresholding network."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from unrolled.networks.channelwise import apart, per_channel, together
from unrolled.networks.conditioning import Factors, Interval, of_images, told
from unrolled.networks.data_steps.gradient_data_step import gradient
from unrolled.networks.differentiation import Differentiation, Implicit
from unrolled.networks.map_widths import Widths, widths_of_phases
from unrolled.networks.phases.phase import Phase, State
from unrolled.networks.positive_numbers import positive
from unrolled.networks.priors.symmetric_prior import SymmetricMaps
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture, shrinkage_of
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.penalties import Penalty


class ISTANetPlus(UnrolledNetwork):
    """x⁺ = b + G(H̃(soft(H(D(b))))), b = x − ρ∇f(x): a gradient step, and learned maps on either side of a shrinkage.

    ISTA-Net+ (Zhang, Ghanem, CVPR 2018). Every channel of an image is reconstructed alike.

    Parameters
    ----------
    phases : int
    features : int or list of list of int
        feature maps. Of a network that was compacted a list: for each phase (if they are shared, for the one) four
        numbers, see `Widths`.
    penalty : Penalty, list of Penalty, or None
        whose proximal map is the shrinkage; of a list, a learned mixture of their maps. Default: L1, as in the paper.
    learn_penalty : bool
        learn the parameters of the penalties too, in every phase.
    threshold : float > 0
        where the thresholds start.
    symmetry : float >= 0
        weight of the term ‖H̃(H(d)) − d‖² in the loss, which asks the maps to be inverse to each other.
    shared : bool
        whether all phases are one, with one set of weights.
    differentiation : Differentiation or None
        how gradients are carried through the phases: `Unroll()` (the default), `Recompute(every)` for less memory, or,
        with shared phases and without symmetry, `Implicit()`.
    start : Start or None
        makes the image that the first phase is given: `LinearStart()` (the default), `AdjointStart()`,
        `ConjugateGradientStart(iterations)`.
    complex_images : bool
        for operators that measure complex images: the learned maps then see the real and the imaginary part of a
        channel together, as two channels of one image.
    noise_range : (low, high) or None
        noise levels to be told, 0 <= low < high: step and threshold of every phase then follow the noise level, which
        is given when the network is called. By default it takes none.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in ISTANetPlus(phases=9).parameters())
    336978
    """

    def __init__(
        self,
        phases: int = 9,
        features: int | list[list[int]] = 32,
        penalty: Penalty | list[Penalty] | None = None,
        learn_penalty: bool = False,
        threshold: float = 0.01,
        symmetry: float = 0.01,
        shared: bool = False,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("ISTANetPlus", phases=phases)
        if not symmetry >= 0:
            raise ValueError(f"ISTANetPlus: symmetry must be >= 0, got {symmetry!r}")
        if symmetry and isinstance(differentiation, Implicit):
            raise ValueError(
                f"ISTANetPlus: symmetry must be 0 with Implicit, which sees only the last phase, got {symmetry!r}"
            )
        ranges = told("ISTANetPlus", noise_range, ratio_range)
        super().__init__(
            [
                ISTAPhase(
                    each,
                    shrinkage_of(penalty, None, threshold, learn_penalty),
                    2 if complex_images else 1,
                    ranges,
                )
                for each in widths_of_phases("ISTANetPlus", features, 1 if shared else phases)
            ],
            phases if shared else 1,
            differentiation,
            start,
            complex_images,
            noise_range,
            ratio_range,
        )
        self.symmetry = symmetry

    def compacted_arguments(self) -> dict[str, Any]:
        phases: list[Any] = list(self.phases)
        return {"features": [list(phase.widths) for phase in phases]}

    def in_training(
        self, y: Tensor, operator: LinearOperator, *, noise: float | Tensor | None = None, every_phase: bool = False
    ) -> tuple[list[Tensor], Tensor | None]:
        """Reconstructions and, weighted, the mean asymmetry of the maps over the phases."""
        if not self.symmetry or self.fused:  # a fused network has no maps to compare
            return super().in_training(y, operator, noise=noise, every_phase=every_phase)
        steps = [phase.with_asymmetry for phase in self.sequence if isinstance(phase, ISTAPhase)]
        states = self.states(steps, y, operator, noise, every_phase)
        return [state[0] for state in states], self.symmetry * states[-1][1] / len(steps)


class ISTAPhase(SymmetricMaps, Phase):
    """x⁺ = b + G(H̃(soft(H(D(b))))), b = x − ρ∇f(x), with H = conv ∘ ReLU ∘ conv and H̃ likewise.

    Parameters
    ----------
    widths : Widths
        of the feature maps.
    shrinkage : Shrinkage or ShrinkageMixture
    parts : int
        1, or 2 for complex images.
    ranges : sequence of (low, high)
        of the numbers of the condition that step and threshold follow.
    """

    def __init__(
        self,
        widths: Widths,
        shrinkage: Shrinkage | ShrinkageMixture,
        parts: int = 1,
        ranges: Sequence[Interval] = (),
    ):
        super().__init__()
        self.raw_step = positive(1.0)
        self.make_maps(widths, shrinkage, parts)
        self.factors = Factors(ranges, 2) if ranges else None

    @property
    def step(self) -> Tensor:
        """Step size of the gradient, > 0."""
        return F.softplus(self.raw_step)

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        step, threshold = self.conditioned(condition, state[0].shape[1])
        b = state[0] - step * gradient(state[0], y, operator)
        analyse, synthesise, _ = self.prepare(threshold)
        return (b + per_channel(lambda image: synthesise(analyse(image)), b),)

    def with_asymmetry(
        self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> State:
        """The phase for training, whose state is the image and, after the first phase, the sum of the asymmetries."""
        x, *so_far = state
        step, threshold = self.conditioned(condition, x.shape[1])
        b = x - step * gradient(x, y, operator)
        analyse, synthesise, asymmetry = self.prepare(threshold)
        single = apart(b)
        features = analyse(single)
        total = so_far[0] + asymmetry(single, features) if so_far else asymmetry(single, features)
        return b + together(synthesise(features), b), total

    def conditioned(self, condition: Tensor | None, channels: int) -> tuple[Tensor, Tensor | None]:
        """The step for images of so many channels, and the factor of thresholds for each channel; None: 1."""
        if self.factors is None or condition is None:
            return self.step, None
        step, threshold = self.factors(condition).unbind(1)
        return self.step * of_images(step), of_images(threshold, channels)
