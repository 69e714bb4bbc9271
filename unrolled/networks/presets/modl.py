"""MoDL, model-based deep learning."""

from unrolled.networks.conditioning import told
from unrolled.networks.data_steps.proximal_data_step import ProximalStep
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.phases.data_consistency import DataConsistencyPhase
from unrolled.networks.priors.residual_cnn import ResidualCNN
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork


class MoDL(UnrolledNetwork):
    """x⁺ = (AᴴA + λ)⁻¹(Aᴴy + λD(x)), one learned denoiser D and one λ in all phases.

    Aggarwal, Mani, Jacob, IEEE Trans. Med. Imaging 38(2), 2019, equations 9 to 11; D is a residual network, here
    without its batch normalisation.

    Parameters
    ----------
    phases : int
        iterations.
    features, depth : int
        of D, see `ResidualCNN`.
    ridge : float > 0
        where the learned λ starts.
    shared : bool
        whether all phases have one D and one λ, as in the paper.
    channels : int
        of the image that D sees together.
    differentiation, start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`.

    Examples
    --------
    >>> MoDL(complex_images=True).parameter_count
    113155
    """

    def __init__(
        self,
        phases: int = 10,
        features: int = 64,
        depth: int = 5,
        ridge: float = 0.05,
        shared: bool = True,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("MoDL", phases=phases)
        ranges = told("MoDL", noise_range, ratio_range)
        super().__init__(
            [
                DataConsistencyPhase(
                    ResidualCNN(features, depth, channels, complex_images, ranges), ProximalStep(ridge, ranges=ranges)
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
