"""Fields of experts: learned filters with learned activations, a step down a learned energy."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval, of_images
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.priors.radial_basis import RadialBasisActivation
from unrolled.networks.sizes import check_sizes


class FieldsOfExperts(MapPrior):
    """z − Σ_i K_iᵀ φ_i(K_i z), with learned filters K_i and learned activations φ_i.

    A step down the energy Σ_i Σ_pixels ψ_i(K_i z), ψ_i' = φ_i (Roth, Black, Int. J. Computer Vision 82, 2009), as in
    the variational networks of Kobler and others (GCPR 2017) and of Hammernik and others (Magn. Reson. Med. 79(6),
    2018). Images go on beyond their border as in a mirror that stands on it, and K_iᵀ is the exact adjoint of K_i
    together with that. What a filter finds in the maps that are seen together, so in the real and the imaginary part,
    is added before φ_i, and φ_i is that of `RadialBasisActivation`. The activations start at 0.

    Parameters
    ----------
    filters : int
        how many K_i.
    size : odd int
        their side in pixels.
    functions, extent
        see `RadialBasisActivation`: of so many Gaussians, on [−extent, extent], is each φ_i made.
    normalized : bool
        whether filters have the mean 0 on each map, and the norm 1, whatever the weights are. So φ_i does not see how
        bright an image is, and its extent keeps its meaning.
    channels, complex_images, ranges
        see `MapPrior`; the condition scales the step and, as the noise level does, the responses: c·φ_i(K_i z/c).

    Examples
    --------
    >>> sum(parameter.numel() for parameter in FieldsOfExperts(complex_images=True).parameters())
    13104
    """

    def __init__(
        self,
        filters: int = 48,
        size: int = 11,
        functions: int = 31,
        extent: float = 1.0,
        normalized: bool = True,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        check_sizes("FieldsOfExperts", filters=filters, size=size)
        if size % 2 == 0 or (normalized and size == 1):
            least = ", and >= 3 if filters are normalized" if normalized else ""
            raise ValueError(f"FieldsOfExperts: size must be odd{least}, got {size}")
        super().__init__(channels, complex_images, ranges, 2)
        self.normalized = normalized
        start = torch.randn(filters, self.parts, size, size)
        self.filters = nn.Parameter(normal(start) if size > 1 else start)
        self.activation = RadialBasisActivation(filters, functions, extent)
        self.reach = size - 1

    def kernels(self) -> Tensor:
        """The filters K_i, (filters, parts, size, size)."""
        return normal(self.filters) if self.normalized else self.filters

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        kernels, beyond = self.kernels(), self.filters.shape[-1] // 2
        responses = F.conv2d(mirrored(maps, beyond), kernels)
        if factors is None:
            found = self.activation(responses)
        else:
            width = of_images(factors[:, 1])
            found = of_images(factors[:, 0]) * width * self.activation(responses / width)
        return maps - folded(F.conv_transpose2d(found, kernels).to(maps.dtype), beyond)


def normal(filters: Tensor) -> Tensor:
    """Filters of the mean 0 on each map, and of the norm 1 over all of them; those that are constant become 0."""
    centred = filters - filters.mean((2, 3), keepdim=True)
    norm = torch.linalg.vector_norm(centred, dim=(1, 2, 3), keepdim=True)
    return centred / norm.clamp(min=1e-6)


def mirrored(maps: Tensor, beyond: int) -> Tensor:
    """Maps that go on by so many pixels beyond every border as in a mirror that stands on it: … b a | a b c …

    Parameters
    ----------
    maps : Tensor, (batch, channel, height, width)
    beyond : int >= 0
        which may be more than the sides: then there are images of images.

    Returns
    -------
    Tensor, (batch, channel, height + 2·beyond, width + 2·beyond)
    """
    for axis in (2, 3):
        for step in _steps(maps.shape[axis], beyond):
            first, last = maps.narrow(axis, 0, step), maps.narrow(axis, maps.shape[axis] - step, step)
            maps = torch.cat([first.flip(axis), maps, last.flip(axis)], dim=axis)
    return maps


def folded(maps: Tensor, beyond: int) -> Tensor:
    """The adjoint of `mirrored`: what lies beyond the borders is added to the pixels that are seen there."""
    for axis in (2, 3):
        for step in reversed(_steps(maps.shape[axis] - 2 * beyond, beyond)):
            first, inner, last = maps.split([step, maps.shape[axis] - 2 * step, step], dim=axis)
            maps = inner.clone()
            maps.narrow(axis, 0, step).add_(first.flip(axis))
            maps.narrow(axis, maps.shape[axis] - step, step).add_(last.flip(axis))
    return maps


def _steps(length: int, beyond: int) -> list[int]:
    """By how much a side grows at a time, as a mirror shows no more than there is."""
    steps = []
    while beyond:
        steps.append(min(length, beyond))
        length, beyond = length + 2 * steps[-1], beyond - steps[-1]
    return steps
