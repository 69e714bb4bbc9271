"""The learned maps of ISTA-Net+: to many maps, shrink them, and back by what is to be the inverse."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, of_images
from unrolled.networks.map_widths import Widths, live_maps, of_channels, widths_of
from unrolled.networks.maps import ConvolutionPair, shrinking
from unrolled.networks.narrow import convolve
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture, shrinkage_of
from unrolled.penalties import Penalty

Map = Callable[[Tensor], Tensor]


class SymmetricMaps(nn.Module):
    """z ↦ G(H̃(S(H(D(z))))) for a module that holds the weights of these maps beside others of its own.

    H = conv ∘ ReLU ∘ conv, and H̃ likewise; D comes from an image and G goes back to one, which S, a shrinkage, stands
    in the middle of.
    """

    reach: int | None = 2 + 1 + 1 + 2  # 5×5 and 3×3 on either side of the shrinkage

    def make_maps(self, widths: Widths, shrinkage: Shrinkage | ShrinkageMixture, parts: int = 1) -> None:
        """Make the weights, those of G 0.

        Parameters
        ----------
        widths : Widths
        shrinkage : Shrinkage or ShrinkageMixture
            S.
        parts : int
            maps of an image that are seen together.
        """
        self.widths, self.shrinkage = widths, shrinkage
        self.analysis = ConvolutionPair(parts, widths.middle, widths.inner)  # D, then the first of H
        self.analysis_last = nn.Parameter(torch.empty(widths.shrunk, widths.inner, 3, 3))
        self.synthesis_first = nn.Parameter(torch.empty(widths.back, widths.shrunk, 3, 3))
        self.synthesis = ConvolutionPair(widths.back, widths.middle, parts)  # the last of H̃, then G
        for weight in (self.analysis_last, self.synthesis_first):
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(self.synthesis.second)

    @torch.no_grad()
    def compact(self) -> None:
        """Leave out the feature maps that are 0 or that nobody reads, see `UnrolledNetwork.compacted`.

        The maps D(b) stay as they are, for H̃ is to bring them back.
        """
        pair, pair_back, last, first = self.analysis, self.synthesis, self.analysis_last, self.synthesis_first
        inner, shrunk, back = live_maps(pair.sides(True)[1], last, first, pair_back.sides(False)[1])
        mode = self.training
        widths = Widths(len(inner), len(shrunk), len(back), self.widths.middle)
        self.make_maps(widths, of_channels(self.shrinkage, shrunk), pair.first.shape[1])
        self.to(last).train(mode)
        self.analysis.take(pair, inner, True)
        self.analysis_last.copy_(last[shrunk][:, inner])
        self.synthesis_first.copy_(first[back][:, shrunk])
        self.synthesis.take(pair_back, back, False)

    def prepare(self, factor: Tensor | None = None) -> tuple[Map, Map, Callable[[Tensor, Tensor], Tensor]]:
        """The learned maps with their kernels composed.

        Parameters
        ----------
        factor : Tensor, (batch, 1, 1, 1), optional
            of the thresholds.

        Returns
        -------
        analyse :
            an image b to its features H(D(b)), in units of the shrinkage's step if its penalty is homogeneous.
        synthesise :
            such features to the correction G(H̃(soft(features))).
        asymmetry :
            b and its features to the mean of |H̃(H(d)) − d|² over the feature maps d = D(b).
        """
        first, last = self.analysis.kernel(), self.synthesis.kernel()
        shrink, inner, inner_back = shrinking(self.shrinkage, self.analysis_last, self.synthesis_first, factor)

        def analyse(b: Tensor) -> Tensor:
            return F.conv2d(F.relu(convolve(b, first, inner), inplace=True), inner, padding=1)

        def synthesise(features: Tensor) -> Tensor:
            features = F.relu(F.conv2d(shrink(features), inner_back, padding=1), inplace=True)
            return convolve(features, last).to(self.analysis_last.dtype)

        def asymmetry(b: Tensor, features: Tensor) -> Tensor:
            d = convolve(b, self.analysis.first, inner)
            back = F.relu(F.conv2d(features, inner_back, padding=1), inplace=True)
            return (F.conv2d(back, self.synthesis.first, padding=1) - d).to(self.analysis_last.dtype).square().mean()

        return analyse, synthesise, asymmetry


class SymmetricPrior(SymmetricMaps, MapPrior):
    """z + G(H̃(S(H(D(z))))), the learned proximal map of ISTA-Net+ (Zhang, Ghanem, CVPR 2018).

    H = conv ∘ ReLU ∘ conv, and H̃ likewise, of 3×3 convolutions without bias, as D and G are; S shrinks, and G starts at
    0. The paper's term of the loss that asks H̃ to be the inverse of H is in `ISTANetPlus`.

    Parameters
    ----------
    features : int or list of int
        feature maps; of a prior that was compacted four numbers, see `Widths`.
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
        penalty: Penalty | list[Penalty] | None = None,
        learn_penalty: bool = False,
        shrink_channels: bool = False,
        threshold: float = 0.01,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        widths = widths_of("SymmetricPrior", features)
        super().__init__(channels, complex_images, ranges)
        shrinkage = shrinkage_of(penalty, widths.shrunk if shrink_channels else None, threshold, learn_penalty)
        self.make_maps(widths, shrinkage, self.parts)

    def compact(self) -> None:
        super().compact()
        self.arguments = {**self.arguments, "features": list(self.widths)}

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        analyse, synthesise, _ = self.prepare(None if factors is None else of_images(factors[:, 0]))
        return maps + synthesise(analyse(maps))
