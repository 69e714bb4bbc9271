"""HQS-Net, half-quadratic splitting with one prior for all phases, after USRNet."""

from typing import Any

from unrolled.networks.conditioning import told
from unrolled.networks.data_steps.proximal_data_step import ProximalStep
from unrolled.networks.differentiation import Differentiation, Implicit
from unrolled.networks.map_widths import of_each
from unrolled.networks.phases.half_quadratic import HalfQuadraticPhase
from unrolled.networks.positive_numbers import check_positive
from unrolled.networks.presets.own_priors import listens, priors_of_phases
from unrolled.networks.priors.prior import Prior
from unrolled.networks.priors.residual_cnn import ResidualCNN
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork


class HQSNet(UnrolledNetwork):
    """x_k = (AᴴA + α_k)⁻¹(Aᴴy + α_k z_{k−1});  z_k = D(x_k, β_k): half-quadratic splitting with a learned denoiser D.

    After USRNet (Zhang, Van Gool, Timofte, CVPR 2020, equations 6 to 11): D is one network in all phases and is told
    β_k, the noise level that it is to remove; α_k and β_k follow the noise level of the measurements through a small
    network, if the network is told it (`noise_range`). The equation of x_k is solved in closed form for blur,
    downsampling, inpainting and sampled Fourier transforms, for others by conjugate gradients.

    Parameters
    ----------
    phases : int
        iterations.
    features, depth : int
        of D, see `ResidualCNN`.
    ridges : (first, last), both > 0
        where the learned α_k start: from the first phase to the last one in equal ratios.
    levels : (first, last), both > 0
        where the learned β_k start, where white is 1.
    shared : bool
        whether all phases have one D; each has an α and a β of its own.
    prior : Prior, any module that maps images to images, or a list of them, one for each phase; optional
        in place of D, and then features, depth and channels are its own. Its condition is the one number β_k: a prior
        that scales by it is made with one range. One that is made without ranges is told nothing.
    channels : int
        of the image that D sees together.
    differentiation, start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`; no `Implicit`, for no two phases are one.

    Examples
    --------
    >>> HQSNet(phases=6).parameter_count
    112037
    """

    def __init__(
        self,
        phases: int = 8,
        features: int = 64,
        depth: int = 5,
        ridges: tuple[float, float] = (0.02, 0.5),
        levels: tuple[float, float] = (0.2, 0.02),
        shared: bool = True,
        prior: Prior | list[Prior] | None = None,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("HQSNet", phases=phases)
        if isinstance(differentiation, Implicit):
            raise ValueError(
                "HQSNet: differentiation by Implicit needs phases that are one, and here each has weights of its own, "
                "α and β; DeepEquilibrium repeats one phase"
            )
        ranges = told("HQSNet", noise_range, ratio_range)
        alphas, betas = in_equal_ratios("ridges", ridges, phases), in_equal_ratios("levels", levels, phases)
        told_to_prior = [(min(betas) / 2, 2 * max(betas))]
        priors = priors_of_phases(
            "HQSNet",
            prior,
            lambda: ResidualCNN(features, depth, channels, complex_images, told_to_prior),
            phases,
            shared,
            complex_images,
        )
        super().__init__(
            [
                HalfQuadraticPhase(
                    each,
                    ProximalStep(alpha, ranges=ranges),
                    level=beta if listens(each) else None,
                    ranges=ranges if listens(each) else [],
                )
                for each, alpha, beta in zip(priors, alphas, betas, strict=True)
            ],
            1,
            differentiation,
            start,
            complex_images,
            noise_range,
            ratio_range,
        )

    def compacted_arguments(self) -> dict[str, Any]:
        return {"prior": of_each([phase.prior for phase in self.phases])}


def in_equal_ratios(name: str, ends: tuple[float, float], count: int) -> list[float]:
    """So many numbers from one to another, each the same multiple of the one before; of one number the last.

    Raises
    ------
    ValueError
        unless there are two finite numbers > 0.
    """
    if not isinstance(ends, (tuple, list)) or len(ends) != 2:
        raise ValueError(f"HQSNet: {name} must be two numbers > 0, got {ends!r}")
    first, last = ends
    for end in ends:
        check_positive("HQSNet", **{name: end})
    return [last * (first / last) ** (left / max(count - 1, 1)) for left in range(count - 1, -1, -1)]
