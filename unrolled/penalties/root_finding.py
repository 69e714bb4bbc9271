"""Geometric grids, and the roots and derivatives of elementwise functions."""

from collections.abc import Callable

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps
"""The rounding of float64, to which roots are found."""

_PER_OCTAVE = 4  # nodes of a geometric grid


def geometric_grid(low: float, high: float, device: torch.device | None = None) -> Tensor:
    """A geometric grid from low to high, powers of 2, in float64."""
    octaves = torch.tensor([low, high], dtype=torch.float64).log2()
    count = int((octaves[1] - octaves[0]).item()) * _PER_OCTAVE
    return 2.0 ** torch.linspace(float(octaves[0]), float(octaves[1]), count + 1, dtype=torch.float64, device=device)


def subdivided(low: Tensor, high: Tensor, parts: int) -> Tensor:
    """Geometric grids from low to high, both > 0: (parts + 1, *shape of low)."""
    fractions = torch.linspace(0, 1, parts + 1, dtype=low.dtype, device=low.device)
    inner = torch.minimum(low * (high / low) ** fractions.reshape(-1, *[1] * low.ndim), high)  # also if they are close
    return torch.cat([low[None], inner[1:-1], high[None]])


def root(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, tolerance: float = 2 * EPS) -> Tensor:
    """Where a function with values < 0 at low and ≥ 0 at high crosses 0, to a relative tolerance.

    Regula falsi in the variant of Illinois, with a bisection now and then so that it always ends.
    """
    at_low, at_high = function(low), function(high)
    before = at_low > 0
    for count in range(100):
        if (high - low <= 2 * tolerance * high).all():
            break
        if count % 4 == 3:
            middle = (low + high) / 2
        else:  # not closer to an end than the tolerance: so the other end is drawn in when one is at the solution
            secant = low + (high - low) * (at_low / (at_low - at_high))
            margin = torch.minimum(tolerance * high, (high - low) / 2)
            secant = torch.where(secant.isnan(), high, secant)  # 0/0, when it is found
            middle = torch.minimum(torch.maximum(secant, low + margin), high - margin)
        now = function(middle)
        below = now < 0
        # An end that stays for a second time counts half: so none stays for long.
        again = torch.where(below == before, 0.5, 1.0)
        before = below
        at_low, at_high = torch.where(below, now, at_low * again), torch.where(below, at_high * again, now)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def derivative_of(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The derivative of an elementwise function, recorded for gradients only if something in it asks for them."""
    record = torch.is_grad_enabled() and (z.requires_grad or function(z).requires_grad)
    with torch.inference_mode(False), torch.enable_grad():
        at = z if z.requires_grad else z.detach().clone().requires_grad_()
        value = function(at)
        slope = (
            torch.autograd.grad(value.sum(), at, create_graph=record, allow_unused=True)[0]
            if value.requires_grad
            else None
        )
    return torch.zeros_like(z) if slope is None else slope
