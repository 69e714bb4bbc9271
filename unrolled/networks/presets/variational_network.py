"""The variational network, with fields of experts."""

from unrolled.networks.conditioning import told
from unrolled.networks.data_steps.gradient_data_step import GradientStep
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.phases.variational_phase import VariationalPhase
from unrolled.networks.priors.fields_of_experts import FieldsOfExperts
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork


class VariationalNetwork(UnrolledNetwork):
    """x⁺ = x − ρAᴴ(Ax − y) − Σₖ Kₖᵀφₖ(Kₖx), with learned filters Kₖ, activations φₖ and step ρ in every phase.

    Hammernik and others, Magnetic Resonance in Medicine 79(6), 2018, equation 5. At its size there, 10 phases of 48
    complex filters of 11² with 31 weights of each activation, it has 131,050 parameters.

    Parameters
    ----------
    phases : int
        iterations.
    filters, size, functions : int
        how many filters there are, the pixels of their sides, and the Gaussians that make an activation; see
        `FieldsOfExperts`.
    step : float > 0
        where the learned ρ starts.
    shared : bool
        whether all phases have the same filters, activations and step.
    channels : int
        of the image that the filters see together.
    differentiation, start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`.

    Examples
    --------
    >>> VariationalNetwork(complex_images=True).parameter_count
    131050
    """

    def __init__(
        self,
        phases: int = 10,
        filters: int = 48,
        size: int = 11,
        functions: int = 31,
        step: float = 1.0,
        shared: bool = False,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("VariationalNetwork", phases=phases)
        ranges = told("VariationalNetwork", noise_range, ratio_range)
        super().__init__(
            [
                VariationalPhase(
                    FieldsOfExperts(
                        filters, size, functions, channels=channels, complex_images=complex_images, ranges=ranges
                    ),
                    GradientStep(step, ranges),
                )
                for _ in range(1 if shared else phases)
            ],
            phases if shared else 1,
            differentiation,
            start,
            complex_images,
            noise_range,
            ratio_range,
        )
