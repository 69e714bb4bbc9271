"""The noise level of measurements, as users state it and as networks are told it."""

import math
import warnings
from typing import Any

from unrolled.networks import UnrolledNetwork
from unrolled.system.scalars import as_number


def level_of(noise: Any) -> float:
    """A noise level; a ValueError for what is none."""
    level = as_number(noise)
    if level is None or not 0 <= level < math.inf:
        raise ValueError(f"noise: must be a standard deviation, a finite number >= 0, got {noise!r}")
    return level


def told(noise: float | None, network: UnrolledNetwork) -> float | None:
    """The noise level of measurements, if there is one and the network takes it."""
    return noise if network.takes_noise else None


def warn_of_others(noise: float, network: UnrolledNetwork, stacklevel: int = 2) -> None:
    """Warn of a noise level, where white is 1, that a network was not trained for."""
    if network.noise_range is not None and not network.noise_range[0] <= noise <= network.noise_range[1]:
        warnings.warn(
            f"noise: {type(network).__name__} was trained for levels in {network.noise_range[0]:g} … "
            f"{network.noise_range[1]:g} where white is 1, and is told {noise:g}",
            stacklevel=stacklevel + 1,
        )
