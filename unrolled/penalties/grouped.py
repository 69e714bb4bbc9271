"""Penalties on groups of numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.group_steps import check_grouping, in_range, magnitudes, step_of_groups, typed, unit_root
from unrolled.penalties.grouping import Grouping
from unrolled.penalties.magnitudes import step_tensor
from unrolled.penalties.norms import L1
from unrolled.penalties.penalty import Formulas, Penalty, SeparablePenalty
from unrolled.penalties.weighted import (
    Weighted,
    Weights,
    checked_weights,
    times_weight,
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
        check_grouping("Grouped", self.grouping)
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
            return size.to(like.device).sqrt().to(like.dtype)
        return torch.tensor(math.sqrt(size), dtype=like.dtype, device=like.device)

    def _norm(self, w: Tensor) -> Tensor:
        self.grouping.shape(w.shape)
        norm = self.grouping.norm(w)
        return torch.where(norm == 0, 0.0, norm)  # no gradient at 0, also where that of ρ is infinite

    def value(self, w: Tensor) -> Tensor:
        norm = self._norm(w)
        return typed(times_weight(self._weights(w.shape, norm), self.penalty.value(norm)), w)

    def derivative(self, w: Tensor) -> Tensor:
        """c_g ρ'(‖w_g‖): in the direction of the group."""
        norm = self._norm(w)
        return typed(times_weight(self._weights(w.shape, norm), self.penalty.derivative(norm)), w)

    def eta(self, w: Tensor) -> Tensor:
        norm = self._norm(w)
        return typed(weighted_eta(self._weights(w.shape, norm), self.penalty.eta(norm)), w)

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
        step, differs = step_of_groups(self.grouping, v, step, norm)
        return self._prox_in_metric(v, norm, step) if differs else self._shrink(v, norm, step)

    def _shrink(self, v: Tensor, norm: Tensor, step: Tensor) -> Tensor:
        """The proximal map for a step that broadcasts against the groups' numbers."""
        norm = in_range(norm)
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
        root = self.grouping.spread(unit_root(magnitudes(v), shift, self.grouping, steps=8), v.shape)
        return torch.where(free, v, (v * (root / (root + shift))).to(v.dtype))
