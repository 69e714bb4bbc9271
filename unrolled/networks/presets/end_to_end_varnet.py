"""The end-to-end variational network of magnetic resonance, which estimates the maps of the coils, too."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, told
from unrolled.networks.data_steps.gradient_data_step import GradientStep
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.phases.soft_consistency import SoftConsistencyPhase
from unrolled.networks.priors.unet import UNet
from unrolled.networks.sensitivities import SensitivityNetwork
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.networks.unrolled import UnrolledNetwork
from unrolled.operators import LinearOperator, MultiCoilFourier
from unrolled.operators.frequencies import inverse_fourier
from unrolled.operators.sampled_fourier import SampledFourier


class EndToEndVarNet(UnrolledNetwork):
    """k⁺ = k − ηM(k − y) − F S R(Sᴴ F⁻¹ k), with a normalised U-Net R of every phase and maps S of a network.

    Sriram and others, MICCAI 2020, equations 8 to 11. k is the k-space of all coils, M the mask; the image is
    x = Sᴴ F⁻¹ k. `SoftConsistencyPhase` tells how two images stand for k, exactly. The maps are estimated from the
    fully sampled middle of y, see `SensitivityNetwork`, and take the place of those of the operator. At the size of
    fastMRI, which is the default, it has 29.9 million parameters; small U-Nets do well with little data.

    A sum of squares tells nothing of units and of phases. The image is in the units of y, so it is that of an operator
    whose maps have 1 as the sum of their squares, as `Coils` and `Espirit` make them; and the phase of the image cannot
    be told from that of the maps, so losses compare magnitudes.

    Operators that are no `MultiCoilFourier`, such as those of a single coil, stay as they are; while it is trained for
    them, the network of maps rests.

    Parameters
    ----------
    phases : int
        iterations.
    features, scales : int
        of the U-Nets R, see `UNet`.
    map_features, map_scales : int
        of the U-Net that estimates the maps; with map_features=None there is none, and the maps are those of the
        operator. It is for complex images: of real ones the operator's maps are taken in any case.
    residual : bool
        U-Nets make what is added to an image, and start at 0: an untrained network is the adjoint, with the maps of
        self-calibration. Otherwise they make R(x) and the maps themselves, as those of fastMRI, whose weights fit then.
    step : float > 0
        where the learned η starts.
    channels : int
        of the image that R sees together.
    differentiation, start, complex_images, noise_range, ratio_range
        see `UnrolledNetwork`.

    Examples
    --------
    >>> EndToEndVarNet(phases=2, features=8, map_features=4, complex_images=True).parameter_count
    1091064
    """

    def __init__(
        self,
        phases: int = 12,
        features: int = 18,
        scales: int = 4,
        map_features: int | None = 8,
        map_scales: int = 4,
        residual: bool = True,
        step: float = 1.0,
        channels: int = 1,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
        ratio_range: tuple[float, float] | None = None,
    ):
        check_sizes("EndToEndVarNet", phases=phases, map_scales=map_scales)
        if map_features is not None:
            check_sizes("EndToEndVarNet", map_features=map_features)
        ranges = told("EndToEndVarNet", noise_range, ratio_range)

        def u_net(features: int, scales: int, channels: int, complex_images: bool, ranges: Sequence[Interval]) -> UNet:
            return UNet(
                features,
                scales,
                normalized=True,
                residual=residual,
                channels=channels,
                complex_images=complex_images,
                ranges=ranges,
            )

        super().__init__(
            [
                SoftConsistencyPhase(
                    u_net(features, scales, channels, complex_images, ranges),
                    GradientStep(step, ranges),
                    direct=not residual,
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
        self.maps: SensitivityNetwork | None = None
        self.resting: list[nn.Parameter] = []
        if map_features is not None and complex_images:
            self.maps = SensitivityNetwork(u_net(map_features, map_scales, 1, True, []))
            self.estimates_maps = True

    def check(self, operator: LinearOperator) -> None:
        super().check(operator)
        if self.maps is not None and isinstance(operator, MultiCoilFourier) and operator.sets:
            raise ValueError(
                f"EndToEndVarNet: estimates one set of maps, and {type(operator).__name__} has {operator.sets} sets; "
                "make it with map_features=None, and it takes those of the operator"
            )

    def fit_operator(self, operator: LinearOperator) -> None:
        for parameter in self.resting:
            parameter.requires_grad_(True)
        unused = [] if self.maps is None or self._estimates(operator) else self.maps.parameters()
        self.resting = [parameter for parameter in unused if parameter.requires_grad]
        for parameter in self.resting:
            parameter.requires_grad_(False)

    def norm_of(self, operator: LinearOperator) -> float:
        # Maps that it estimates have the norm 1, whatever that of the operator's.
        return 1.0 if self._estimates(operator) else super().norm_of(operator)

    def operator_of(self, y: Tensor, operator: LinearOperator) -> LinearOperator:
        if self.maps is None or not isinstance(operator, MultiCoilFourier):
            return operator
        return operator.with_maps(self.maps(self.taken(y), operator))

    def compared(self, image: Tensor, truth: Tensor, operator: LinearOperator) -> tuple[Tensor, Tensor]:
        return (image.abs(), truth.abs()) if self._estimates(operator) else (image, truth)

    def _estimates(self, operator: LinearOperator) -> bool:
        return self.maps is not None and isinstance(operator, MultiCoilFourier)

    def magnitude(self, y: Tensor, operator: LinearOperator, *, noise: float | Tensor | None = None) -> Tensor:
        """The root of the sum of squares of the coils' images F⁻¹k: what the network of fastMRI returns.

        It holds what the coils measured and the maps do not explain, such as noise, which Sᴴ F⁻¹k leaves out.

        Parameters
        ----------
        y, operator, noise
            as when it is called; the operator is a `MaskedFourier` or a `MultiCoilFourier`.

        Returns
        -------
        Tensor, (batch, channel, height, width), real

        Raises
        ------
        ValueError
            as when it is called, and for operators that measure no k-space.
        """
        y, operator, condition = self.given(y, operator, noise)
        if not isinstance(operator, SampledFourier):
            raise ValueError(
                "EndToEndVarNet: magnitude is that of k-space, by MaskedFourier or MultiCoilFourier with maps of the "
                f"norm 1, got {type(operator).__name__}"
            )
        state = self.begin(y, operator)
        _, sampled, others = self.differentiation.run(self.sequence, state, y, operator, condition)
        everywhere = operator.with_mask(torch.ones_like(operator.mask))
        k = operator.sampled(y) + operator(sampled - others) + everywhere(others)
        images: Tensor = inverse_fourier(k, operator.centered).abs()
        if images.ndim == 5:
            images = torch.linalg.vector_norm(images, dim=2)
        return images
