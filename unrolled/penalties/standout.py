"""Standout: dropout whose keep probability is a logistic function of the weight."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.curve import Curve
from unrolled.penalties.numeric import NumericPenalty
from unrolled.penalties.penalty import Formulas, parameter


@dataclass(frozen=True, eq=False)
class _StandoutCurve(Curve):
    a: float | Tensor
    b: float | Tensor

    def at(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u, torch.exp(self.a * u + self.b)

    def value(self, u: Tensor) -> Tensor:
        x = self.a * u
        # 1 − (1 + x)e^(−x) = x² Σ (−x)^m / (m! (m + 2)), which is used where the left side cancels
        small = x.clamp(max=0.1)
        series, term = torch.full_like(x, 0.5), torch.ones_like(x)
        for m in range(1, 10):
            term = -term * small / m
            series = series + term / (m + 2)
        closed = -torch.expm1(-x) - x.clamp(max=700) * torch.exp(-x)
        inside = torch.where(x < 0.1, small.square() * series, closed)
        return inside * torch.exp(-torch.as_tensor(self.b, dtype=u.dtype, device=u.device)) / self.a**2


@dataclass(frozen=True)
class Standout(NumericPenalty):
    """What standout, dropout with the keep probability σ(a|w| + b), amounts to at strength 1.

    ρ(z) = e^(−b)(1 − (1 + az)e^(−az))/a²: like a square near 0, so nothing becomes exactly 0, and bounded.

    Parameters
    ----------
    a : float > 0
    b : float
        logit of the keep probability of 0.
    """

    formulas: ClassVar = Formulas(
        value="e^(−b)(1 − (1 + az)e^(−az))/a²",
        threshold="0",
        eta="e^(az + b)",
        dual="numeric",
        source="Ba, Frey, Advances in Neural Information Processing Systems 26, 2013",
    )
    exact_zeros: ClassVar[bool] = False

    a: float | Tensor = parameter(1.0)
    b: float | Tensor = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_parameter("b", -math.inf, math.inf)

    def _make_curve(self) -> Curve:
        return _StandoutCurve(self.a, self.b)

    def _slope(self, z: Tensor) -> Tensor:
        z = z.clamp(max=1e100)  # with gradients that are finite where η̂ is not
        return z * torch.exp(-self.a * z - self.b)
