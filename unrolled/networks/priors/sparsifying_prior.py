"""The learned proximal map of EPGN: to many maps, shrink them, and back."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, of_images
from unrolled.networks.map_widths import Widths, live_maps, of_channels, widths_of
from unrolled.networks.maps import ENOUGH, SparsifyingMap, SynthesisMap, WindowAttention, scaled, shrinking
from unrolled.networks.narrow import convolve
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture, shrinkage_of
from unrolled.networks.sizes import check_sizes
from unrolled.networks.windows import reach_through
from unrolled.penalties import Penalty


class SparsifyingPrior(MapPrior):
    """z + G̃(N(S(G(z)))), the learned proximal map of EPGN (Zhang, Ye, Chen, J. Imaging 8(7):178, 2022).

    G = B ∘ ReLU ∘ A ∘ D makes feature maps, S shrinks them, the nonlocal block N looks around in windows, or does
    nothing, and G̃ = D̃ ∘ Ã ∘ ReLU ∘ B̃ makes an image of them. All are 3×3 convolutions without bias; the last one
    starts at 0.

    Parameters
    ----------
    features : int or list of int
        feature maps; of a prior that was compacted four numbers, see `Widths`.
    nonlocal_window : int or None
        side in pixels of the windows of N, for an even number of feature maps; None: N is the identity.
    penalty : Penalty, list of Penalty, or None
        whose proximal map is S; of a list, a learned mixture of their maps. Default: L1.
    learn_penalty : bool
        learn the parameters of the penalties too.
    shrink_channels : bool
        a learned threshold for every feature map instead of one for all; also parameters and weights, if learned.
    threshold : float > 0
        where the thresholds start.
    channels, complex_images, ranges
        see `MapPrior`; the condition scales the thresholds.
    """

    def __init__(
        self,
        features: int | list[int] = 32,
        nonlocal_window: int | None = None,
        penalty: Penalty | list[Penalty] | None = None,
        learn_penalty: bool = False,
        shrink_channels: bool = False,
        threshold: float = 0.01,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        widths = widths_of("SparsifyingPrior", features)
        if nonlocal_window is not None:
            check_sizes("SparsifyingPrior", nonlocal_window=nonlocal_window)
        super().__init__(channels, complex_images, ranges)
        shrinkage = shrinkage_of(penalty, widths.shrunk if shrink_channels else None, threshold, learn_penalty)
        self.prox = LearnedProx(widths, shrinkage, nonlocal_window, self.parts)
        self.reach, self.alignment = self.prox.reach, self.prox.alignment

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        return self.prox.prepare(None if factors is None else of_images(factors[:, 0]))(maps)

    def compact(self) -> None:
        """Leave out the feature maps that are 0 or that nobody reads, see `UnrolledNetwork.compacted`."""
        self.prox = self.prox.compacted()
        self.arguments = {**self.arguments, "features": list(self.prox.widths)}


class LearnedProx(nn.Module):
    """prox(b) = b + G̃(N(S(G(b)))), on images as so many real maps.

    Parameters
    ----------
    widths : Widths
    shrinkage : Shrinkage or ShrinkageMixture
        S, on the feature maps.
    window : int or None
        of the nonlocal block N; None: N is the identity.
    parts : int
        maps of an image that are seen together: 1, or 2 for complex ones.
    """

    def __init__(
        self, widths: Widths, shrinkage: Shrinkage | ShrinkageMixture, window: int | None = None, parts: int = 1
    ):
        super().__init__()
        self.widths = widths
        self.sparsify = SparsifyingMap(widths.middle, widths.inner, widths.shrunk, parts)  # G
        self.shrinkage = shrinkage  # S
        self.attend = nn.Identity() if window is None else WindowAttention(widths.shrunk, window)  # N
        self.synthesize = SynthesisMap(widths.shrunk, widths.back, widths.middle, parts)  # G̃

    def prepare(self, factor: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """The map with its kernels composed once, for every image that a phase applies it to.

        Parameters
        ----------
        factor : Tensor, (batch, 1, 1, 1), optional
            of the thresholds.
        """
        g, g_back = self.sparsify, self.synthesize
        first, last = g.pair.kernel(), g_back.pair.kernel()
        inner, inner_back = g.conv.weight, g_back.conv.weight
        if isinstance(self.attend, nn.Identity):
            shrink, inner, inner_back = shrinking(self.shrinkage, inner, inner_back, factor)
        else:
            shrink = scaled(self.shrinkage, factor)

        def prox(b: Tensor) -> Tensor:
            z = F.conv2d(F.relu(convolve(b, first, inner), inplace=True), inner, padding=1)
            z = F.conv2d(self.attend(shrink(z)), inner_back, padding=1)
            return b + convolve(F.relu(z, inplace=True), last).to(b.dtype)

        return prox

    @property
    def reach(self) -> int:
        """How many pixels away the map looks: 5×5 and 3×3 on either side of the shrinkage, and a window between."""
        between = [(self.attend.window, 0)] if isinstance(self.attend, WindowAttention) else []
        return reach_through([2 + 1, *between, 1 + 2])

    @property
    def alignment(self) -> int:
        """Parts of an image that it is to treat as the whole begin at multiples of so many pixels."""
        return self.attend.window if isinstance(self.attend, WindowAttention) else 1

    def forward(self, b: Tensor) -> Tensor:
        return self.prepare()(b)

    def compacted(self) -> "LearnedProx":
        """The same map without the feature maps that are 0 or that nobody reads, see `UnrolledNetwork.compacted`.

        Raises
        ------
        ValueError
            if it has a nonlocal block.
        """
        if not isinstance(self.attend, nn.Identity):
            raise ValueError("compacted: nonlocal_window must be None, for attention reads all feature maps")
        g, g_back = self.sparsify, self.synthesize
        inner, shrunk, back = live_maps(
            g.pair.sides(True)[1], g.conv.weight, g_back.conv.weight, g_back.pair.sides(False)[1]
        )
        parts = g.pair.first.shape[1]
        widths = Widths(len(inner), len(shrunk), len(back), min(ENOUGH * parts, self.widths.middle))
        small = LearnedProx(widths, of_channels(self.shrinkage, shrunk), parts=parts)
        small = small.to(g.conv.weight).train(self.training)
        small.sparsify.pair.take(g.pair, inner, True)
        small.sparsify.conv.weight.copy_(g.conv.weight[shrunk][:, inner])
        small.synthesize.conv.weight.copy_(g_back.conv.weight[back][:, shrunk])
        small.synthesize.pair.take(g_back.pair, back, False)
        return small
