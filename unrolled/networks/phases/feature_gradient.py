"""A data step on the image, and residual blocks on feature maps that are handed from phase to phase."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.channelwise import apart, together
from unrolled.networks.conditioning import Factors, Interval, check_told, of_images
from unrolled.networks.data_steps.gradient_data_step import GradientStep, gradient
from unrolled.networks.data_steps.proximal_data_step import ProximalStep
from unrolled.networks.initial_weights import of_one_size
from unrolled.networks.phases.phase import FeatureMaps, Phase, State
from unrolled.networks.priors.half_resolution_prior import ResidualBlock
from unrolled.networks.sizes import check_sizes
from unrolled.operators import LinearOperator
from unrolled.penalties import Penalty


class FeatureGradientPhase(Phase):
    """x and feature maps z together: a data step v = x − d on the image, and then

        z⁺ = r_n(… r₁(C_in U(v, g) + γ z)),    r(z) = z + C' s(C z),    x⁺ = v + U⁻¹ C_out z⁺.

    g = Aᴴ(Ax − y) is the gradient of the distance to the measurements. The data step is a step down this gradient,
    d = ρg; or a proximal one, d = (AᴴA + λ)⁻¹g, after which v is the image nearest to x that explains the measurements
    (as far as λ asks for it), and C_in sees d too.

    U takes every scale × scale pixels of v and g apart into as many maps of that part of the resolution; C are 3×3
    convolutions with a bias, and C_out starts at 0, so an untrained phase is a data step. The gate γ is one learned
    number for every map. The first phase is given the start, in every map of z one of its pixels.
    Images whose sides are no multiples of the scale are continued by their last row or column.

    Parameters
    ----------
    features : int
        maps of z.
    blocks : int
        n, residual blocks.
    scale : int
        1: z has the resolution of the image; 2: half of it, at a quarter of the work a map.
    penalty : Penalty, list of Penalty, or None
        whose proximal map is s, with a learned threshold for every feature map; of a list, a learned mixture of their
        maps. None: s is a ReLU.
    threshold : float > 0
        where the thresholds start.
    step : float > 0
        where the learned ρ starts, or λ of proximal steps.
    gate : float
        where γ starts.
    channels : int
        of the image that are seen together; others have feature maps of their own, by the same weights.
    complex_images : bool
        whether images are complex; real and imaginary part are then seen together.
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scales ρ or λ, the thresholds, and what every block and C_out add.
    proximal : bool
        whether the data step is proximal.
    iterations : int, optional
        of conjugate gradients in it, at most, where an operator has no closed form; by default as many as are needed.

    Raises
    ------
    ValueError
        for numbers that are not in their ranges, and iterations of steps that have none.
    """

    def __init__(
        self,
        features: int = 64,
        blocks: int = 2,
        scale: int = 2,
        penalty: Penalty | list[Penalty] | None = None,
        threshold: float = 0.01,
        step: float = 1.0,
        gate: float = 0.5,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
        proximal: bool = False,
        iterations: int | None = None,
    ):
        super().__init__()
        if iterations is not None and not proximal:
            raise ValueError(f"FeatureGradientPhase: iterations are of proximal steps, got {iterations!r} without")
        check_sizes("FeatureGradientPhase", features=features, blocks=blocks, scale=scale, channels=channels)
        self.features, self.scale, self.channels, self.complex_images = features, scale, channels, complex_images
        pixels = scale**2 * channels * (2 if complex_images else 1)
        self.step = ProximalStep(step, iterations, ranges=ranges) if proximal else GradientStep(step, ranges)
        self.first = of_one_size(nn.Conv2d((3 if proximal else 2) * pixels, features, 3, padding=1), rectified=False)
        self.gate = nn.Parameter(torch.full((features,), float(gate)))
        self.blocks = nn.ModuleList(ResidualBlock(features, penalty, threshold=threshold) for _ in range(blocks))
        self.last = nn.Conv2d(features, pixels, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        self.factors = Factors(ranges, 1 + blocks + (penalty is not None)) if ranges else None
        self.carries = (FeatureMaps(scale),)
        self.alignment = scale
        # So many maps away, and the last of the pixels that a map is made of.
        self.reach = scale * (2 + 2 * blocks) + scale - 1

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        name = type(self).__name__
        if x.shape[1] % self.channels:
            raise ValueError(
                f"{name}: images must have a multiple of {self.channels} channels, which it sees together, got "
                f"{x.shape[1]}"
            )
        pixels = self._apart(x)
        z = pixels.repeat(1, -(-self.features // pixels.shape[1]), 1, 1)[:, : self.features]
        return x, z.reshape(len(x), -1, *z.shape[2:])

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, carried = state
        of_change, of_blocks, of_thresholds = self._told(condition, x)
        g = gradient(x, y, operator)
        change = self.step.correction(g, operator, condition)
        v = x - change
        seen = (v, g, change) if isinstance(self.step, ProximalStep) else (v, g)
        z = self.first(torch.cat([self._apart(image) for image in seen], 1)).to(carried.dtype)
        z = z + self.gate.view(-1, 1, 1) * carried.reshape(z.shape)
        for block, factor in zip(self.blocks, of_blocks, strict=True):
            z = block(z, factor, of_thresholds)
        added = F.pixel_shuffle(self.last(z), self.scale)[..., : x.shape[-2], : x.shape[-1]]
        added = added if of_change is None else of_change * added
        return v + together(added, v), z.to(carried.dtype).reshape(carried.shape)

    def _apart(self, image: Tensor) -> Tensor:
        """Pixels of an image as maps: U."""
        maps = apart(image, self.channels)
        frame = 0, -maps.shape[-1] % self.scale, 0, -maps.shape[-2] % self.scale
        pixels: Tensor = F.pixel_unshuffle(F.pad(maps, frame, "replicate") if any(frame) else maps, self.scale)
        return pixels

    def _told(self, condition: Tensor | None, x: Tensor) -> tuple[Tensor | None, list[Tensor | None], Tensor | None]:
        """The factors of what is added, of the blocks, and of the thresholds; None: they are what they are."""
        if self.factors is None:
            return None, [None] * len(self.blocks), None
        check_told(type(self).__name__, condition, len(self.factors.ranges), len(x))
        groups = x.shape[1] // self.channels
        change, *others = (of_images(factor, groups) for factor in self.factors(condition).unbind(1))
        blocks = len(self.blocks)
        return change, list(others[:blocks]), others[blocks] if len(others) > blocks else None
