"""What is known of images before they are measured: g(x) = strength · ρ(Wx)."""

import math

from torch import Tensor

from unrolled.penalties import Penalty
from unrolled.transforms import DCT


class SparsePrior:
    """g(x) = strength · Σ ρ(Wx): the image is sparse in an orthonormal transform.

    Parameters
    ----------
    penalty : Penalty
        ρ.
    strength : float > 0
    transform : DCT
        W, orthonormal.
    """

    def __init__(self, penalty: Penalty, strength: float, transform: DCT):
        if not (math.isfinite(strength) and strength > 0):
            raise ValueError(f"SparsePrior: strength must be a finite number > 0, got {strength!r}")
        self.penalty, self.strength, self.transform = penalty, strength, transform

    def value(self, x: Tensor) -> Tensor:
        """g(x), one number per image of the batch."""
        return self.strength * self.penalty.value(self.transform(x)).flatten(1).sum(1)

    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·g(z): exact, for W is orthonormal."""
        return self.transform.adjoint(self.penalty.prox(self.transform(v), step * self.strength))
