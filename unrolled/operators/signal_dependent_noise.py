"""Noise that depends on the signal: of photons and electronics, of coherent light, of magnitudes."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.operators.noise import Noise, check_sigma, counted, drawn_on, with_white_noise

MOST_LOOKS = 1000


@dataclass(frozen=True)
class PoissonGaussianNoise(Noise):
    """γ·Poisson(y/γ) + σn: photons and the electronics that read them out (Foi and others, IEEE TIP 17(10), 2008).

    The variance is γy + σ². Measurements must be >= 0; with noise they may be below.

    Parameters
    ----------
    gain : float > 0
        γ, the units of y in one count.
    sigma : float >= 0
        standard deviation of the part that does not depend on y, n standard normal.
    """

    gain: float
    sigma: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise ValueError(f"PoissonGaussianNoise: gain must be a finite number > 0, got {self.gain!r}")
        check_sigma(self, self.sigma)

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        return with_white_noise(counted(self, self._taken(y), self.gain, generator), self.sigma, generator)

    def mean(self, y: Tensor) -> Tensor:
        return y

    def variance(self, y: Tensor) -> Tensor:
        return self.gain * y + self.sigma**2


@dataclass(frozen=True)
class SpeckleNoise(Noise):
    """y·g, g gamma distributed with mean 1 and variance 1/L: speckle of coherent light, sound and radar.

    It is the mean of L exponentially distributed intensities (Goodman, J. Opt. Soc. Am. 66, 1976).

    Parameters
    ----------
    looks : int in 1 … 1,000
        L, independent looks that are averaged.
    """

    looks: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.looks <= MOST_LOOKS:
            raise ValueError(f"SpeckleNoise: looks must be a whole number in 1 … {MOST_LOOKS:,}, got {self.looks!r}")

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        y = self._taken(y)
        kind = torch.promote_types(y.dtype, torch.float32)
        total = torch.zeros(y.shape, dtype=kind, device=drawn_on(y, generator))
        for _ in range(self.looks):
            total += torch.empty_like(total).exponential_(generator=generator)
        return y * (total / self.looks).to(y.device, y.dtype)

    def mean(self, y: Tensor) -> Tensor:
        return y

    def variance(self, y: Tensor) -> Tensor:
        return y**2 / self.looks


@dataclass(frozen=True)
class RicianNoise(Noise):
    """√((y + σn₁)² + (σn₂)²), n₁ and n₂ standard normal: the magnitude of a complex signal with noise.

    So are magnitude images of magnetic resonance (Gudbjartsson, Patz, Magn. Reson. Med. 34, 1995). Where there is no
    signal their mean is σ√(π/2).

    Parameters
    ----------
    sigma : float >= 0
        standard deviation of the real part, and of the imaginary part.
    """

    sigma: float

    def __post_init__(self) -> None:
        check_sigma(self, self.sigma)

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        y = self._taken(y)
        return torch.hypot(*(with_white_noise(part, self.sigma, generator) for part in (y, torch.zeros_like(y))))

    def mean(self, y: Tensor) -> Tensor:
        """σ√(π/2)·L(−y²/2σ²), L the Laguerre function of order ½, by Bessel functions."""
        if self.sigma == 0:
            return y.abs()
        t = (y.double() / (2 * self.sigma)) ** 2
        bessel = (1 + 2 * t) * torch.special.i0e(t) + 2 * t * torch.special.i1e(t)
        return (self.sigma * math.sqrt(math.pi / 2) * bessel).to(y.dtype)

    def variance(self, y: Tensor) -> Tensor:
        """y² + 2σ² − mean²."""
        wide = y.double()
        return (wide**2 + 2 * self.sigma**2 - self.mean(wide) ** 2).clamp(min=0).to(y.dtype)
