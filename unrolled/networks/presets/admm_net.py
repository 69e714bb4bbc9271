"""ADMM-Net, the alternating direction method of multipliers with a learned prior."""

from typing import Any

from unrolled.networks.conditioning import told
from unrolled.networks.data_steps.proximal_data_step import ProximalStep
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.map_widths import of_each
from unrolled.networks.phases.admm import ADMMPhase
from unrolled.networks.presets.own_priors import priors_of_phases
from unrolled.networks.priors.prior import Prior
from unrolled.networks.priors.residual_cnn import ResidualCNN
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork


class ADMMNet(UnrolledNetwork):
    """z = D(x + u);  x⁺ = (AᴴA + λ)⁻¹(Aᴴy + λ(z − u));  u⁺ = u + x⁺ − z, a learned denoiser D and λ in every phase.

    Yang, Sun, Li, Xu, IEEE Trans. Pattern Anal. Mach. Intell. 42(3), 2020, whose D is a learned shrinkage in a learned
    transform; with a convolutional network as here, and steps towards x in place of the closed form, it is the vSHARP
    of Yiasemis, Moriakov, Sonke, Teuwen, Magn. Reson. Imaging 115, 2025.

    Parameters
    ----------
    phases : int
        iterations.
    features, depth : int
        of D, see `ResidualCNN`.
    ridge : float > 0
        where the learned λ of every phase starts.
    shared : bool
        whether all phases have one D and one λ.
    prior : Prior, any module that maps images to images, or a list of them, one for each phase; optional
        in place of D, and then features, depth and channels are its own; each phase has one like it.
    channels : int
        of the image that D sees together.
    differentiation, start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`. The noise level scales λ and what D takes away.

    Examples
    --------
    >>> ADMMNet(phases=4, features=32).parameter_count
    113416
    """

    def __init__(
        self,
        phases: int = 8,
        features: int = 64,
        depth: int = 5,
        ridge: float = 0.2,
        shared: bool = False,
        prior: Prior | list[Prior] | None = None,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("ADMMNet", phases=phases)
        ranges = told("ADMMNet", noise_range, ratio_range)
        priors = priors_of_phases(
            "ADMMNet",
            prior,
            lambda: ResidualCNN(features, depth, channels, complex_images, ranges),
            1 if shared else phases,
            shared,
            complex_images,
        )
        super().__init__(
            [ADMMPhase(each, ProximalStep(ridge, ranges=ranges)) for each in priors],
            phases if shared else 1,
            differentiation,
            start,
            complex_images,
            noise_range,
            ratio_range,
        )

    def compacted_arguments(self) -> dict[str, Any]:
        return {"prior": of_each([phase.prior for phase in self.phases])}
