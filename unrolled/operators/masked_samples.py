"""What operators share whose measurements are samples, by a mask: of frequencies, or of pixels."""

from typing import Self

from torch import Tensor

from unrolled.operators.operator import LinearOperator


class MaskedSamples(LinearOperator):
    """An operator that takes some numbers, where a mask is 1.

    Attributes
    ----------
    mask : Tensor, (height, width) or (batch, 1, height, width), of 0 and 1
    """

    mask: Tensor

    @property
    def sampling_ratio(self) -> Tensor:
        return self.mask.mean((-3, -2, -1) if self.mask.ndim == 4 else (-2, -1))

    def with_mask(self, mask: Tensor) -> Self:
        """The same operator with other masks, for the time of a step: values are not looked at, all else is shared.

        Parameters
        ----------
        mask : Tensor, (height, width) or (batch, 1, height, width), of 0 and 1
            on the operator's device.
        """
        other = self.sharing(mask=mask)
        other.batch = len(mask) if mask.ndim == 4 and len(mask) > 1 else self.batch
        return other
