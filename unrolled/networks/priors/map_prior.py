"""Priors made of layers on real maps, for images of one channel, colour, several sets, complex ones, and features."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from unrolled.networks.channelwise import apart, together
from unrolled.networks.conditioning import Factors, Interval, check_told
from unrolled.networks.priors.prior import Prior
from unrolled.networks.sizes import check_sizes


class MapPrior(Prior):
    """A prior whose layers see so many channels of an image together, as real maps.

    Images may have any multiple of these channels: each group of them is an image of its own for the layers. With one
    channel, the default, every channel of an image is treated alike; with three the layers see colours together; of
    complex images every channel is two maps, its real and its imaginary part, one after the other.

    A subclass makes its layers for `parts` maps, in and out, and defines `on_maps`. It is to begin near the identity:
    an untrained network then is the algorithm without a prior.

    Parameters
    ----------
    channels : int in 1 … 10,000
        of the image that the layers see together.
    complex_images : bool
        whether images are complex.
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition; none: the prior is told nothing, and what it is told it does not look at.
    blocks : int
        parts of the layers that are scaled by the condition, each by a factor of its own.

    Attributes
    ----------
    parts : int
        maps that the layers are given, and return.
    """

    def __init__(
        self, channels: int = 1, complex_images: bool = False, ranges: Sequence[Interval] = (), blocks: int = 1
    ):
        super().__init__()
        check_sizes(type(self).__name__, channels=channels)
        self.channels, self.complex_images = channels, complex_images
        self.parts = channels * (2 if complex_images else 1)
        self.factors = Factors(ranges, blocks) if ranges else None

    @abstractmethod
    def on_maps(self, maps: Tensor, factors: Tensor | None) -> Tensor:
        """What the layers make of images as maps.

        Parameters
        ----------
        maps : Tensor, (batch, parts, height, width), real
        factors : Tensor, (batch, blocks), or None
            > 0, of every block; None: nothing is scaled.

        Returns
        -------
        Tensor, of the shape of maps
        """

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        name = type(self).__name__
        if z.is_complex() != self.complex_images:
            own, given = ("complex", "real") if self.complex_images else ("real", "complex")
            raise ValueError(
                f"{name}: made for {own} images, and given {given} ones; make it with complex_images={z.is_complex()}"
            )
        if z.shape[1] % self.channels:
            raise ValueError(
                f"{name}: images must have a multiple of {self.channels} channels, which it sees together, got "
                f"{z.shape[1]}"
            )
        maps, factors = apart(z, self.channels), self.told(condition, len(z))
        if factors is not None:
            factors = factors.repeat_interleave(len(maps) // len(z), 0)
        return together(self.on_maps(maps, factors), z)

    def told(self, condition: Tensor | None, batch: int) -> Tensor | None:
        """What `on_maps` is given of the condition, for every image: the factors of the blocks, (batch, blocks), or
        None. A prior that takes its numbers in another way, as a noise level, overrides this.

        Raises
        ------
        ValueError
            if the prior has ranges, and the condition is not a number for each, of every image.
        """
        if self.factors is None:
            return None
        check_told(type(self).__name__, condition, len(self.factors.ranges), batch)
        factors: Tensor = self.factors(condition)
        return factors
