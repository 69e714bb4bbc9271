"""Penalties whose proximal map is made of straight lines."""

from torch import Tensor

from unrolled.penalties.magnitudes import above
from unrolled.penalties.penalty import SeparablePenalty


class PiecewiseLinearPenalty(SeparablePenalty):
    """A separable penalty whose `_shrink` has finite values and gradients at every magnitude, also at ∞.

    So the proximal map needs nothing but the threshold around it, which makes it cheaper than that of other penalties.
    """

    def _prox(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return above(magnitude, self.threshold(step)) * self._shrink(magnitude, step)
