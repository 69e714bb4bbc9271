"""Curves that are costly to evaluate, as tables over the magnitude that are interpolated."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unrolled.penalties.curve import HIGHEST, LOWEST, Curve
from unrolled.penalties.root_finding import root

HALVINGS = 39
"""So often a stretch is halved at most; then its polynomial is taken as it is."""


@dataclass(frozen=True, eq=False)
class CostlyCurve(Curve):
    """A curve that takes long to evaluate, smooth up to some z, in another u than the magnitude."""

    in_magnitudes: ClassVar[bool] = False

    def top(self, device: torch.device) -> Tensor:
        """The z from which on ρ is 1, if there is one."""
        return torch.tensor(torch.inf, dtype=torch.float64, device=device)

    def interpolated(self) -> Curve:
        """The same curve as a table over the magnitude, if its parameters are numbers; else this one."""
        return self if self.tensors else InterpolatedCurve(self)


@dataclass(frozen=True, eq=False)
class InterpolatedCurve(Curve):
    """A costly curve over the magnitude, by interpolation between tabulated values."""

    exact: CostlyCurve

    def nodes(self, device: torch.device) -> Tensor:
        grid, top = super().nodes(device), self.exact.top(device)  # where ρ' jumps
        return torch.cat([grid, torch.stack([top, top.nextafter(top + 1)])[top.isfinite().expand(2)]]).sort().values

    def at(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u, self._tabulated(u, 0, torch.inf)

    def value(self, u: Tensor) -> Tensor:
        return self._tabulated(u, 1, 1.0)

    def _tabulated(self, u: Tensor, part: int, beyond: float) -> Tensor:
        """η̂ (part 0) or ρ (part 1), with what it is beyond the top."""
        top = self.exact.top(u.device)
        return torch.where(u > top, beyond, self.once(self._interpolant, u.device)(torch.minimum(u, top), part))

    def _interpolant(self, device: torch.device) -> "Interpolant":
        return Interpolant(self._of_magnitude, LOWEST, min(HIGHEST, float(self.exact.top(device))), device)

    def _of_magnitude(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """η̂ and ρ at z, (n,)."""
        grid = self.exact.nodes(z.device)
        at = torch.searchsorted(self.exact.at(grid)[0], z).clamp(1, len(grid) - 1)
        u = root(lambda u: self.exact.at(u)[0] - z, grid[at - 1], grid[at])
        return self.exact.at(u)[1], self.exact.value(u)


class Interpolant:
    """Positive functions of u > 0 by polynomials of degree 7 on logarithmic scales, in stretches as short as it takes.

    Their relative error is of the order of 1e-14, or what rounding u does to the functions. Beyond the last node they
    go on as powers.

    Parameters
    ----------
    functions : callable
        maps u, (n,), to a tuple of tensors, (n,).
    low, high : float
        the first and the last node.
    device : torch.device
    """

    def __init__(
        self, functions: Callable[[Tensor], tuple[Tensor, ...]], low: float, high: float, device: torch.device
    ) -> None:
        count = math.ceil(math.log2(high / low) * 8)
        edges = torch.linspace(math.log(low), math.log(high), count + 1, dtype=torch.float64, device=device)
        chebyshev = np.cos((np.arange(8) + 0.5) * np.pi / 8)
        between = np.array([-0.97, -0.5, 0.3, 0.97])  # where the polynomials are checked
        places = torch.from_numpy(np.concatenate([chebyshev, between])).to(device)
        to_powers = torch.from_numpy(np.linalg.inv(np.vander(chebyshev, increasing=True))).to(device)
        at_between = torch.from_numpy(np.vander(between, 8, increasing=True)).to(device)
        left, right = edges[:-1], edges[1:]
        short: list[tuple[Tensor, ...]] = []  # what is known of the stretches that are short enough
        for halvings in range(HALVINGS + 1):
            middle, half = (right + left) / 2, (right - left) / 2
            x = middle[:, None] + half[:, None] * places
            logs = torch.stack([value.log() for value in functions(x.exp().reshape(-1))]).detach().reshape(-1, *x.shape)
            first = logs[..., :1]
            coefficients = (logs - first)[..., :8] @ to_powers.T  # differences are small, and lose no digits
            error = (coefficients @ at_between.T - (logs - first)[..., 8:]).abs().amax(-1)
            rounding = (logs - first).abs().amax(-1) / half * (1 + middle.abs()) * 4 * torch.finfo(x.dtype).eps
            coefficients[..., :1] += first
            powers = (logs[..., 0] - logs[..., 1]) / (x[:, 0] - x[:, 1])
            bad = (error > 2e-14 + rounding).any(0) & (halvings < HALVINGS)
            known = middle, half, right, coefficients.movedim(0, 1), powers.T
            short.append(tuple(each[~bad] for each in known))
            if not bad.any():
                break
            left, right = torch.cat([left[bad], middle[bad]]), torch.cat([middle[bad], right[bad]])
        middle, half, right, coefficients, powers = (torch.cat(each) for each in zip(*short, strict=True))
        order = middle.argsort()
        self.middle, self.half, self.edges = middle[order], half[order], right[order][:-1].contiguous()
        self.coefficients, self.powers = coefficients[order].movedim(1, 0), powers[order][-1]
        self.end = math.log(high)

    def __call__(self, u: Tensor, part: int) -> Tensor:
        """One of the functions at u > 0, no less than the first node."""
        x = u.log()
        inside = x.clamp(max=self.end)
        at = torch.searchsorted(self.edges, inside.detach().contiguous())
        offset = (inside - self.middle[at]) / self.half[at]
        *rest, value = self.coefficients[part][at].unbind(-1)
        for coefficient in reversed(rest):
            value = value * offset + coefficient
        return (value + (x - inside) * self.powers[part]).exp()
