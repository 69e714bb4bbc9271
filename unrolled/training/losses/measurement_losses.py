"""Losses of measurements alone: what they explain, and unbiased estimates of the risk under noise of a known law."""

import math
from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.networks.recomputation import Draws
from unrolled.operators import LinearOperator, PoissonNoise
from unrolled.system.devices import full_precision
from unrolled.training.losses.loss import Loss, reconstruction, with_own

LEAST = 1e-30
"""Instead of 0, where a step is measured in the size of measurements that are 0."""


@dataclass(frozen=True)
class MeasurementLoss(Loss):
    """What the measurements of a batch say of its reconstructions: the mean over the numbers that were measured.

    It is in the units of measurements, squared. Where the operator measures nothing, nothing is compared.
    """

    needs_truth: ClassVar[bool] = False

    @abstractmethod
    def of_images(
        self,
        images: Tensor,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        noise: float | Tensor | None,
    ) -> Tensor:
        """The loss of reconstructions, (batch, channel, height, width), that a network has made of y; a scalar."""

    def noisy(self, y: Tensor, noise: float | Tensor | None) -> Tensor:
        """Measurements with such noise as this loss expects of y; by default none."""
        return y

    def precision(self, y: Tensor) -> AbstractContextManager[Any]:
        """The precision in which networks are to run; by default as they would."""
        return nullcontext()

    def __call__(
        self,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        truth: Tensor | None = None,
        *,
        noise: float | Tensor | None = None,
    ) -> Tensor:
        self.check(operator, noise)
        y = network.taken(y)
        with self.precision(y):
            images, own = reconstruction(network, y, operator, noise)
            return with_own(self.of_images(images, network, y, operator, noise), own)


@dataclass(frozen=True)
class ConsistencyLoss(MeasurementLoss):
    """The mean of |Ax̂ − y|².

    Of what A does not see it says nothing: by itself it does not teach to reconstruct.
    """

    def of_images(
        self,
        images: Tensor,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        noise: float | Tensor | None,
    ) -> Tensor:
        measured = network.operator_of(y, operator)(images)
        return mean_of_measured(squared(measured - y), operator, y)


