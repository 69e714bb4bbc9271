"""Gaussian noise of which every image has a level of its own."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from unrolled.operators.noise import Noise, with_white_noise
from unrolled.system.arraylike import as_tensor

Spread = Literal["logarithmic", "uniform", "shifted"]

DOMAIN = 0x6E6F697365
"""Keeps the levels apart from all else that is drawn from the same seed and step."""


@dataclass(frozen=True)
class VaryingGaussianNoise(Noise):
    """y + σn, n standard normal, with a level σ that is drawn for every image of a batch, real or complex.

    In training the level is a function of the seed, the step and the place in the batch; a network that takes the noise
    level is told it.

    Parameters
    ----------
    low, high : float, 0 <= low < high
        of the level, a standard deviation in the units of y; of complex measurements √E|noise|².
    spread : "logarithmic", "uniform" or "shifted"
        whether log σ, σ, or log(σ + high/100) is drawn evenly. The logarithm of σ needs low > 0; with the shifted one
        small levels are as frequent, down to none at all.
    relative : bool
        whether training multiplies levels by the norm that networks divide an operator and its measurements by, see
        `UnrolledNetwork.norm_of`: so they mean the same for operators in any units.
    """

    low: float
    high: float
    spread: Spread = "logarithmic"
    relative: bool = False

    def __post_init__(self) -> None:
        if self.spread not in get_args(Spread):
            raise ValueError(
                f"VaryingGaussianNoise: spread must be one of {', '.join(get_args(Spread))}, got {self.spread!r:.100}"
            )
        if not 0 <= self.low < self.high < math.inf:
            raise ValueError(
                f"VaryingGaussianNoise: must have 0 <= low < high, both finite, got {self.low!r} and {self.high!r}"
            )
        if self.spread == "logarithmic" and self.low == 0:
            raise ValueError("VaryingGaussianNoise: low must be > 0 for a logarithmic spread, got 0; or use 'shifted'")

    @property
    def level_range(self) -> tuple[float, float]:
        return self.low, self.high

    def quantile(self, part: float) -> float:
        """The level that a part, in [0, 1], of all levels is below."""
        if self.spread == "uniform":
            return self.low + part * (self.high - self.low)
        low, high = self.low + self._shift, self.high + self._shift
        return low * (high / low) ** part - self._shift

    @property
    def _shift(self) -> float:
        return self.high / 100 if self.spread == "shifted" else 0.0

    def levels(self, seed: int, step: int, places: Iterable[int]) -> Tensor:
        """The level of every image of a step, (places,): whatever the other places are, and other steps."""
        drawn = (np.random.default_rng((DOMAIN, seed, step, place)).random() for place in places)
        return torch.tensor([self.quantile(part) for part in drawn])

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        y = as_tensor("VaryingGaussianNoise: measurements", y)
        y = self._taken(y, is_complex=y.is_complex())
        if y.ndim == 0:
            raise ValueError("VaryingGaussianNoise: measurements must be those of a batch of images, got one number")
        place = y.device if generator is None else generator.device
        drawn = torch.rand(len(y), dtype=torch.float64, device=place, generator=generator).tolist()
        return with_white_noise(y, torch.tensor([self.quantile(part) for part in drawn]), generator)

    def mean(self, y: Tensor) -> Tensor:
        return y

    def variance(self, y: Tensor) -> Tensor:
        """E σ², over all levels."""
        low, high = self.low, self.high
        if self.spread == "uniform":
            mean = (low**2 + low * high + high**2) / 3
        else:  # of the logarithm of σ + shift, evenly drawn
            shift = self._shift
            low, high = low + shift, high + shift
            square, first = ((high**power - low**power) / (power * math.log(high / low)) for power in (2, 1))
            mean = square - 2 * shift * first + shift**2
        return torch.full_like(y.real, mean)
