"""Learned primal-dual."""

from unrolled.networks.conditioning import told
from unrolled.networks.differentiation import Differentiation, Implicit
from unrolled.networks.phases.learned_primal_dual_phase import LearnedPrimalDualPhase
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork


class LearnedPrimalDual(UnrolledNetwork):
    """h⁺ = h + D(h, A f₂, y);  f⁺ = f + P(f, Aᴴh₁⁺);  the result is f₁: every phase has its own learned D and P.

    Adler, Öktem, IEEE Trans. Med. Imaging 37(6), 2018, algorithm 3, with a memory of n images f and n duals h. Duals
    begin at 0. For operators whose measurements are pictures, such as sinograms or the Fourier plane: D convolves them.
    It carries measurements, so there are no tiles. Every map has a slope of its own; deepinv's `PDNet`, whose maps
    share one, has 251,980 parameters at the same sizes.

    Parameters
    ----------
    phases : int
        iterations.
    memory : int >= 2
        n.
    features : int
        maps between the convolutions.
    channels : int
        of the image that P sees together.
    measured_channels : int, optional
        of the measurements that D sees together; by default as many as of the image. The first axis after the batch is
        meant; coils are treated alike.
    differentiation : Differentiation, optional
        `Unroll()` or `Recompute()`.
    start : Start, optional
        what all images begin with; by default `LinearStart()`. In the paper they begin at 0: `ZeroStart()`.
    complex_images : bool
        see `UnrolledNetwork`.
    complex_measurements : bool, optional
        whether measurements are complex; by default if images are.
    noise_range, ratio_range
        see `UnrolledNetwork`.

    Examples
    --------
    >>> LearnedPrimalDual().parameter_count
    253220
    """

    def __init__(
        self,
        phases: int = 10,
        memory: int = 5,
        features: int = 32,
        channels: int = 1,
        measured_channels: int | None = None,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        complex_measurements: bool | None = None,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("LearnedPrimalDual", phases=phases)
        if isinstance(differentiation, Implicit):
            raise ValueError(
                "LearnedPrimalDual: differentiation must be Unroll() or Recompute(), for its phases have weights of "
                f"their own and no fixed point, got {differentiation!r}"
            )
        complex_duals = complex_images if complex_measurements is None else complex_measurements
        ranges = told("LearnedPrimalDual", noise_range, ratio_range)
        super().__init__(
            [
                LearnedPrimalDualPhase(
                    memory, features, channels, measured_channels, complex_images, complex_duals, ranges
                )
                for _ in range(phases)
            ],
            1,
            differentiation,
            start,
            complex_images,
            noise_range,
            ratio_range,
        )