@dataclass(frozen=True)
class UnbiasedRisk(MeasurementLoss):
    """mean(|Ax̂ − y|² − v + 2v·∂(Ax̂)/∂y), where v is the variance of the noise: an estimate of mean |Ax̂ − Ax|².

    The divergence is estimated by one random direction b and a finite difference (Ramani, Blu, Unser, 2008),
    Re⟨b, Ax̂(y + τb) − Ax̂(y)⟩/τ, so the network runs twice, and never in bfloat16.

    Parameters
    ----------
    step : float > 0
        τ, in parts of the root mean square of an image's measurements.
    """

    step: float = field(default=1e-3, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise ValueError(f"{type(self).__name__}: step must be a finite number > 0, got {self.step!r}")

    @abstractmethod
    def variance(self, y: Tensor, noise: float | Tensor | None) -> Tensor:
        """The variance of the noise of every measurement, E|noise|², real; it broadcasts against y."""

    def precision(self, y: Tensor) -> AbstractContextManager[Any]:
        return full_precision(y)

    def of_images(
        self,
        images: Tensor,
        network: UnrolledNetwork,
        y: Tensor,
        operator: LinearOperator,
        noise: float | Tensor | None,
    ) -> Tensor:
        y = operator.sampled(y)
        direction = operator.sampled(torch.randn_like(y))
        step = self.step * mean_of_measured(squared(y), operator, y, each=True).sqrt().clamp(min=LEAST)
        step = step.reshape(-1, *[1] * (y.ndim - 1))
        draws = None if torch.compiler.is_compiling() else Draws([network], y.device)
        moved, _ = reconstruction(network, y + step * direction, operator, noise)
        measures, measures_moved = (network.operator_of(own, operator) for own in (y, y + step * direction))
        if draws is not None and draws.happened():
            raise ValueError(
                f"{type(self).__name__}: networks that draw random numbers, as dropout does, have no derivative by "
                "the measurements; train without"
            )
        found = measures(images)
        change = (measures_moved(moved) - found) / step
        along = (direction.conj() * change).real if y.is_complex() else direction * change
        variance = self.variance(y, noise)
        return mean_of_measured(squared(found - y) + variance * (2 * along - 1), operator, y)


@dataclass(frozen=True)
class SURE(UnbiasedRisk):
    """Stein's unbiased risk estimate: mean(|Ax̂ − y|²) − σ² + 2σ²/m·div(Ax̂), for Gaussian noise of a known level.

    Its expectation is the mean of |Ax̂ − Ax|² over the m measurements (Stein, 1981), which is the mean squared error
    where A is the identity. Of what A does not see it says nothing: see `EquivariantImaging`.

    Parameters
    ----------
    sigma : float > 0, optional
        standard deviation of the noise, in the units of measurements; of complex ones √E|noise|². By default what the
        task knows of the noise.
    step : float > 0
        see `UnbiasedRisk`.
    """

    sigma: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma is not None and not 0 < self.sigma < math.inf:
            raise ValueError(f"SURE: sigma must be a finite number > 0, got {self.sigma!r}")

    def check(self, operator: LinearOperator, noise: float | Tensor | None) -> None:
        if self.sigma is None and noise is None:
            raise ValueError(
                "SURE: needs the noise level of the measurements; give sigma, or train with GaussianNoise or "
                "ComplexGaussianNoise"
            )
        if self.sigma is not None and noise is not None and (isinstance(noise, Tensor) or noise != self.sigma):
            raise ValueError(
                f"SURE: sigma is {self.sigma!r}, and the noise of the measurements has the level {noise!r}; leave out "
                "sigma"
            )

    def variance(self, y: Tensor, noise: float | Tensor | None) -> Tensor:
        return self._level(y, noise).square()

    def noisy(self, y: Tensor, noise: float | Tensor | None) -> Tensor:
        return y + self._level(y, noise) * torch.randn_like(y)

    def _level(self, y: Tensor, noise: float | Tensor | None) -> Tensor:
        level = torch.as_tensor(noise if self.sigma is None else self.sigma, dtype=y.real.dtype, device=y.device)
        if level.numel() not in (1, len(y)):
            raise ValueError(f"SURE: noise must be one level, or one for each of {len(y)} images, got {level.numel()}")
        return level.reshape(-1, *[1] * (y.ndim - 1))


@dataclass(frozen=True)
class PURE(UnbiasedRisk):
    """As SURE, for counts: y = γ·Poisson(Ax/γ), whose variance is estimated by γy.

    Unbiased for reconstructions that are linear in y, and otherwise to first order in γ (Luisier, Blu, Unser, 2011;
    Chen, Tachella, Davies, CVPR 2022, for images that are measured).

    Parameters
    ----------
    gain : float > 0
        γ, the units of y in one count, as in `PoissonNoise`.
    step : float > 0
        see `UnbiasedRisk`.
    """

    gain: float

    def __post_init__(self) -> None:
        super().__post_init__()
        PoissonNoise(self.gain)  # which says what a gain can be

    def check(self, operator: LinearOperator, noise: float | Tensor | None) -> None:
        if operator.complex_measurements:
            raise ValueError(f"PURE: counts are real, and {type(operator).__name__} measures complex numbers")

    def variance(self, y: Tensor, noise: float | Tensor | None) -> Tensor:
        return self.gain * y

    def noisy(self, y: Tensor, noise: float | Tensor | None) -> Tensor:
        return PoissonNoise(self.gain)(y.clamp(min=0))


def squared(x: Tensor) -> Tensor:
    """|x|², real."""
    return x.real.square() + x.imag.square() if x.is_complex() else x.square()


def mean_of_measured(values: Tensor, operator: LinearOperator, y: Tensor, each: bool = False) -> Tensor:
    """The mean over the numbers that an operator measures and over the batch; for each image of it, if that is asked.

    Parameters
    ----------
    values : Tensor, like y, real
    y : Tensor, (batch, …)
    """
    where = operator.sampled(torch.ones_like(y)).real
    mean = (where * values).flatten(1).sum(1) / where.flatten(1).sum(1)
    return mean if each else mean.mean()
