"""Penalties on groups of numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from unrolled.penalties.grouping import Grouping, Whole
from unrolled.penalties.penalty import (
    Formulas,
    Penalty,
    SeparablePenalty,
    magnitude_of,
    parameter,
    step_tensor,
    with_phase_of,
)
from unrolled.penalties.piecewise import L1
from unrolled.penalties.weighted import (
    Weighted,
    Weights,
    checked_weights,
    weighted,
    weighted_dual,
    weighted_eta,
    weighted_prox,
    weighted_threshold,
    weights_tensor,
)


@dataclass(frozen=True)
class Grouped(Penalty):
    """c_g ρ(‖w_g‖₂) of each group g: any separable penalty, on the norms of groups. Whole groups become 0.

    With L1 it is the group lasso (Yuan, Lin, 2006), with MCP the group MCP, with L0 it counts groups. The proximal map
    shrinks norms and keeps directions, prox_{scρ}(‖v_g‖)·v_g/‖v_g‖; with the group's norm in place of |w| everything
    else is as for single numbers. `value`, `derivative`, `eta`, `dual` and `keep_probability` give one number per
    group, axes kept; `grouping.spread(numbers, w.shape)` repeats them for the entries.

    A step of the proximal map is a number, a tensor that broadcasts against the groups' numbers, or against v as long
    as it does not differ within a group. With L1 it may differ within a group, when the step is a diagonal metric: then
    the proximal map is argmin_z Σ_i |z_i − v_i|²/(2 s_i) + c_g ‖z‖₂. A tensor of the shape of v counts as differing.

    Parameters
    ----------
    penalty : SeparablePenalty
        ρ. Tensors among its parameters broadcast against the groups' numbers.
    grouping : Grouping
        what the groups are.
    weight : "sqrt_size", float, sequence of float, Tensor, or None
        c_g: the root of the group's size (default), so that groups of different size have the same chance; one number
        for all groups or one for each, >= 0, broadcasting against the groups' numbers; None is 1. Groups of weight 0
        are left alone.

    Examples
    --------
    >>> from unrolled.penalties import Filters
    >>> Grouped(L1(), Filters(), weight=1).prox(torch.tensor([[3.0, 4.0], [0.5, 0.5]]), 1.0)
    tensor([[2.4000, 3.2000],
            [0.0000, 0.0000]])
    """

    formulas: ClassVar = Formulas(
        value="c ρ(‖w‖₂) of each group",
        threshold="that of ρ for the step cs, on ‖w‖₂",
        eta="that of ρ at ‖w‖₂ divided by c",
        dual="c f(cη), f that of ρ",
        source="Yuan, Lin, J. R. Stat. Soc. B 68, 2006; Huang, Breheny, Ma, Stat. Sci. 27, 2012 (concave ρ)",
    )

    penalty: SeparablePenalty
    grouping: Grouping
    weight: Weights | str | None = "sqrt_size"

    def __post_init__(self) -> None:
        if not isinstance(self.penalty, SeparablePenalty):
            raise ValueError(f"Grouped: penalty must be one of single numbers, got {self.penalty!r}")
        if isinstance(self.penalty, Weighted) and not isinstance(self.penalty.weights, (int, float)):
            raise ValueError("Grouped: penalty must not weigh entries, for groups have weights of their own: weight=…")
        _check_grouping("Grouped", self.grouping)
        if isinstance(self.weight, str) and self.weight != "sqrt_size":
            raise ValueError(f"Grouped: weight must be 'sqrt_size', None or numbers, got {self.weight!r}")
        if self.weight is not None and not isinstance(self.weight, str):
            object.__setattr__(self, "weight", checked_weights("Grouped: weight", self.weight))
        object.__setattr__(self, "prox_has_step_gradient", self.penalty.prox_has_step_gradient)
        object.__setattr__(self, "exact_zeros", self.penalty.exact_zeros)

    def _weights(self, shape: Sequence[int] | None, like: Tensor) -> Tensor:
        """c_g for a tensor of this shape: a scalar, or a tensor that broadcasts against the groups' numbers."""
        if self.weight is None:
            return torch.ones((), dtype=like.dtype, device=like.device)
        if not isinstance(self.weight, str):
            return weights_tensor(self.weight, like)
        if shape is None:
            raise ValueError(
                "Grouped: the weights √size depend on the tensor: give its shape, as in "
                "threshold(step, shape=w.shape), or choose another weight"
            )
        size = self.grouping.size(shape)
        if isinstance(size, Tensor):
            return size.sqrt().to(like)
        return torch.tensor(math.sqrt(size), dtype=like.dtype, device=like.device)

    def _norm(self, w: Tensor) -> Tensor:
        self.grouping.shape(w.shape)
        norm = self.grouping.norm(w)
        return torch.where(norm == 0, 0.0, norm)  # no gradient at 0, also where that of ρ is infinite

    def value(self, w: Tensor) -> Tensor:
        norm = self._norm(w)
        return _typed(weighted(self._weights(w.shape, norm), self.penalty.value(norm)), w)

    def derivative(self, w: Tensor) -> Tensor:
        """c_g ρ'(‖w_g‖): in the direction of the group."""
        norm = self._norm(w)
        return _typed(weighted(self._weights(w.shape, norm), self.penalty.derivative(norm)), w)

    def eta(self, w: Tensor) -> Tensor:
        norm = self._norm(w)
        return _typed(weighted_eta(self._weights(w.shape, norm), self.penalty.eta(norm)), w)

    def dual(self, eta: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """f(η) of c_g ρ(‖w_g‖) = ½ min_{η ≥ 0} [‖w_g‖²/η + f(η)].

        Parameters
        ----------
        eta : Tensor, one number per group
        shape : sequence of int, optional
            the shape of the grouped tensor; needed if the weights are √size.
        """
        return weighted_dual(self.penalty, self._weights(shape, eta), eta)

    def threshold(self, step: Tensor | float, shape: Sequence[int] | None = None) -> Tensor:
        """The largest norm of a group that `prox(v, step)` sends to 0.

        Parameters
        ----------
        step : Tensor or float > 0
        shape : sequence of int, optional
            the shape of the grouped tensor; needed if the weights are √size.
        """
        step = step_tensor(step)
        return weighted_threshold(self.penalty, self._weights(shape, step), step)

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        norm = self.grouping.norm(v)
        step, differs = _step_of_groups(self.grouping, v, step, norm)
        return self._prox_in_metric(v, norm, step) if differs else self._shrink(v, norm, step)

    def _shrink(self, v: Tensor, norm: Tensor, step: Tensor) -> Tensor:
        """The proximal map for a step that broadcasts against the groups' numbers."""
        norm = _in_range(norm)
        scale = weighted_prox(self.penalty, self._weights(v.shape, norm), norm, step) / norm
        return (v * self.grouping.spread(scale, v.shape, outside=1.0)).to(v.dtype)

    def _prox_in_metric(self, v: Tensor, norm: Tensor, step: Tensor) -> Tensor:
        """For L1 and a step for each entry: z_i = v_i r/(r + c s_i), where r is the norm of z."""
        weight = self._weights(v.shape, norm)
        if not isinstance(self.penalty, L1):
            raise ValueError(
                f"Grouped: the step must be the same within a group, of shape {self.grouping.shape(v.shape)} or one "
                f"that broadcasts to it, got {tuple(step.shape)}; it may differ for L1 only, not {self.penalty!r}"
            )
        groups = self.grouping.shape(v.shape)
        free = self.grouping.spread((weight == 0).expand(groups), v.shape, outside=True)
        shift = torch.where(free, 1.0, self.grouping.spread(weight.expand(groups), v.shape) * step)
        root = self.grouping.spread(_unit_root(_magnitudes(v), shift, self.grouping, steps=8), v.shape)
        return torch.where(free, v, (v * (root / (root + shift))).to(v.dtype))


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
        _check_grouping("L1MinusL2", self.grouping)
        object.__setattr__(self, "exact_zeros", number is False or self.alpha < 1)  # else the threshold is always 0

    def value(self, w: Tensor) -> Tensor:
        z = _magnitudes(w)
        return _typed((self.grouping.sum(z) - self.alpha * self.grouping.norm(z)).clamp(min=0), w)

    def derivative(self, w: Tensor) -> Tensor:
        """∂ρ/∂|w_i| = 1 − α|w_i|/‖w_g‖, the shape of w; at w_g = 0 along one axis, from the right."""
        z = _magnitudes(w)
        norm = self.grouping.norm(z)
        zero = norm == 0
        share = self.alpha * torch.where(self._spread(zero, z), 1.0, z / self._spread(torch.where(zero, 1.0, norm), z))
        return _typed((1 - share).clamp(min=0), w)

    def eta(self, w: Tensor) -> Tensor:
        """|w_i| / (∂ρ/∂|w_i|), the shape of w."""
        z, slope = _magnitudes(w), self.derivative(_magnitudes(w))
        eta = torch.where(slope == 0, torch.inf, z / torch.where(slope == 0, 1.0, slope))
        return _typed(torch.where(z == 0, 0.0, eta), w)

    def dual(self, eta: Tensor) -> Tensor:
        """f(η) of ρ(w) = ½ min_η [Σ_i w_i²/η_i + f(η)], one number per group.

        Parameters
        ----------
        eta : Tensor >= 0, the shape of w
        """
        # The supremum of 2ρ(w) − Σ w²/η is at w = qη/(q + αη) with q = ‖w‖. There it is Σ w²/η, for ρ is homogeneous.
        exact = _magnitudes(eta)
        finite = exact.clamp(max=torch.finfo(exact.dtype).max ** 0.5)
        shift = self._spread(torch.as_tensor(self.alpha, dtype=finite.dtype, device=finite.device), finite) * finite
        norm = self._spread(_unit_root(finite, shift, self.grouping), finite)
        share = norm / torch.where(norm + shift == 0, 1.0, norm + shift)
        dual = self.grouping.sum(finite * share.square())
        infinite = self.grouping.max(exact).isinf() & (torch.as_tensor(self.alpha) < 1)
        return _typed(torch.where(infinite, math.inf, dual), eta)

    def threshold(self, step: Tensor | float) -> Tensor:
        """(1 − α)·step: a group is sent to 0 if its largest |v_i| is not larger."""
        return (1 - self.alpha) * step_tensor(step)

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        z = _magnitudes(v)
        peak = self.grouping.max(z)
        step, differs = _step_of_groups(self.grouping, v, step, z)
        if differs:
            raise ValueError(
                f"L1MinusL2: the step must be the same within a group, of shape {tuple(peak.shape)} or one that "
                f"broadcasts to it, got {tuple(step.shape)}"
            )
        soft = (z - self._spread(step, z)).clamp(min=0)
        norm = _in_range(self.grouping.norm(soft))
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
        z = _magnitudes(w)
        entries = self.grouping.sum(self.penalty.value(z))
        return _typed(self.alpha * entries + (1 - self.alpha) * self.grouped.value(z), w)

    def derivative(self, w: Tensor) -> Tensor:
        """∂ρ/∂|w_i|, the shape of w; at w_g = 0 along one axis, from the right."""
        z = _magnitudes(w)
        norm = self.grouping.norm(z)
        zero = norm == 0
        slope = self.grouping.spread(self.grouped.derivative(z), z.shape)
        safe = self.grouping.spread(torch.where(zero, 1.0, norm), z.shape, outside=1.0)
        cosine = torch.where(self.grouping.spread(zero, z.shape), 1.0, z / safe)
        radial = torch.where(cosine == 0, 0.0, slope * cosine)
        return _typed(self._inside(self.alpha * self.penalty.derivative(z) + (1 - self.alpha) * radial), w)

    def eta(self, w: Tensor) -> Tensor:
        """|w_i| / (∂ρ/∂|w_i|), the shape of w; inf where an entry is in no group."""
        z = _magnitudes(w)
        entry, group = self.penalty.eta(z), self.grouping.spread(self.grouped.eta(z), z.shape, outside=math.inf)
        zero = (entry == 0) | (group == 0)
        inverse = self.alpha / torch.where(zero, 1.0, entry) + (1 - self.alpha) / torch.where(zero, 1.0, group)
        free = inverse == 0
        eta = torch.where(zero, 0.0, torch.where(free, math.inf, 1 / torch.where(free, 1.0, inverse)))
        return _typed(self._inside(eta, torch.full_like(z, math.inf)), w)

    def dual(self, eta: Tensor) -> Tensor:
        """f(η) of ρ(w) = ½ min_η [Σ_i w_i²/η_i + f(η)], one number per group; numeric, and without gradient.

        Parameters
        ----------
        eta : Tensor >= 0, the shape of w
        """
        # The conjugate of a sum: the minimum of α Σ f₁(η₁) + (1 − α) f₂(η₂) over all 1/η_i = α/η₁ + (1 − α)/η₂.
        # It is convex in 1/η₂, which is between 0 and the smallest 1/η_i of the group, divided by 1 − α.
        with torch.no_grad():
            inverse = 1 / _magnitudes(eta)
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
            return _typed(total((low + high) / 2), eta)

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
        z = _magnitudes(v)
        step, differs = _step_of_groups(self.grouping, v, step, z)
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
        slope = weighted(self.grouped._weights(shape, norm), self.grouped.penalty.derivative(norm))
        return norm / (norm + (1 - self.alpha) * step * slope)


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
        best, width = torch.full_like(self.step, 0.5), 0.5
        for points in (32, 8, 8, 8, 8, 8):
            centre = best
            for offset in torch.linspace(-width, width, points + 1).tolist():
                share = (centre + offset).clamp(smallest, 1)
                best = torch.where(self.offer(self.penalty._at(share, self.z, self.step)), share, best)
            width *= 2 / points
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


def _check_grouping(cls: str, grouping: Any) -> None:
    if not isinstance(grouping, Grouping):
        raise ValueError(f"{cls}: grouping must be a Grouping, such as Filters() or Blocks((4, 4)), got {grouping!r}")


def _typed(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers in the real type of `like`."""
    return numbers.to(like.real.dtype if like.is_complex() else like.dtype)


def _magnitudes(w: Tensor) -> Tensor:
    """|w|, in at least 32 bits."""
    z = magnitude_of(w)
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


def _in_range(norm: Tensor) -> Tensor:
    """Norms whose squares can be represented: what is divided by them stays finite, and the limit at 0 and inf."""
    tiny = torch.finfo(norm.dtype).tiny ** 0.5
    return norm.clamp(tiny, 1 / tiny)


def _step_of_groups(grouping: Grouping, v: Tensor, step: Tensor | float, like: Tensor) -> tuple[Tensor, bool]:
    """The step as a tensor that broadcasts against the groups' numbers; or of the shape of v, and True."""
    step = step_tensor(step, like)
    groups, shape = grouping.shape(v.shape), tuple(v.shape)
    if step.numel() == 1:
        return step.reshape(()), False
    single = grouping.size(shape) == 1 if not isinstance(grouping.size(shape), Tensor) else False
    if _broadcasts(step.shape, groups) and (single or step.shape != v.shape):
        return step, False
    if _broadcasts(step.shape, shape):
        return step.expand(shape), True
    raise ValueError(
        f"step must broadcast against the groups, of shape {groups}, or against the tensor, of shape {shape}, "
        f"got {tuple(step.shape)}"
    )


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    trailing = list(to)[len(to) - len(shape) :] if len(shape) <= len(to) else []
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape, trailing, strict=True))


def _unit_root(x: Tensor, shift: Tensor, grouping: Grouping, steps: int = 40) -> Tensor:
    """r ≥ 0 with ‖x/(r + shift)‖ = 1 in each group, 0 where ‖x/shift‖ ≤ 1; for x ≥ 0, shift ≥ 0.

    1/‖x/(r + shift)‖ is concave in r: from 0 Newton's method climbs to the root and not beyond. The last step is
    recorded, and gives the gradients of the implicit function theorem.
    """
    big = torch.finfo(x.dtype).max ** 0.5

    def newton(root: Tensor) -> Tensor:
        there = grouping.spread(root, x.shape) + shift
        ratio = x.clamp(max=big) / torch.where(there == 0, 1.0, there)
        norm = grouping.norm(ratio)
        bend = grouping.sum(ratio.square() / torch.where(there == 0, 1.0, there))
        return (root + norm.square() * (norm - 1) / torch.where(bend == 0, 1.0, bend)).clamp(min=0)

    with torch.no_grad():
        root = torch.zeros(grouping.shape(x.shape), dtype=x.dtype, device=x.device)
        for _ in range(steps):
            root = newton(root)
    return newton(root)
