"""Noise of X-ray tomography: photons are counted, and line integrals are the logarithms of counts."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.operators.noise import Noise

LEAST_COUNT = 0.5
"""What counts below it are taken for, so that they have a logarithm; at one photon a ray this leaves the mean right."""

OPAQUE = 30.0
"""Line integrals of attenuation beyond which no photon comes through: e³⁰ is 10¹³."""

NEGATIVE = -1.0
"""Line integrals below it are none of attenuation."""


@dataclass(frozen=True)
class PhotonNoise(Noise):
    """−log(n/N₀)/w of n counted photons, n ~ Poisson(N₀·exp(−w·y)), for line integrals y of X-rays.

    A detector counts the photons that come through, by the law of Beer and Lambert, and its electronics may add normal
    noise; line integrals are taken from the counts again. Images in which white is 1 have line integrals in parts of
    white: w, its attenuation, makes optical paths of them. Counts below ½ are taken for ½.

    Parameters
    ----------
    photons : float > 0
        N₀, photons that come to every detector where there is nothing in the way.
    white : float > 0
        w, the attenuation that a value of 1 in images stands for, in 1/(unit of the operator's pixel_size): 0.0814 per
        mm of images in the scale "hu", whose white is 3071 Hounsfield units and which attenuates 4.071 times as much as
        water. By default 1: images are of attenuation.
    electronic : float >= 0
        standard deviation of the noise of the electronics, in photons.
    """

    photons: float
    white: float = 1.0
    electronic: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("photons", self.photons), ("white", self.white)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"PhotonNoise: {name} must be a finite number > 0, got {value!r}")
        if not (math.isfinite(self.electronic) and self.electronic >= 0):
            raise ValueError(f"PhotonNoise: electronic must be a finite number >= 0, got {self.electronic!r}")

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        y = self._taken(y)
        place = y.device if generator is None else generator.device
        # Counts beyond 2048 have no place in 16 bits.
        path = self.white * y.detach().to(place, torch.promote_types(y.dtype, torch.float32))
        self._check(path)
        counts = torch.poisson(self.photons * (-path).exp(), generator=generator)
        if self.electronic:
            drawn = torch.randn(path.shape, dtype=path.dtype, device=place, generator=generator)
            counts = counts + self.electronic * drawn
        found = (counts.clamp(min=LEAST_COUNT) / self.photons).log() / -self.white
        return found.to(y.device, y.dtype)

    def _check(self, path: Tensor) -> None:
        least, most = (float(end) for end in path.aminmax())
        if not (least >= NEGATIVE and most <= OPAQUE):
            raise ValueError(
                f"PhotonNoise: line integrals of attenuation must be in [{NEGATIVE:g}, {OPAQUE:g}], got {least:.4g} to "
                f"{most:.4g} with white={self.white:g}; white is the attenuation that 1 stands for, in 1/(unit of "
                "pixel_size): 0.0814 of images in the scale 'hu' and pixels in mm"
            )

    def mean(self, y: Tensor) -> Tensor:
        """y, but for parts of the order of 1/count."""
        return y

    def variance(self, y: Tensor) -> Tensor:
        """(1/n + σ²/n²)/w² of n = N₀·exp(−w·y) photons and σ of electronics, to the first order in 1/n."""
        counts = self.photons * (-self.white * y).exp()
        return (1 / counts + (self.electronic / counts) ** 2) / self.white**2
