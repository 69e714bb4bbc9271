"""A step that a recurrent network makes of the image and the gradient, and of what it remembers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.channelwise import apart, together
from unrolled.networks.conditioning import Factors, Interval, check_told, of_images
from unrolled.networks.data_steps.gradient_data_step import gradient
from unrolled.networks.initial_weights import of_one_size
from unrolled.networks.phases.phase import FeatureMaps, Phase, State
from unrolled.networks.recurrent_cells import GatedCell
from unrolled.networks.sizes import check_sizes
from unrolled.operators import LinearOperator


class RecurrentPhase(Phase):
    """x⁺ = x + C₃s₂⁺, s₁⁺ = GRU(ReLU(C₁[x, ∇f(x)]), s₁), s₂⁺ = GRU(ReLU(C₂s₁⁺), s₂), f(x) = ½‖Ax − y‖².

    C₁ is a 5×5 convolution, C₂ a 3×3 one of every other pixel and C₃ a 3×3 one that starts at 0; the recurrent units
    s⁺ = GRU(v, s) remember feature maps, see `GatedCell`, which begin at 0.

    Parameters
    ----------
    features : int
        maps of every layer and every unit.
    channels : int
        of an image that are seen together.
    complex_images : bool
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale the gradient that is looked at, and what is added.
    """

    carries = (FeatureMaps(), FeatureMaps())
    reach = 2 + 2 + 1

    def __init__(
        self,
        features: int = 64,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        super().__init__()
        check_sizes("RecurrentPhase", features=features, channels=channels)
        self.features, self.channels = features, channels
        parts = channels * (2 if complex_images else 1)
        self.first = of_one_size(nn.Conv2d(2 * parts, features, 5, padding=2))
        self.second = of_one_size(nn.Conv2d(features, features, 3, padding=2, dilation=2))
        self.last = nn.Conv2d(features, parts, 3, padding=1, bias=False)
        self.cells = nn.ModuleList([GatedCell(features, features), GatedCell(features, features)])
        nn.init.zeros_(self.last.weight)
        self.factors = Factors(ranges, 2) if ranges else None

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        """The start, and nothing remembered.

        Raises
        ------
        ValueError
            if the image has no multiple of the channels that are seen together.
        """
        if x.shape[1] % self.channels:
            raise ValueError(
                f"RecurrentPhase: images must have a multiple of {self.channels} channels, which it sees together, got "
                f"{x.shape[1]}"
            )
        maps = x.shape[1] // self.channels * self.features
        nothing = torch.zeros(len(x), maps, *x.shape[2:], dtype=x.real.dtype, device=x.device)
        return x, nothing, nothing

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        x, *memory = state
        slope, of_change = gradient(x, y, operator), None
        if self.factors is not None:
            check_told("RecurrentPhase", condition, len(self.factors.ranges))
            of_slope, of_change = self.factors(condition).unbind(1)
            slope = of_images(of_slope) * slope
        s1, s2 = (apart(s, self.features) for s in memory)
        seen = torch.cat([apart(x, self.channels), apart(slope, self.channels)], 1)
        s1 = self.cells[0](F.relu(self.first(seen)), s1)
        s2 = self.cells[1](F.relu(self.second(s1)), s2)
        change = together(self.last(s2), x)
        x = x + (change if of_change is None else of_images(of_change) * change)
        return x, *(together(new, old) for new, old in zip((s1, s2), memory, strict=True))
