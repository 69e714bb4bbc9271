"""Sparse groups: few groups, and few numbers within them."""

import math
from typing import Any

import torch
from torch import nn

from unrolled.penalties import L1, L1MinusL2, Penalty
from unrolled.sparsify.groups import Groups, dead_share, neurons
from unrolled.sparsify.machinery.arguments import number
from unrolled.sparsify.selection import grouping_of
from unrolled.sparsify.strategies.variable_splitting import VariableSplitting
from unrolled.system.scalars import whole_number


class SparseGroupLasso(VariableSplitting):
    """The nonconvex sparse group lasso: a group lasso in the loss, and a penalty on single numbers by splitting.

        f(w) + group_strength · Σ √|g| ‖w_g‖₂ + strength · Σ ρ(u) + β/2 ‖w − u‖²

    (Bui, Park, Zhang, Qi, Xin, "Structured sparsity of convolutional neural networks via nonconvex sparse group
    regularization", Front. Appl. Math. Stat. 6, 2021). The group lasso is part of the loss; u is the prox of
    (strength/β)·ρ at w, and takes its place at the end. ρ is L1 (the sparse group lasso), L0, TransformedL1, SCAD, MCP,
    or L1MinusL2, over each weight as a whole.

    The paper divides what is added to the loss by the number N of training images: `samples=60000`, strength=.1,
    beta=2.5, `beta_schedule=Growth(1.25, 0.2)` is its LeNet-5 on MNIST.

    Parameters
    ----------
    penalty : Penalty
        ρ, without groups; by default L1.
    strength : float > 0
        of ρ; or give a target, the share of zeros among the weights.
    group_strength : float > 0, optional
        of the group lasso; by default the strength, and 1e-5 with a target.
    samples : int ≥ 1, optional
        N: strength, group_strength and beta are divided by it.
    groups : Grouping or function
        of the group lasso; by default `neurons`.
    model, target, beta, beta_schedule, every, include, exclude, schedule, fine_tune, steps
        as for `VariableSplitting`.

    Raises
    ------
    ValueError
        if an argument is not allowed.
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty | None = None,
        strength: float | None = None,
        *,
        group_strength: float | None = None,
        samples: int | None = None,
        groups: Groups | None = None,
        **options: Any,
    ):
        name = type(self).__name__
        count = 1 if samples is None else whole_number(f"{name}: samples", samples)
        if group_strength is not None:
            group_strength = number(name, "group_strength", group_strength, "a number > 0", lambda g: 0 < g < math.inf)
        penalty = L1() if penalty is None else penalty
        if grouping_of(penalty) is not None and not isinstance(penalty, L1MinusL2):
            raise ValueError(f"SparseGroupLasso: penalty must be one of single numbers, got {penalty!r}")
        if group_strength is None:
            group_strength = 1e-5 * count if strength is None else strength
        lasso_groups = neurons if groups is None else groups
        super().__init__(
            model, penalty, strength, groups=None, group_lasso=group_strength, lasso_groups=lasso_groups, **options
        )
        self.samples = count
        self.base_beta, self.group_lasso = self.base_beta / self.samples, self.group_lasso / self.samples

    def attach(self) -> None:
        super().attach()
        self.base_strength = self.base_strength / self.samples

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Besides those of `VariableSplitting`: the share of groups that are all zero."""
        groups = [None if penalty is None else penalty.grouping for penalty in self._lasso]
        sparse = [self.sparse(weight) for weight in self.weights]
        return super().figures() | {"group_sparsity": dead_share(list(zip(groups, sparse, strict=True)))}
