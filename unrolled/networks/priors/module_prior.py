"""Any module that maps images to images as a prior."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Interval
from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.priors.prior import Prior


class ModulePrior(MapPrior):
    """module(z), or module(z, σ) for a denoiser that is told how strong the noise is, as those of deepinv are.

    No file can say how to make a module of your own: weights of such a network are loaded by
    `unrolled.load(file, network=…)`.

    Parameters
    ----------
    module : Module
        maps real images, (batch, parts, height, width), to such images.
    sigma : float > 0, optional
        the noise level that a denoiser is told at first, where white is 1; it is learned. By default the module is
        called with the image alone.
    reach : int, optional
        how many pixels away it looks; by default everywhere.
    alignment : int
        see `Prior`.
    channels, complex_images, ranges
        see `MapPrior`; the condition scales σ.
    """

    def __init__(
        self,
        module: nn.Module,
        sigma: float | None = None,
        reach: int | None = None,
        alignment: int = 1,
        channels: int = 1,
        complex_images: bool = False,
        ranges: Sequence[Interval] = (),
    ):
        if not isinstance(module, nn.Module):
            raise ValueError(f"prior: must be a module that maps images to images, got {module!r}")
        if sigma is not None:
            check_positive("ModulePrior", sigma=sigma)
        if len(ranges) and sigma is None:
            raise ValueError("ModulePrior: ranges scale sigma, so sigma must be given")
        super().__init__(channels, complex_images, ranges)
        self.module = module
        self.raw_sigma = None if sigma is None else positive(sigma)
        self.reach, self.alignment = reach, alignment

    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        if self.raw_sigma is None:
            found = self.module(maps)
        else:
            sigma = F.softplus(self.raw_sigma)
            found = self.module(maps, sigma.expand(len(maps)) if factors is None else sigma * factors[:, 0])
        if not isinstance(found, Tensor) or found.shape != maps.shape:
            raise ValueError(
                f"prior: {type(self.module).__name__} must return images of the shape that it is given, "
                f"{tuple(maps.shape)}, got {tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__}"
            )
        return found


def as_prior(module: nn.Module) -> Prior:
    """A prior as it is; any other module as a `ModulePrior`, which calls it with images of one real channel.

    Raises
    ------
    ValueError
        for what is no module.
    """
    return module if isinstance(module, Prior) else ModulePrior(module)
