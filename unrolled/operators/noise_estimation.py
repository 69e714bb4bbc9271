"""The level of white noise in measurements, where nobody knows it: estimated from the measurements alone."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.operators.blur import Blur
from unrolled.operators.downsampling import Downsampling
from unrolled.operators.frequencies import places_of_frequencies
from unrolled.operators.identity import Identity
from unrolled.operators.inpainting import Inpainting
from unrolled.operators.masked_samples import MaskedSamples
from unrolled.operators.operator import LinearOperator, Scaled
from unrolled.operators.sampled_fourier import SampledFourier
from unrolled.operators.tomography import Tomography
from unrolled.system.arraylike import as_tensor

PICTURES = (Identity, Blur, Downsampling, Inpainting)
"""Operators whose measurements are pictures that people have."""

SMOOTH = 0.1
"""The part of an image, of its blocks, that is taken to be without texture."""

SIDE = 6
"""Numbers in a row of a block."""

QUANTILE, DENSITY = 25.6432999, 0.0259762
"""Of χ² with `SIDE`² degrees of freedom: what the part `SMOOTH` is below, and the density there."""

FEW = 200
"""Numbers from which on a level is estimated."""

OUTERMOST = 0.1
"""The part of frequencies, the highest, that are taken to hold noise alone."""


@dataclass(frozen=True)
class NoiseEstimate:
    """A noise level and how sure it is.

    Parameters
    ----------
    level : float
        the standard deviation, of complex measurements √E|noise|², in the units of the measurements.
    error : float
        the standard error of the level, as far as it is due to chance. Fine texture, which looks like noise, makes the
        level too large beyond that.
    """

    level: float
    error: float

    def __str__(self) -> str:
        return f"{self.level:.3g} ± {self.error:.1g}"


def estimate_noise(y: Any, operator: LinearOperator | None = None) -> NoiseEstimate:
    """The level of white noise in measurements of one image.

    Of pictures (an image itself, blurred, or made smaller) it is that of a Laplacian that is 0 of planes (Immerkær,
    "Fast noise variance estimation", Computer Vision and Image Understanding 64(2), 1996) in the tenth of all blocks
    where it is least, so that texture elsewhere does not count. Of sinograms it is that of second differences along the
    detector in the same way; of Fourier samples that of the highest tenth of the frequencies that were sampled.

    Parameters
    ----------
    y : Tensor or array, (batch, channel, …)
        measurements, or an image if there is no operator.
    operator : LinearOperator, optional
        that they were measured by.

    Returns
    -------
    NoiseEstimate

    Raises
    ------
    ValueError
        if the measurements are of a kind of which noise cannot be told from signal, or too few.
    """
    y = as_tensor("measurements", y)
    while isinstance(operator, Scaled):
        operator = operator.operator
    if isinstance(operator, SampledFourier):
        return _of_frequencies(y, operator)
    if isinstance(operator, Tomography):
        return _of_blocks(_second_differences(y))
    if isinstance(operator, MaskedSamples):
        known = operator.mask.expand(y.shape[-2:]) if operator.mask.ndim == 2 else operator.mask
        return _of_values(_laplacian(y), _laplacian_inside(known.to(y.real.dtype)))
    if operator is None or isinstance(operator, PICTURES):
        return _of_blocks(_laplacian(y))
    raise ValueError(
        f"noise: cannot be estimated from measurements by {type(operator).__name__}, in which nothing tells noise from "
        "signal; give its level"
    )


def estimate_each(y: Tensor, operator: LinearOperator) -> list[NoiseEstimate]:
    """The level of every image of a batch of measurements; ValueError as `estimate_noise`."""
    return [estimate_noise(each, operator) for each in y.split(1)]


def _laplacian(y: Tensor) -> Tensor:
    """(batch · channel, rows, columns), each of unit variance for white noise of unit variance, and independent."""
    _check_size(y)
    picture = torch.cat([y.real, y.imag]) * math.sqrt(2) if y.is_complex() else y
    picture = picture.reshape(-1, 1, *y.shape[-2:])
    kernel = (
        torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]], dtype=picture.dtype, device=y.device) / 6
    )
    return torch.nn.functional.conv2d(picture, kernel[None, None], stride=3)[:, 0]


def _laplacian_inside(known: Tensor) -> Tensor:
    """Where all nine numbers of a Laplacian were measured."""
    whole = torch.nn.functional.avg_pool2d(known.reshape(-1, 1, *known.shape[-2:]), 3, stride=3)[:, 0]
    return whole > 1 - 1e-3


def _second_differences(y: Tensor) -> Tensor:
    """Along the detector; (batch · channel, angles, differences) of unit variance and independent."""
    _check_size(y)
    length = y.shape[-1] // 3 * 3
    first, middle, last = y.reshape(-1, *y.shape[-2:])[..., :length].unflatten(-1, (-1, 3)).unbind(-1)
    return (first - 2 * middle + last) / math.sqrt(6)


def _check_size(y: Tensor) -> None:
    if y.ndim < 2 or min(y.shape[-2:]) < 3:
        raise ValueError(f"noise: cannot be estimated from measurements of the shape {tuple(y.shape)}; give its level")


def _of_blocks(numbers: Tensor) -> NoiseEstimate:
    """Of numbers whose variance is that of noise in the smoothest blocks, and larger elsewhere."""
    rows, columns = (length // SIDE * SIDE for length in numbers.shape[-2:])
    blocks = numbers[..., :rows, :columns].unfold(-2, SIDE, SIDE).unfold(-2, SIDE, SIDE).flatten(-2).flatten(0, -2)
    if len(blocks) < 1 / SMOOTH:
        return _of_values(numbers, torch.ones_like(numbers, dtype=torch.bool))
    variances = blocks.double().square().mean(1)
    moving = variances[variances > 0]  # what is clipped to black or white has no noise
    if not len(moving):
        return NoiseEstimate(0.0, 0.0)
    freedom = SIDE**2
    quantile = float(moving.quantile(SMOOTH))
    level = math.sqrt(quantile * freedom / QUANTILE)
    # Of a quantile p of n numbers of the density f the variance is p(1 − p)/(n f²).
    spread = math.sqrt(SMOOTH * (1 - SMOOTH) / len(moving)) / (DENSITY * freedom / level**2)
    return NoiseEstimate(level, level * spread / (2 * quantile))


def _of_values(numbers: Tensor, used: Tensor) -> NoiseEstimate:
    """Of numbers most of which are noise: by the median of their magnitudes (Donoho, Johnstone, 1994)."""
    found = numbers[used.expand(numbers.shape)].double().abs()
    if len(found) < FEW:
        raise ValueError(
            f"noise: cannot be estimated from {len(found)} places where neighbours were measured, {FEW} are needed; "
            "give its level"
        )
    level = float(found.median()) / 0.67449
    return NoiseEstimate(level, 1.167 * level / math.sqrt(len(found)))


def _of_frequencies(y: Tensor, operator: SampledFourier) -> NoiseEstimate:
    """Of the samples of the highest frequencies, whose squared magnitudes have an exponential law."""
    height, width = y.shape[-2:]
    rows, columns = places_of_frequencies((height, width), operator.centered)
    radius = torch.maximum(rows.abs(), columns.abs())
    sampled = operator.mask.reshape(-1, height, width)[0].bool().cpu()
    if not bool(sampled.any()):
        raise ValueError("noise: cannot be estimated where nothing was sampled; give its level")
    limit = float(radius[sampled].quantile(1 - OUTERMOST))
    found = y[..., (sampled & (radius >= limit)).to(y.device)].abs().double().square().flatten()
    if len(found) < FEW:
        raise ValueError(f"noise: cannot be estimated from {len(found)} samples, {FEW} are needed; give its level")
    level = math.sqrt(float(found.median()) / math.log(2))
    return NoiseEstimate(level, level / (2 * math.log(2) * math.sqrt(len(found))))
