"""The difference of the l1 and the l2 norm."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.group_steps import check_grouping, in_range, magnitudes, step_of_groups, typed, unit_root
from unrolled.penalties.grouping import Grouping, Whole
from unrolled.penalties.magnitudes import step_tensor, with_phase_of
from unrolled.penalties.penalty import Formulas, Penalty


@dataclass(frozen=True)
class L1MinusL2(Penalty):
    """‖w_g‖₁ − α‖w_g‖₂ of the whole tensor or of each group: sparser than l1, and 0 on a single number if α = 1.

    The proximal map is that of Lou and Yan (2018), with the largest of absolute values; of equally large ones the
    first is kept. A step must be the same within a group; its shape is as for `Grouped`. `value` and `dual` give one
    number per group, axes kept.

    The penalty is a concave function of the squares w_i², hence has a variational form with one η for each entry,
    ρ(w) = ½ min_η [Σ_i w_i²/η_i + f(η)]: `derivative` is ∂ρ/∂|w_i|, and it, `eta` and `keep_probability` have the
    shape of w.

    Parameters
    ----------
    alpha : float in (0, 1], or a tensor of such, unchecked, that broadcasts against the groups' numbers
    grouping : Grouping
        by default the whole tensor is one group.

    Examples
    --------
    >>> L1MinusL2().prox(torch.tensor([3.0, -0.5, 0.2]), 1.0)
    tensor([3., -0., 0.])
    """

    formulas: ClassVar = Formulas(
        value="‖w‖₁ − α‖w‖₂ of each group",
        threshold="(1 − α)s, on the largest |w|",
        eta="|w| / (1 − α|w|/‖w‖₂), one for each entry",
        dual="Σ ηq²/(q + αη)², q the root of Σ η²/(q + αη)² = 1",
        source="Lou, Yan, J. Sci. Comput. 74, 2018",
    )

    alpha: float | Tensor = 1.0
    grouping: Grouping = field(default_factory=Whole)

    def __post_init__(self) -> None:
        number = isinstance(self.alpha, (int, float)) and not isinstance(self.alpha, bool)
        if not (isinstance(self.alpha, Tensor) and self.alpha.is_floating_point()) and not (
            number and 0 < self.alpha <= 1
        ):
            raise ValueError(f"L1MinusL2: alpha must be a number > 0 and <= 1, got {self.alpha!r}")
        check_grouping("L1MinusL2", self.grouping)
        object.__setattr__(self, "exact_zeros", number is False or self.alpha < 1)  # else the threshold is always 0

    def value(self, w: Tensor) -> Tensor:
        z = magnitudes(w)
        return typed((self.grouping.sum(z) - self.alpha * self.grouping.norm(z)).clamp(min=0), w)

    def derivative(self, w: Tensor) -> Tensor:
        """∂ρ/∂|w_i| = 1 − α|w_i|/‖w_g‖, the shape of w; at w_g = 0 along one axis, from the right."""
        z = magnitudes(w)
        norm = self.grouping.norm(z)
        zero = norm == 0
        share = self.alpha * torch.where(self._spread(zero, z), 1.0, z / self._spread(torch.where(zero, 1.0, norm), z))
        return typed((1 - share).clamp(min=0), w)

    def eta(self, w: Tensor) -> Tensor:
        """|w_i| / (∂ρ/∂|w_i|), the shape of w."""
        z, slope = magnitudes(w), self.derivative(magnitudes(w))
        eta = torch.where(slope == 0, torch.inf, z / torch.where(slope == 0, 1.0, slope))
        return typed(torch.where(z == 0, 0.0, eta), w)

    def dual(self, eta: Tensor) -> Tensor:
        """f(η) of ρ(w) = ½ min_η [Σ_i w_i²/η_i + f(η)], one number per group.

        Parameters
        ----------
        eta : Tensor >= 0, the shape of w
        """
        # The supremum of 2ρ(w) − Σ w²/η is at w = qη/(q + αη) with q = ‖w‖. There it is Σ w²/η, for ρ is homogeneous.
        exact = magnitudes(eta)
        finite = exact.clamp(max=torch.finfo(exact.dtype).max ** 0.5)
        shift = self._spread(torch.as_tensor(self.alpha, dtype=finite.dtype, device=finite.device), finite) * finite
        norm = self._spread(unit_root(finite, shift, self.grouping), finite)
        share = norm / torch.where(norm + shift == 0, 1.0, norm + shift)
        dual = self.grouping.sum(finite * share.square())
        infinite = self.grouping.max(exact).isinf() & (1 - self.alpha > 0)
        return typed(torch.where(infinite, math.inf, dual), eta)

    def threshold(self, step: Tensor | float) -> Tensor:
        """(1 − α)·step: a group is sent to 0 if its largest |v_i| is not larger."""
        return (1 - self.alpha) * step_tensor(step)

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        z = magnitudes(v)
        peak = self.grouping.max(z)
        step, differs = step_of_groups(self.grouping, v, step, z)
        if differs:
            raise ValueError(
                f"L1MinusL2: the step must be the same within a group, of shape {tuple(peak.shape)} or one that "
                f"broadcasts to it, got {tuple(step.shape)}"
            )
        soft = (z - self._spread(step, z)).clamp(min=0)
        norm = in_range(self.grouping.norm(soft))
        several = soft * self.grouping.spread(1 + self.alpha * step / norm, z.shape, outside=1.0)
        cut = (1 - self.alpha) * step
        single = torch.where(self._first_of_largest(z, peak) & self._spread(peak > cut, z), z - self._spread(cut, z), 0)
        # Not `peak > step`, so that NaN stays.
        large = self.grouping.spread(~(peak <= step), z.shape, outside=True)
        return with_phase_of(v, z, torch.where(large, several, single))

    def _spread(self, numbers: Tensor, like: Tensor) -> Tensor:
        return self.grouping.spread(numbers, like.shape)

    def _first_of_largest(self, z: Tensor, peak: Tensor) -> Tensor:
        """True at one entry of each group, the first of those with the largest magnitude."""
        rank = torch.arange(z.numel(), 0, -1, device=z.device).reshape(z.shape)
        rank = torch.where(z == self._spread(peak, z), rank, 0)
        return (rank > 0) & (rank == self._spread(self.grouping.max(rank), z))
