"""The learned maps inside a phase: a sparsifying map, its approximate inverse, and attention between them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.narrow import convolve
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture
from unrolled.networks.windows import Windows
from unrolled.system.devices import full_precision, in_double

ENOUGH = 9
"""Channels between the convolutions of a pair, for each map of an image on one of its sides: kernels of more, which are
3×3, are combinations of these."""


class ConvolutionPair(nn.Module):
    """Two 3×3 convolutions with nothing between them, learned as two and run as the one 5×5 that they are.

    The image is padded once, by two pixels of zeros, before the pair; then the pair is exactly one 5×5 convolution.
    Where one side has a single channel this takes about a tenth of the arithmetic of the inner F→F convolution.

    Parameters
    ----------
    inputs, middle, outputs : int
        channels before, between and after the convolutions.
    """

    def __init__(self, inputs: int, middle: int, outputs: int):
        super().__init__()
        self.first = nn.Parameter(torch.empty(middle, inputs, 3, 3))
        self.second = nn.Parameter(torch.empty(outputs, middle, 3, 3))
        for weight in (self.first, self.second):
            nn.init.xavier_normal_(weight)

    def kernel(self) -> Tensor:
        """The kernel of the pair, (outputs, inputs, 5, 5), in full precision."""
        with full_precision(self.first):
            flipped = self.first.transpose(0, 1).flip(-2, -1)
            return F.conv2d(self.second, flipped, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.kernel())

    def fused(self) -> "FusedPair":
        """The pair as one plain convolution."""
        return FusedPair(self)

    @torch.no_grad()
    def take(self, pair: "ConvolutionPair", channels: Tensor, from_image: bool) -> None:
        """Become another pair from or to an image, reduced to some of its channels on the other side.

        Parameters
        ----------
        pair : ConvolutionPair
            whose kernel this one then has, for these channels, if it has as many channels between its convolutions, or
            `ENOUGH` for each map of the image.
        channels : Tensor of int
        from_image : bool
            whether the pairs are from an image, or to one.
        """
        (thin, wide), (own_thin, own_wide) = pair.sides(from_image), self.sides(from_image)
        middle = len(own_thin)
        if len(thin) > middle:
            u, s, v = torch.linalg.svd(in_double(thin.flatten(1)), full_matrices=False)
            root = s.sqrt()  # half of the size goes to either side
            thin = (root[:, None] * v).view(-1, *thin.shape[1:])[:middle]
            wide = torch.einsum("omhw, mr -> orhw", in_double(wide), u * root)[:, :middle]
        own_thin.copy_(thin)
        own_wide.copy_(wide[channels])

    def sides(self, from_image: bool) -> tuple[Tensor, Tensor]:
        """The kernels on the side of the image, (middle, parts, 3, 3), and on the other, (channels, middle, 3, 3)."""
        if from_image:
            return self.first, self.second
        return self.second.transpose(0, 1), self.first.transpose(0, 1)


class FusedPair(nn.Conv2d):
    """A convolution pair as one plain 5×5 convolution, for use without training."""

    def __init__(self, pair: ConvolutionPair):
        kernel = pair.kernel().detach()
        super().__init__(kernel.shape[1], kernel.shape[0], 5, padding=2, bias=False)
        self.weight = nn.Parameter(kernel)

    def kernel(self) -> Tensor:
        """The kernel of the pair."""
        return self.weight


class SparsifyingMap(nn.Module):
    """G = B ∘ ReLU ∘ A ∘ D, an image to feature maps; 3×3 convolutions without bias (Zhang, Ye, Chen, 2022).

    Parameters
    ----------
    middle, inner, features : int
        channels after D, after A, and after B.
    parts : int
        maps of an image that are seen together: 1, or 2, the real and the imaginary part of a complex one.
    """

    def __init__(self, middle: int, inner: int, features: int, parts: int = 1):
        super().__init__()
        self.pair = ConvolutionPair(parts, middle, inner)  # A after D
        self.conv = _convolution(inner, features)  # B


class SynthesisMap(nn.Module):
    """G̃ = D̃ ∘ Ã ∘ ReLU ∘ B̃, feature maps to an image; the last convolution starts at zero.

    Parameters
    ----------
    features, inner, middle : int
        channels before B̃, after it, and after Ã.
    parts : int
        maps of an image, as in `SparsifyingMap`.
    """

    def __init__(self, features: int, inner: int, middle: int, parts: int = 1):
        super().__init__()
        self.conv = _convolution(features, inner)  # B̃
        self.pair = ConvolutionPair(inner, middle, parts)  # D̃ after Ã
        # The untrained network then is gradient descent from its start, instead of noise around it.
        nn.init.zeros_(self.pair.second)


def scaled(shrinkage: Callable[[Tensor], Tensor], factor: Tensor | None) -> Callable[[Tensor], Tensor]:
    """A shrinkage with its thresholds multiplied by a factor: c·S(v/c).

    That is the proximal map of the penalty with its argument divided by c, so it does not expand either.

    Parameters
    ----------
    shrinkage : callable
    factor : Tensor, (batch, 1, 1, 1), or None
    """
    if factor is None:
        return shrinkage

    def shrink(v: Tensor) -> Tensor:
        own = factor.to(v.dtype)
        return own * shrinkage(v / own)

    return shrink


def shrinking(
    shrinkage: Shrinkage | ShrinkageMixture, before: Tensor, after: Tensor, factor: Tensor | None = None
) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """The shrinkage between two convolutions, its step moved into their kernels where the penalty allows that.

    For ρ(cz) = c·ρ(z), prox(v, s) = s·prox(v/s, 1): with the kernel before divided by the step and the one after
    multiplied by it, what is left to do on the large maps is the proximal map at step 1, in one pass instead of four,
    and the gradient of the step comes from the small kernels. The maps of a mixture each have a step of their own, so
    theirs stay where they are.

    Parameters
    ----------
    shrinkage : Shrinkage or ShrinkageMixture
    before, after : Tensor, (features, inputs, k, k) and (outputs, features, k, k)
        kernels of the convolutions around it.
    factor : Tensor, (batch, 1, 1, 1), optional
        of the thresholds, see `scaled`.

    Returns
    -------
    shrink, before, after
    """
    if isinstance(shrinkage, ShrinkageMixture) or not shrinkage.penalty.homogeneous:
        return scaled(shrinkage, factor), before, after
    step = shrinkage.step.view(-1, 1, 1, 1)

    def shrink(v: Tensor) -> Tensor:
        return shrinkage.penalty.prox(v, 1.0 if factor is None else factor.to(v.dtype))

    return shrink, before / step, after * step.transpose(0, 1)


class WindowAttention(nn.Module):
    """The nonlocal block N(z) = ReLU(C[z, softmax((W_a z)ᵀ W_b z)·W_c z]), within windows of the image.

    An embedded Gaussian followed by a 1×1 combination. Over a whole image of 256² the attention would have 4·10⁹
    entries; within windows the cost grows with the image only linearly.

    Parameters
    ----------
    features : int
        feature maps, even.
    window : int
        side of a window in pixels.
    """

    def __init__(self, features: int, window: int = 11):
        super().__init__()
        if features % 2:
            raise ValueError(f"WindowAttention: features must be even, got {features!r}")
        self.window = window
        self.query = nn.Conv2d(features, features // 2, 1, bias=False)
        self.key = nn.Conv2d(features, features // 2, 1, bias=False)
        self.content = nn.Conv2d(features, features, 1, bias=False)
        self.combine = nn.Conv2d(2 * features, features, 1, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        height, width = z.shape[-2:]
        windows = Windows(height, width, self.window)
        query, key, content = (windows.cut(layer(z)) for layer in (self.query, self.key, self.content))
        inside = windows.inside(z)
        mask = None if inside is None else inside.repeat(len(z), 1).unsqueeze(1)
        attended = windows.joined(F.scaled_dot_product_attention(query, key, content, attn_mask=mask, scale=1.0))
        return F.relu(self.combine(torch.cat([z, attended], dim=1)))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.xavier_normal_(layer.weight)
    return layer
