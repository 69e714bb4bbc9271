"""The filter of filtered back-projection, and the windows that it is multiplied by."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Window = Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"]

WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "ramp": torch.ones_like,
    "shepp-logan": torch.sinc,
    "cosine": lambda frequency: torch.cos(math.pi * frequency),
    "hamming": lambda frequency: 0.54 + 0.46 * torch.cos(2 * math.pi * frequency),
    "hann": lambda frequency: 0.5 + 0.5 * torch.cos(2 * math.pi * frequency),
}
"""By what the ramp filter is multiplied; frequencies in periods per detector, at most ½."""


def windowed_ramp(name: str, window: str, detectors: int, opening: float = 0.0) -> Tensor:
    """The ramp filter in a window, from its samples (Kak and Slaney, eq. 61): frequencies alone would shift the mean.

    Parameters
    ----------
    name : str
        of the operator, for messages.
    window : str
        one of `WINDOWS`.
    detectors : int
    opening : float
        angle between neighbouring detectors, in radians, if they are at equal angles (eq. 100); otherwise 0.

    Returns
    -------
    Tensor, (frequency,), float64; to be divided by the distance of the detectors
    """
    if window not in WINDOWS:
        raise ValueError(f"{name}: window must be one of {', '.join(WINDOWS)}, got {window!r}")
    size = max(64, 2 ** math.ceil(math.log2(2 * detectors)))  # so long that the filter does not wrap around
    lag = torch.arange(size, dtype=torch.float64)
    lag = torch.minimum(lag, size - lag)
    taps = torch.where(lag % 2 == 1, -1 / (math.pi * lag).square(), 0.0)
    if opening:
        # Lags of the whole detector and more are never met.
        reach = lag.clamp(1, detectors) * opening
        taps = torch.where(lag < detectors, taps * (reach / reach.sin()).square(), 0.0)
    taps[0] = 0.25
    frequency = torch.fft.rfftfreq(size, dtype=torch.float64)
    return torch.fft.rfft(taps).real * WINDOWS[window](frequency)
