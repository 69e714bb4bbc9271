"""Noise of measurements: random, with a mean and a variance that are known."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.system.arraylike import as_tensor
from unrolled.system.scalars import PlainNumbers


@dataclass(frozen=True)
class Noise(PlainNumbers, ABC):
    """A law of noise: y ↦ y with noise, of the same shape and type."""

    @abstractmethod
    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        """Measurements with noise.

        Parameters
        ----------
        y : Tensor or array of any shape
        generator : Generator, optional
            where random numbers come from, and the device on which they are drawn: with one of the CPU, noise is the
            same on every device.

        Raises
        ------
        ValueError
            if y is not of numbers that have such noise.
        """

    @abstractmethod
    def mean(self, y: Tensor) -> Tensor:
        """The expected value of every number."""

    @abstractmethod
    def variance(self, y: Tensor) -> Tensor:
        """The expected |difference to the mean|² of every number, real."""

    @property
    def level_range(self) -> tuple[float, float] | None:
        """The least and the largest level of white Gaussian noise; None of other noise, which has no level."""
        return None

    def _taken(self, y: Any, is_complex: bool = False) -> Tensor:
        """Measurements as a tensor of the numbers that have such noise; arrays in their own precision."""
        y = as_tensor(f"{type(self).__name__}: measurements", y)
        if is_complex != y.is_complex() or not (y.is_complex() or y.is_floating_point()):
            kind = "complex" if is_complex else "real floating-point"
            other = " (ComplexGaussianNoise takes complex ones)" if y.is_complex() else ""
            raise ValueError(f"{type(self).__name__}: measurements must be {kind} numbers{other}, got {y.dtype}")
        return y


def drawn_on(y: Tensor, generator: torch.Generator | None) -> torch.device:
    """The device on which random numbers for measurements are drawn."""
    return y.device if generator is None else generator.device


def check_sigma(noise: Noise, sigma: float) -> None:
    """Raise ValueError unless this is a standard deviation."""
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"{type(noise).__name__}: sigma must be a finite number >= 0, got {sigma!r}")


def with_white_noise(y: Tensor, level: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
    """y + σn, n standard normal, of complex y circular with E|n|² = 1.

    Parameters
    ----------
    y : Tensor, (batch, …)
    level : float, or Tensor (batch,)
        σ, one for all or one for each image.
    generator : Generator, optional
    """
    drawn = torch.randn(y.shape, dtype=y.dtype, device=drawn_on(y, generator), generator=generator)
    if isinstance(level, Tensor):
        level = level.to(y.device, y.real.dtype).view(-1, *[1] * (y.ndim - 1))
    return y + level * drawn.to(y.device)


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """y + σn, n standard normal, for real measurements.

    Parameters
    ----------
    sigma : float >= 0
        standard deviation, in the units of y.
    """

    sigma: float

    def __post_init__(self) -> None:
        check_sigma(self, self.sigma)

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        return with_white_noise(self._taken(y), self.sigma, generator)

    @property
    def level_range(self) -> tuple[float, float]:
        return self.sigma, self.sigma

    def mean(self, y: Tensor) -> Tensor:
        return y

    def variance(self, y: Tensor) -> Tensor:
        return torch.full_like(y, self.sigma**2)


@dataclass(frozen=True)
class ComplexGaussianNoise(Noise):
    """y + σn, n circular complex normal with E|n|² = 1, for complex measurements.

    Parameters
    ----------
    sigma : float >= 0
        standard deviation of the complex number, √E|noise|²: the real and the imaginary part have σ/√2 each.
    """

    sigma: float

    def __post_init__(self) -> None:
        check_sigma(self, self.sigma)

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        return with_white_noise(self._taken(y, is_complex=True), self.sigma, generator)

    @property
    def level_range(self) -> tuple[float, float]:
        return self.sigma, self.sigma

    def mean(self, y: Tensor) -> Tensor:
        return y

    def variance(self, y: Tensor) -> Tensor:
        return torch.full_like(y.real, self.sigma**2)


@dataclass(frozen=True)
class PoissonNoise(Noise):
    """γ·Poisson(y/γ): counts of photons, for measurements >= 0.

    Parameters
    ----------
    gain : float > 0
        γ, the units of y in one count: the larger, the more noise.
    """

    gain: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise ValueError(f"PoissonNoise: gain must be a finite number > 0, got {self.gain!r}")

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        return counted(self, self._taken(y), self.gain, generator)

    def mean(self, y: Tensor) -> Tensor:
        return y

    def variance(self, y: Tensor) -> Tensor:
        return self.gain * y


def counted(noise: Noise, y: Tensor, gain: float, generator: torch.Generator | None) -> Tensor:
    """γ·Poisson(y/γ).

    Raises
    ------
    ValueError
        unless y is finite and >= 0.
    """
    if not bool(((y >= 0) & y.isfinite()).all()):
        raise ValueError(
            f"{type(noise).__name__}: measurements must be finite and >= 0, got {y.min().item():.6g} as least"
        )
    # Counts beyond 2048 have no place in 16 bits.
    rate = (y.detach() / gain).to(drawn_on(y, generator), torch.promote_types(y.dtype, torch.float32))
    return (gain * torch.poisson(rate, generator=generator)).to(y.device, y.dtype)


@dataclass(frozen=True)
class SaltAndPepperNoise(Noise):
    """A part of the measurements is lost: each becomes low or high, with equal probability.

    Parameters
    ----------
    probability : float in [0, 1]
        that a measurement is lost.
    low, high : float
        what lost ones become.
    """

    probability: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"SaltAndPepperNoise: probability must be in [0, 1], got {self.probability!r}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(
                f"SaltAndPepperNoise: low and high must be finite, low <= high, got {self.low!r} and {self.high!r}"
            )

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        y = self._taken(y)
        # In 16 bits there would be too few numbers between 0 and 1.
        kind = torch.promote_types(y.dtype, torch.float32)
        drawn = torch.rand(y.shape, dtype=kind, device=drawn_on(y, generator), generator=generator).to(y.device)
        lost = torch.where(drawn < self.probability / 2, self.low, self.high).to(y.dtype)
        return torch.where(drawn < self.probability, lost, y)

    def mean(self, y: Tensor) -> Tensor:
        return (1 - self.probability) * y + self.probability * (self.low + self.high) / 2

    def variance(self, y: Tensor) -> Tensor:
        squares = (1 - self.probability) * y**2 + self.probability * (self.low**2 + self.high**2) / 2
        return squares - self.mean(y) ** 2
