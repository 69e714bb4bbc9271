"""What a loss is: network, measurements and operator in, one number out; with the true images only if it needs them."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.system.scalars import PlainNumbers


class Loss(PlainNumbers, ABC):
    """What training minimises: loss(network, y, operator, truth) ↦ a scalar, the mean over the images of a batch.

    Images are those of the task, of about unit size. Losses draw with torch's random numbers, which the loop seeds in
    every step. What a network itself adds to a loss, as ISTA-Net+ does, is added to each of them.

    Attributes
    ----------
    needs_truth : bool
        whether it compares with the true images. If not, it learns from measurements alone: what stands at `truth` is
        never looked at.
    """

    needs_truth: ClassVar[bool]

    def check(self, operator: LinearOperator, noise: float | Tensor | None) -> None:
        """Raise ValueError if a loss cannot be had of what an operator measures, or of this noise; see `__call__`."""

    @abstractmethod
    def __call__(
        self,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        truth: Tensor | None = None,
        *,
        noise: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Parameters
        ----------
        network : UnrolledNetwork
        y : Tensor, measurements, in the shape that the operator states
        operator : LinearOperator
        truth : Tensor, (batch, channel, height, width), optional
            the true images, for losses that need them.
        noise : float or Tensor, (batch,), optional
            standard deviation of the noise in the measurements, of complex ones √E|noise|², if it is known. A network
            that takes it is told.

        Returns
        -------
        Tensor, a scalar

        Raises
        ------
        ValueError
            if what the loss needs is missing, or does not fit.
        """


def reconstruction(
    network: UnrolledNetwork, y: Tensor, operator: LinearOperator, noise: float | Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The image that a network makes, told the noise if it takes it; and what the network adds to a loss."""
    (image,), own = network.in_training(y, operator, noise=noise if network.takes_noise else None)
    return image, own


def with_own(loss: Tensor, own: Tensor | None) -> Tensor:
    """A loss, and what a network adds to it."""
    return loss if own is None else loss + own
