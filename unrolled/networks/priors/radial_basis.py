"""Activation functions that are learned, as sums of Gaussian bumps."""

from typing import Any

import torch
from torch import Tensor, nn

from unrolled.networks.positive_numbers import check_positive
from unrolled.networks.sizes import check_sizes


class RadialBasisActivation(nn.Module):
    """φ_i(v) = Σ_j w_ij exp(−(v − μ_j)² / (2σ²)), of every feature map i its own; 0 before training.

    The centres μ lie evenly on [−extent, extent], and σ is their distance. Far outside of it φ is 0.

    No tensor of all bumps of all maps is ever made: they are added one after the other, and computed once more for the
    gradient. So of the large tensors only the input is kept.

    Parameters
    ----------
    features : int
        feature maps.
    functions : int >= 2
        Gaussians.
    extent : float > 0
    """

    def __init__(self, features: int, functions: int = 31, extent: float = 1.0):
        super().__init__()
        check_sizes("RadialBasisActivation", features=features, functions=functions)
        if functions < 2:
            raise ValueError(f"RadialBasisActivation: functions must be >= 2, got {functions}")
        check_positive("RadialBasisActivation", extent=extent)
        self.weight = nn.Parameter(torch.zeros(features, functions))
        self.extent = extent

    def forward(self, v: Tensor) -> Tensor:
        """φ(v), (batch, features, …), at least in float32."""
        if torch.is_grad_enabled():
            found: Tensor = _RadialSum.apply(v, self.weight, self.extent)
            return found
        return _radial_sum(v, self.weight, self.extent)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, functions={self.weight.shape[1]}, extent={self.extent}"


def _grid(weight: Tensor, extent: float) -> tuple[list[float], float]:
    """The centres and their distance."""
    spacing = 2 * extent / (weight.shape[1] - 1)
    return [index * spacing - extent for index in range(weight.shape[1])], spacing


def _working(v: Tensor) -> Tensor:
    # Squares of differences would lose most of the digits of a half-precision number.
    return v.to(torch.promote_types(v.dtype, torch.float32))


def _of_maps(weight: Tensor, v: Tensor) -> list[Tensor]:
    """The weights of every Gaussian, each in a shape that multiplies maps."""
    return [column.to(v.dtype).view(-1, *[1] * (v.ndim - 2)) for column in weight.unbind(1)]


def _radial_sum(v: Tensor, weight: Tensor, extent: float) -> Tensor:
    v, (centres, sigma) = _working(v), _grid(weight, extent)
    total = torch.zeros_like(v)
    for centre, each in zip(centres, _of_maps(weight, v), strict=True):
        u = (v - centre) / sigma
        total = total + each * (-0.5 * u * u).exp()
    return total


class _RadialSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, weight: Tensor, extent: float) -> Tensor:
        ctx.save_for_backward(v, weight)
        ctx.extent = extent
        return _radial_sum(v, weight, extent)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        v, weight = ctx.saved_tensors
        kind, v, (centres, sigma) = v.dtype, _working(v), _grid(weight, ctx.extent)
        slope, sums = torch.zeros_like(v), []
        for centre, each in zip(centres, _of_maps(weight, v), strict=True):
            u = (v - centre) / sigma
            bump = (-0.5 * u * u).exp()
            slope = slope - each * u * bump
            sums.append((gradient * bump).transpose(0, 1).flatten(1).sum(1))
        return (gradient * slope / sigma).to(kind), torch.stack(sums, 1).to(weight.dtype), None
