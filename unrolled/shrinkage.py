"""A penalty's proximal map as a layer that learns its step."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.penalties import L1, Penalty


class Shrinkage(nn.Module):
    """The proximal map of a penalty, with one learned step or one per channel.

    The step is kept positive by a softplus over the raw parameter, so that the layer never expands.

    Parameters
    ----------
    penalty : Penalty
        any penalty whose proximal map has a gradient in its step. Default: L1, soft thresholding.
    channels : int, optional
        one step for each of so many channels (axis 1 of the input); by default one for all.
    threshold : float > 0
        where the threshold starts: inputs up to this magnitude become 0.

    Raises
    ------
    ValueError
        if the penalty's step cannot be learned or its threshold is always 0, or channels or threshold are not positive.

    Examples
    --------
    >>> layer = Shrinkage(L1(), channels=8, threshold=0.1)
    >>> layer(torch.ones(2, 8, 5, 5)).amax().item()
    0.8999999761581421
    """

    def __init__(self, penalty: Penalty | None = None, channels: int | None = None, threshold: float = 0.01):
        super().__init__()
        penalty = L1() if penalty is None else penalty
        if not penalty.prox_has_step_gradient:
            raise ValueError(
                f"Shrinkage: the proximal map of {type(penalty).__name__} is constant in its step wherever it has a "
                "derivative, so no gradient would reach the step; MCP(gamma, b) with a small b comes close to it"
            )
        if not penalty.exact_zeros:
            raise ValueError(
                f"Shrinkage: the proximal map of {type(penalty).__name__} never returns exact zeros, so it has no "
                "threshold to learn; LogSum or ScaledArctan grow as slowly at large values and have one"
            )
        if channels is not None and channels < 1:
            raise ValueError(f"Shrinkage: channels must be >= 1 or None, got {channels!r}")
        if not (math.isfinite(threshold) and threshold > 0):
            raise ValueError(f"Shrinkage: threshold must be a finite number > 0, got {threshold!r}")
        self.penalty = penalty
        self.channels = channels
        step = torch.tensor(_step_of_threshold(penalty, threshold), dtype=torch.float64)
        raw = (step + torch.log(-torch.expm1(-step))).to(torch.get_default_dtype())  # the inverse of softplus
        self.raw_step = nn.Parameter(raw if channels is None else raw.repeat(channels))

    @property
    def step(self) -> Tensor:
        """The step of the proximal map, > 0: a scalar, or (channels,)."""
        return F.softplus(self.raw_step)

    @property
    def threshold(self) -> Tensor:
        """The largest magnitude that the layer sends to 0: a scalar, or (channels,)."""
        return self.penalty.threshold(self.step)

    def forward(self, v: Tensor) -> Tensor:
        """Shrink v.

        Parameters
        ----------
        v : Tensor, (batch, channel, …), real or complex; any shape when the step is one for all
        """
        step = self.step.to(v.real.dtype if v.is_complex() else v.dtype)
        if self.channels is not None:
            if v.ndim < 2 or v.shape[1] != self.channels:
                raise ValueError(f"Shrinkage: axis 1 must have {self.channels} channels, got shape {tuple(v.shape)}")
            step = step.view(-1, *[1] * (v.ndim - 2))
        return self.penalty.prox(v, step)

    def extra_repr(self) -> str:
        return f"{self.penalty}, channels={self.channels}"


def _step_of_threshold(penalty: Penalty, threshold: float) -> float:
    """The step at which a penalty's threshold, which grows with the step, has the given value: by bisection."""
    low, high = 1e-300, 1.0
    while float(penalty.threshold(torch.tensor(high, dtype=torch.float64))) < threshold:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if float(penalty.threshold(torch.tensor(middle, dtype=torch.float64))) < threshold:
            low = middle
        else:
            high = middle
    return high
