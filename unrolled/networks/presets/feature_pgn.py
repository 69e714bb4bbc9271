"""A proximal gradient network whose phases hand on feature maps beside the image."""

from unrolled.networks.conditioning import told
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.phases.feature_gradient import FeatureGradientPhase
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.penalties import Penalty


class FeaturePGN(UnrolledNetwork):
    """v = x − ρg with g = Aᴴ(Ax − y);  z⁺ = blocks(C(v, g) + γz);  x⁺ = v + C′z⁺: feature maps z are carried on.

    A network of our own, of the kind of MADUN (Song and others, ACM Multimedia 2021), DPC-DUN (Song and others, IEEE
    Trans. Image Processing 32, 2023) and SCNet: what a phase has found of an image is not pressed into one channel
    before the next. Here feature maps lie at half of the resolution, where many are cheap, and pass a learned gate γ;
    see `FeatureGradientPhase`.

    Parameters
    ----------
    phases : int
        iterations.
    features, blocks, scale, penalty, threshold, step, gate
        see `FeatureGradientPhase`.
    proximal, iterations
        see `FeatureGradientPhase`: with `proximal` the data step is v = x − (AᴴA + λ)⁻¹g.
    shared : bool
        whether all phases have the same weights.
    channels : int
        of the image that are seen together.
    differentiation, start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`.

    Examples
    --------
    >>> FeaturePGN().parameter_count
    928542
    """

    def __init__(
        self,
        phases: int = 6,
        features: int = 64,
        blocks: int = 2,
        scale: int = 2,
        penalty: Penalty | list[Penalty] | None = None,
        threshold: float = 0.01,
        step: float = 1.0,
        gate: float = 0.5,
        proximal: bool = False,
        iterations: int | None = None,
        shared: bool = False,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("FeaturePGN", phases=phases)
        ranges = told("FeaturePGN", noise_range, ratio_range)
        sizes = features, blocks, scale, penalty, threshold, step, gate, channels, complex_images
        super().__init__(
            [FeatureGradientPhase(*sizes, ranges, proximal, iterations) for _ in range(1 if shared else phases)],
            phases if shared else 1,
            differentiation,
            start,
            complex_images,
            noise_range,
            ratio_range,
        )
