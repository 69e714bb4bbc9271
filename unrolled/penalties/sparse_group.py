"""Sparse groups: a penalty on numbers and one on their groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.group_steps import magnitudes, step_of_groups, typed
from unrolled.penalties.grouped import Grouped
from unrolled.penalties.grouping import Grouping
from unrolled.penalties.magnitudes import step_tensor, with_phase_of
from unrolled.penalties.norms import L1
from unrolled.penalties.penalty import Formulas, Penalty, SeparablePenalty, parameter
from unrolled.penalties.weighted import (
    Weighted,
    times_weight,
)


@dataclass(frozen=True)
class SparseGroup(Penalty):
    """α Σ_i ρ₁(w_i) + (1 − α)·(a penalty on groups): few groups, and few numbers within them.

    With L1 as ρ₁ the proximal map is the group's after that of ρ₁, for every penalty on groups: `exact` is True. For
    any other ρ₁ this composition is not the proximal map, and `exact` is False: the minimiser is searched along the
    curve on which it must lie, z(τ) = argmin ½‖z − τv‖² + τ·step·α Σ ρ₁(z_i) for τ in [0, 1] (see `prox`). What is
    found is never worse than the composition, 0 or v.

    `value` gives one number per group, axes kept. `derivative`, that is ∂ρ/∂|w_i|, `eta` and `keep_probability` have
    the shape of w, for the variational form has an η for each entry: 1/η_i = α/η₁(w_i) + (1 − α)/η₂(w_g).
    Entries that are in no group are left alone.

    Parameters
    ----------
    penalty : SeparablePenalty
        ρ₁, on single numbers.
    grouped : Grouped
        on groups, with its grouping and weights.
    alpha : float in (0, 1)
        the share of ρ₁ (α of Simon et al., 2013).

    Examples
    --------
    >>> from unrolled.penalties import Filters
    >>> penalty = SparseGroup(L1(), Grouped(L1(), Filters(), weight=1))
    >>> penalty.prox(torch.tensor([[3.5, 4.5, 0.3], [0.6, 0.7, 0.0]]), 1.0)
    tensor([[2.7000, 3.6000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """

    formulas: ClassVar = Formulas(
        value="α Σ ρ₁(w_i) + (1 − α) c ρ₂(‖w‖₂) of each group",
        threshold="that of ρ₁ for the step αs: smaller entries become 0 in every group",
        eta="1/(α/η₁ + (1 − α)/η₂), one for each entry",
        dual="numeric",
        source="Simon, Friedman, Hastie, Tibshirani, J. Comput. Graph. Stat. 22, 2013",
    )

    penalty: SeparablePenalty
    grouped: Grouped
    alpha: float | Tensor = parameter(0.5, above=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.penalty, SeparablePenalty):
            raise ValueError(f"SparseGroup: penalty must be one of single numbers, got {self.penalty!r}")
        if not isinstance(self.grouped, Grouped):
            raise ValueError(f"SparseGroup: grouped must be Grouped(…), got {self.grouped!r}")
        learnable = self.penalty.prox_has_step_gradient or self.grouped.prox_has_step_gradient
        object.__setattr__(self, "prox_has_step_gradient", learnable)
        object.__setattr__(self, "exact_zeros", self.penalty.exact_zeros)

    @property
    def exact(self) -> bool:
        """Whether the proximal map has a closed form, which is that of the elementwise one, then the group's."""
        inner = self.penalty.penalty if isinstance(self.penalty, Weighted) else self.penalty
        return isinstance(inner, L1)

    @property
    def grouping(self) -> Grouping:
        """What the groups are."""
        return self.grouped.grouping

    def value(self, w: Tensor) -> Tensor:
        z = magnitudes(w)
        entries = self.grouping.sum(self.penalty.value(z))
        return typed(self.alpha * entries + (1 - self.alpha) * self.grouped.value(z), w)

    def derivative(self, w: Tensor) -> Tensor:
        """∂ρ/∂|w_i|, the shape of w; at w_g = 0 along one axis, from the right."""
        z = magnitudes(w)
        norm = self.grouping.norm(z)
        zero = norm == 0
        slope = self.grouping.spread(self.grouped.derivative(z), z.shape)
        safe = self.grouping.spread(torch.where(zero, 1.0, norm), z.shape, outside=1.0)
        cosine = torch.where(self.grouping.spread(zero, z.shape), 1.0, z / safe)
        radial = torch.where(cosine == 0, 0.0, slope * cosine)
        return typed(self._inside(self.alpha * self.penalty.derivative(z) + (1 - self.alpha) * radial), w)

    def eta(self, w: Tensor) -> Tensor:
        """|w_i| / (∂ρ/∂|w_i|), the shape of w; inf where an entry is in no group."""
        z = magnitudes(w)
        entry, group = self.penalty.eta(z), self.grouping.spread(self.grouped.eta(z), z.shape, outside=math.inf)
        zero = (entry == 0) | (group == 0)
        inverse = self.alpha / torch.where(zero, 1.0, entry) + (1 - self.alpha) / torch.where(zero, 1.0, group)
        free = inverse == 0
        eta = torch.where(zero, 0.0, torch.where(free, math.inf, 1 / torch.where(free, 1.0, inverse)))
        return typed(self._inside(eta, torch.full_like(z, math.inf)), w)

    def dual(self, eta: Tensor) -> Tensor:
        """f(η) of ρ(w) = ½ min_η [Σ_i w_i²/η_i + f(η)], one number per group; numeric, and without gradient.

        Parameters
        ----------
        eta : Tensor >= 0, the shape of w
        """
        # The conjugate of a sum: the minimum of α Σ f₁(η₁) + (1 − α) f₂(η₂) over all 1/η_i = α/η₁ + (1 − α)/η₂.
        # It is convex in 1/η₂, which is between 0 and the smallest 1/η_i of the group, divided by 1 − α.
        with torch.no_grad():
            inverse = 1 / magnitudes(eta)
            most = -self.grouping.max(-inverse) / (1 - self.alpha)
            most = most.clamp(max=torch.finfo(most.dtype).max ** 0.5)

            def total(share: Tensor) -> Tensor:
                second = share * most
                rest = (inverse - self.grouping.spread((1 - self.alpha) * second, eta.shape)).clamp(min=0)
                first = self.penalty.dual(self.alpha / rest)
                first = self.grouping.sum(torch.where(inverse.isinf(), 0.0, first))
                return self.alpha * first + (1 - self.alpha) * self.grouped.dual(1 / second, eta.shape)

            low, high = torch.zeros_like(most), torch.ones_like(most)
            for _ in range(60):
                left, right = low + 0.382 * (high - low), high - 0.382 * (high - low)
                lower = total(left) < total(right)
                low, high = torch.where(lower, low, left), torch.where(lower, right, high)
            return typed(total((low + high) / 2), eta)

    def threshold(self, step: Tensor | float) -> Tensor:
        """The largest |v_i| that becomes 0 whatever the rest of its group is; in small groups larger ones do too."""
        return self.penalty.threshold(self.alpha * step_tensor(step))

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·ρ(z): in closed form if `exact`, else searched.

        Parameters
        ----------
        v : Tensor, any shape, real or complex
        step : Tensor or float
            as for `Grouped`.

        Notes
        -----
        As ρ₂(n) = ½ min_η [n²/η + f(η)], the minimiser also minimises ½‖z − v‖² + step·α Σ ρ₁(z_i) + κ‖z‖²/2 for some
        κ ≥ 0. With τ = 1/(1 + κ) this is z(τ) = prox of τ·step·α·ρ₁ at τv, number by number. The best τ is looked for
        on a grid in each group, then in ever narrower ones; at the minimum κ = step·(1 − α)c ρ₂'(n)/n, n = ‖z‖, of
        which a few fixed-point iterations, each an exact descent, give the last digits, and the implicit function
        theorem the gradients.
        """
        z = magnitudes(v)
        step, differs = step_of_groups(self.grouping, v, step, z)
        if self.exact:
            entries = step if differs else self.grouping.spread(step, z.shape, outside=1.0)
            soft = self._inside(self.penalty.prox(z, self.alpha * entries), z)
            return with_phase_of(v, z, self.grouped.prox(soft, (1 - self.alpha) * step))
        if differs:
            raise ValueError(
                f"SparseGroup: the step must be the same within a group, of shape {self.grouping.shape(v.shape)} or "
                f"one that broadcasts to it, got {tuple(step.shape)}; it may differ for L1 with L1 only"
            )
        step = step.expand(self.grouping.shape(v.shape))
        # The search compares squares; beside an infinite number all others of its group are small.
        finite = torch.where(z.isinf(), torch.finfo(z.dtype).max ** 0.25, z)
        with torch.no_grad():
            found = _Search(self, finite, step).run()
        found = self._inside(_with_gradient(self, found, finite, step), z)
        return with_phase_of(v, z, torch.where(z.isinf(), z, found))

    def _inside(self, entries: Tensor, outside: Tensor | None = None) -> Tensor:
        """The entries that are in groups, and others (or 0) elsewhere."""
        groups = torch.ones(self.grouping.shape(entries.shape), dtype=torch.bool, device=entries.device)
        inside = self.grouping.spread(groups, entries.shape)
        return torch.where(inside, entries, 0.0 if outside is None else outside)

    def _at(self, share: Tensor, z: Tensor, step: Tensor) -> Tensor:
        """z(τ), for one share τ in (0, 1] per group."""
        share = self.grouping.spread(share, z.shape, outside=1.0)
        return self.penalty.prox(share * z, share * self.alpha * self.grouping.spread(step, z.shape, outside=1.0))

    def _share(self, norm: Tensor, step: Tensor, shape: Sequence[int]) -> Tensor:
        """τ = 1/(1 + κ) of a group with the given norm > 0."""
        slope = times_weight(self.grouped._weights(shape, norm), self.grouped.penalty.derivative(norm))
        return norm / (norm + (1 - self.alpha) * step * slope)


def _offsets() -> list[list[float]]:
    """Of the grids of the search: each is centred on the best so far, and as wide as two steps of the one before."""
    grids, width = [], 0.5
    for points in (32, 8, 8, 8, 8, 8):
        grids.append(torch.linspace(-width, width, points + 1).tolist())
        width *= 2 / points
    return grids


_OFFSETS = _offsets()


class _Search:
    """The search for the proximal map of a sparse group penalty, of magnitudes z, in all groups at once."""

    def __init__(self, penalty: SparseGroup, z: Tensor, step: Tensor):
        self.penalty, self.z, self.step = penalty, z, step
        self.grouping = penalty.grouping
        self.found = torch.zeros_like(z)
        self.lowest = self.cost(self.found)

    def cost(self, z: Tensor) -> Tensor:
        """The objective, one number per group."""
        return self.grouping.sum((z - self.z).square()) / 2 + self.step * self.penalty.value(z)

    def offer(self, z: Tensor, slack: float = 0.0) -> Tensor:
        """Take z in the groups where it is better than what was found, or worse by a relative slack; says where."""
        cost = self.cost(z)
        better = ~(cost >= self.lowest * (1 + slack))  # NaN is taken, so that it stays
        self.lowest = torch.where(better, cost, self.lowest)
        self.found = torch.where(self.grouping.spread(better, z.shape), z, self.found)
        return better

    def run(self) -> Tensor:
        """The best that was found."""
        smallest = torch.finfo(self.step.dtype).eps ** 2
        best = torch.full_like(self.step, 0.5)
        for offsets in _OFFSETS:
            centre = best
            for offset in offsets:
                share = (centre + offset).clamp(smallest, 1)
                best = torch.where(self.offer(self.penalty._at(share, self.z, self.step)), share, best)
        self.offer(self.z)
        ones = torch.ones_like(self.step)
        entries = self.penalty._at(ones, self.z, self.step)
        rest = (1 - self.penalty.alpha) * self.step
        self.offer(self.penalty.grouped._shrink(entries, self.grouping.norm(entries), rest))
        slack = 8 * torch.finfo(self.step.dtype).eps  # these steps descend, but for rounding
        for _ in range(12):
            norm = self.grouping.norm(self.found)
            share = self.penalty._share(torch.where(norm == 0, 1.0, norm), self.step, self.z.shape)
            self.offer(self.penalty._at(share.clamp(smallest, 1), self.z, self.step), slack)
        return self.found


def _with_gradient(penalty: SparseGroup, found: Tensor, z: Tensor, step: Tensor) -> Tensor:
    """What was found, with the gradients of the equation n = ‖z(τ(n))‖ that it solves."""
    if not torch.is_grad_enabled():
        return found
    grouping, shape = penalty.grouping, z.shape
    norm = grouping.norm(found)
    kept = norm > 0
    norm = torch.where(kept, norm, 1.0)
    variable = norm.detach().requires_grad_()
    image = grouping.norm(penalty._at(penalty._share(variable, step.detach(), shape), z.detach(), step.detach()))
    (slope,) = torch.autograd.grad(image.sum(), variable)
    image = grouping.norm(penalty._at(penalty._share(norm, step, shape), z, step))
    rest = 1 - slope
    norm = norm + (image - image.detach()) / torch.where(rest.abs() < 1e-12, 1.0, rest)
    solved = penalty._at(penalty._share(norm, step, shape), z, step)
    gradient = (solved - solved.detach()).nan_to_num()
    return found + torch.where(grouping.spread(kept, shape), gradient, 0.0)
