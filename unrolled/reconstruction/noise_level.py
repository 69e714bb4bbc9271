"""Noise as users state it, and its level as networks are told it."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, Noise
from unrolled.operators.noise import with_white_noise
from unrolled.operators.noise_estimation import estimate_each
from unrolled.system.scalars import as_number

ROUNDING = 1e-6
"""Of a level in single precision."""

StatedNoise = float | Noise
"""A law of noise, or the standard deviation of white noise."""


def level_of(noise: Any) -> float:
    """A noise level; a ValueError for what is none."""
    level = as_number(noise)
    if level is None or not 0 <= level < math.inf:
        raise ValueError(f"noise: must be a standard deviation, a finite number >= 0, got {noise!r}")
    return level


def checked(noise: StatedNoise | None) -> StatedNoise | None:
    """Noise as it was stated; a ValueError for what is none."""
    return noise if noise is None or isinstance(noise, Noise) else level_of(noise)


def with_noise(y: Tensor, noise: StatedNoise | None, seed: int = 0) -> Tensor:
    """Measurements with noise, drawn on the CPU by a seed."""
    generator = torch.Generator().manual_seed(seed)
    if noise is None:
        return y
    return noise(y, generator) if isinstance(noise, Noise) else with_white_noise(y, level_of(noise), generator)


def told(noise: StatedNoise | None, network: UnrolledNetwork | None) -> float | None:
    """The noise level of measurements, if there is one and the network takes it."""
    if network is None or not network.takes_noise:
        return None
    if isinstance(noise, Noise):
        low, high = noise.level_range or (0.0, math.inf)
        return high if low == high else None
    return noise


def level_in(
    y: Tensor, operator: LinearOperator, network: UnrolledNetwork | None, level: float | Tensor | None
) -> float | Tensor | None:
    """The noise level of measurements that a network is told: as stated, or else estimated of each image.

    Parameters
    ----------
    y : Tensor, (batch, …)
        measurements of images with white at 1.
    operator : LinearOperator
    network : UnrolledNetwork, or None for a classical method
    level : float or Tensor, optional
        as it was stated.

    Returns
    -------
    float or Tensor (batch,), or None for networks that take none

    Warns
    -----
    UserWarning
        with the estimate; or with the reason why there is none, and the network takes the least level of its range.
    """
    if level is not None or network is None or network.noise_range is None:
        return level
    try:
        found = estimate_each(y, operator)
    except ValueError as error:
        warnings.warn(f"{error}; until then {network.noise_range[0]:g} is assumed", stacklevel=3)
        return None
    said = ", ".join(map(str, found[:3])) + ", …" * (len(found) > 3)
    warnings.warn(f"noise: no level was given, and {said} is estimated, where white is 1", stacklevel=3)
    return torch.tensor([each.level for each in found])


def warn_of_others(noise: float, network: UnrolledNetwork, stacklevel: int = 2) -> None:
    """Warn of a noise level, where white is 1, that a network was not trained for."""
    low, high = network.noise_range or (0.0, math.inf)
    if not (1 - ROUNDING) * low <= noise <= (1 + ROUNDING) * high:
        warnings.warn(
            f"noise: {type(network).__name__} was trained for levels in {low:g} … {high:g} "
            f"where white is 1, and is told {noise:g}",
            stacklevel=stacklevel + 1,
        )
