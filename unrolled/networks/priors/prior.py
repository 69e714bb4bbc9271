"""What a prior is: a map from images to images, which stands where an algorithm has a proximal map or a denoiser."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from unrolled.system.recipes import Described


class Prior(Described, nn.Module, ABC):
    """z ↦ prior(z, condition), an image of the same shape.

    Phases take any module that maps images to images, see `as_prior`. This class says what they call.

    Attributes
    ----------
    reach : int or None
        how many pixels away it looks; None (the default): everywhere, and then there is no reconstruction in tiles.
    alignment : int
        parts of an image that it is to treat as the whole begin at multiples of so many pixels.
    """

    reach: int | None = None
    alignment: int = 1

    def __init__(self) -> None:  # so that priors without arguments have a recipe too
        super().__init__()

    @abstractmethod
    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map images to images.

        Parameters
        ----------
        z : Tensor, (batch, channel, height, width), real or complex
        condition : Tensor, (batch, numbers), optional
            what is known of each image, such as the noise level of its measurements.

        Returns
        -------
        Tensor, of the shape and type of z
        """
