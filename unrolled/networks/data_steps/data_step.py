"""What a data step is: from an image towards one that explains the measurements."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.conditioning import Factors, Interval, check_told, of_images
from unrolled.networks.positive_numbers import check_positive, positive
from unrolled.operators import LinearOperator
from unrolled.system.recipes import Described


class WeightedStep(Described, nn.Module, ABC):
    """A step with the operator that has one learned weight, which is positive.

    Parameters
    ----------
    weight : float > 0
        where it starts.
    ranges : sequence of (low, high), 0 <= low < high
        of the numbers of the condition, which scale the weight; none: it is what it is.
    """

    def __init__(self, weight: float, ranges: Sequence[Interval] = ()):
        super().__init__()
        check_positive(type(self).__name__, **{next(iter(self.arguments), "weight"): weight})
        self.raw_weight = positive(weight)
        self.factors = Factors(ranges, 1) if ranges else None

    def weight(self, condition: Tensor | None = None) -> Tensor:
        """The weight, > 0: a scalar, or one for every image, (batch, 1, 1, 1), if the condition scales it."""
        weight = F.softplus(self.raw_weight)
        if self.factors is None:
            return weight
        check_told(type(self).__name__, condition, len(self.factors.ranges))
        return weight * of_images(self.factors(condition)[:, 0])


class DataStep(WeightedStep):
    """(z, y, operator, condition) ↦ x, an image.

    Parameters
    ----------
    weight, ranges
        see `WeightedStep`.
    """

    @abstractmethod
    def forward(self, z: Tensor, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> Tensor:
        """The image after the step.

        Parameters
        ----------
        z : Tensor, (batch, channel, height, width)
        y : Tensor, the measurements
        operator : LinearOperator
        condition : Tensor, (batch, numbers), optional
            what is known of each image, such as the noise level of its measurements.

        Returns
        -------
        Tensor, like z
        """
