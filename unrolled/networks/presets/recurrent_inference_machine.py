"""The recurrent inference machine."""

from unrolled.networks.conditioning import told
from unrolled.networks.differentiation import Differentiation, Implicit
from unrolled.networks.phases.recurrent import RecurrentPhase
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork


class RecurrentInferenceMachine(UnrolledNetwork):
    """(x⁺, s⁺) = h(x, ∇f(x), s), f(x) = ½‖Ax − y‖²: one recurrent network h, in all phases the same, with a memory s.

    Putzer, Welling, "Recurrent inference machines for solving inverse problems", 2017, equation 9; h in the form of
    Lønning and others, Medical Image Analysis 53, 2019: three convolutions, a gated recurrent unit after each of the
    first two, see `RecurrentPhase`. In the papers it is trained by the images of all phases: that is
    `PhaseLoss(MSELoss(), decay=1.0)` of `unrolled.training.losses`; its own loss is that of the last one.

    Parameters
    ----------
    phases : int
        iterations. All are one phase, with one set of weights.
    features : int
        maps of every layer, and of either memory.
    channels : int
        of the image that h sees together.
    differentiation : Differentiation, optional
        `Unroll()` or `Recompute()`.
    start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`.

    Examples
    --------
    >>> RecurrentInferenceMachine(complex_images=True).parameter_count
    94080
    """

    def __init__(
        self,
        phases: int = 8,
        features: int = 64,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("RecurrentInferenceMachine", phases=phases, features=features, channels=channels)
        if isinstance(differentiation, Implicit):
            raise ValueError(
                "RecurrentInferenceMachine: differentiation must be Unroll() or Recompute(), for what it remembers "
                f"changes from phase to phase and has no fixed point that it is trained for, got {differentiation!r}"
            )
        ranges = told("RecurrentInferenceMachine", noise_range, ratio_range)
        phase = RecurrentPhase(features, channels, complex_images, ranges)
        super().__init__([phase], phases, differentiation, start, complex_images, noise_range, ratio_range)
