"""Deep equilibrium networks: the fixed point of one phase."""

from typing import Any

from unrolled.networks.composed import check_images
from unrolled.networks.conditioning import told
from unrolled.networks.data_steps.gradient_data_step import GradientStep
from unrolled.networks.differentiation import Differentiation, Implicit
from unrolled.networks.phases.phase import Phase
from unrolled.networks.phases.proximal_gradient import ProximalGradientPhase
from unrolled.networks.priors.residual_cnn import ResidualCNN
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork


class DeepEquilibrium(UnrolledNetwork):
    """x* = phase(x*, y): one phase, any, repeated, and differentiated at its fixed point.

    Bai, Kolter, Koltun, NeurIPS 2019; for inverse problems Gilton, Ongie, Willett, IEEE Trans. Computational Imaging 7,
    2021, whose DE-Grad and DE-Prox it is with a `ProximalGradientPhase` and whose DE-ADMM with an `ADMMPhase`. Training
    takes the memory of one phase, see `Implicit`, and its gradient is right where the phases have converged, which
    nothing forces them to; `iterates` shows whether they have.

    The number of phases is fixed, so that an image does not depend on those beside it in a batch, and that the network
    compiles to one graph where no gradient is asked for. It can be set anew at any time: `network.repeats = 100`.
    `differentiation=Implicit(memory=5)` takes fewer of them, by Anderson's acceleration, but has no tiles.

    Parameters
    ----------
    phase : Phase, optional
        by default x⁺ = D(x − ρAᴴ(Ax − y)) with a `ResidualCNN` D.
    phases : int
        iterations.
    features, depth, channels : int
        of D, see `ResidualCNN`; a phase of one's own has its own.
    differentiation : Differentiation, optional
        by default `Implicit(iterations=phases)`: while phases do not contract yet, as at the start of training, where D
        is the identity, more iterations of the gradient than of the image make it too large.
    start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`.

    Examples
    --------
    >>> DeepEquilibrium().parameter_count
    112002
    """

    def __init__(
        self,
        phase: Phase | None = None,
        phases: int = 30,
        features: int = 64,
        depth: int = 5,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("DeepEquilibrium", phases=phases)
        ranges = told("DeepEquilibrium", noise_range, ratio_range)
        if phase is None:
            prior = ResidualCNN(features, depth, channels, complex_images, ranges)
            phase = ProximalGradientPhase(prior, GradientStep(ranges=ranges))
        elif not isinstance(phase, Phase):
            raise ValueError(f"DeepEquilibrium: phase must be of the class Phase, got {phase!r}")
        check_images("DeepEquilibrium", phase, complex_images)
        how = Implicit(iterations=phases) if differentiation is None else differentiation
        super().__init__([phase], phases, how, start, complex_images, noise_range, ratio_range)

    def compacted_arguments(self) -> dict[str, Any]:
        return {}  # the phase says it
