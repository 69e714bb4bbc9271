"""Learned priors: maps from images to images, which stand where an algorithm has a proximal map or a denoiser."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Prior(nn.Module, ABC):
    """z ↦ prior(z, condition), an image of the same shape.

    Phases may take any module that maps images to images. This class says what they call.
    """

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
