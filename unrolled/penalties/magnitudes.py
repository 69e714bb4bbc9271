"""Magnitudes and phases of numbers, the steps of proximal maps, and gradients that stay finite at 0 and infinity."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOW_PRECISION = (torch.bfloat16, torch.float16)
"""Types in which roots and differences lose too many digits: they are computed in 32 bits."""


def magnitude_of(v: Tensor) -> Tensor:
    """|v|, with the derivative 1 at a real 0: the one from the right, as the maps on magnitudes have it.

    Raises
    ------
    ValueError
        if v is not floating point.
    """
    if v.is_complex():
        infinite = v.isinf()
        return torch.where(infinite, torch.inf, _with_phase(v, infinite).abs())
    if not v.is_floating_point():
        raise ValueError(f"a penalty needs floating point or complex tensors, got {v.dtype}")
    return v * _sign(v) if v.requires_grad else v.abs()


def with_phase_of(v: Tensor, magnitude: Tensor, kept: Tensor) -> Tensor:
    """The numbers of magnitude `kept` and of the sign or phase of v, with |v| = magnitude."""
    if not v.is_complex():
        return (kept * _sign(v) if kept.requires_grad else torch.copysign(kept, v)).to(v.dtype)
    infinite = magnitude.isinf()
    return torch.where(infinite, v, kept * torch.sgn(_with_phase(v, infinite))).to(v.dtype)


def _with_phase(v: Tensor, infinite: Tensor) -> Tensor:
    """Complex v, and 0 instead of infinite and denormal numbers, on which abs() and sgn() have NaN gradients."""
    denormal = v.real.abs() + v.imag.abs() < torch.finfo(v.dtype).tiny
    return torch.where(infinite | denormal, 0.0, v)


def above(z: Tensor, bound: Tensor) -> Tensor:
    """1 where z > bound, else 0, of the type of z and without gradient.

    For data this is worth its detour: a CPU takes several times as long for `torch.where`, which it does not vectorise.
    """
    return torch.sgn(F.relu(z.detach() - bound.detach()))


def moved_into_range(magnitude: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
    """Magnitudes moved into the range from a threshold (if there is one) to finite numbers, without gradient.

    Returns
    -------
    Tensors of the shape of magnitude: the magnitudes, and what must be added to the large ones afterwards: ∞, or 0.
    """
    magnitude = magnitude.detach()
    kind = torch.finfo(magnitude.dtype)
    finite = magnitude.clamp(max=kind.max / 4)
    inside = finite if t is None else torch.maximum(finite, t.detach().clamp(min=kind.tiny * kind.eps))
    return inside, F.relu(magnitude - finite)


def with_gradient_of(source: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """The value, with the gradient of the source times a weight: that of an equation which the value solves, or so."""
    return _WithGradient.apply(value, source, weight)


class _WithGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        return None, gradient * ctx.saved_tensors[0], None


def _sign(v: Tensor) -> Tensor:
    """1 or −1, also at 0, without gradient."""
    return torch.copysign(torch.ones((), dtype=v.dtype, device=v.device), v.detach())


def on_magnitudes(function: Callable[[Tensor], Tensor], w: Tensor) -> Tensor:
    """function(|w|), in at least 32 bits, returned in the type of |w|."""
    z = magnitude_of(w)
    return function(z.float()).to(z.dtype) if z.dtype in LOW_PRECISION else function(z)


def step_number(step: float) -> float:
    """The step, checked.

    Raises
    ------
    ValueError
        if it is not > 0 and finite.
    """
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"step must be a finite number > 0, got {step!r}")
    return step


def step_tensor(step: Tensor | float, like: Tensor | None = None) -> Tensor:
    """The step as a tensor of the type of `like`: a number is checked, and put on its device (float64 without one)."""
    if isinstance(step, Tensor):
        return step if like is None else step.to(like.dtype)
    if like is None:
        return torch.tensor(step_number(step), dtype=torch.float64)
    tensor = torch.tensor(step_number(step), dtype=like.dtype, device=like.device)
    if torch.compiler.is_compiling():
        # What follows from a constant the compiler writes out again wherever it is used, for a threshold that is found
        # by iteration thousands of times. Sorted, it is data.
        tensor = tensor.expand(2).sort().values[0]
    return tensor
