"""Sparse groups: few groups, and few numbers within them."""

from collections.abc import Sequence

import torch
from torch import nn

from unrolled.penalties import L1, Grouping, L1MinusL2, Penalty
from unrolled.sparsify.groups import Groups, grouping_of, neurons
from unrolled.sparsify.schedules import Schedule
from unrolled.sparsify.sparsifier import Sparsifier, is_number
from unrolled.sparsify.strategies.variable_splitting import VariableSplitting


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
        target: float | None = None,
        group_strength: float | None = None,
        samples: int | None = None,
        beta: float = 1e-2,
        beta_schedule: Schedule | None = None,
        every: int = 1,
        groups: Groups | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        schedule: Schedule | None = None,
        fine_tune: float | None = None,
        steps: int | None = None,
    ):
        if samples is not None and (isinstance(samples, bool) or not isinstance(samples, int) or samples < 1):
            raise ValueError(f"SparseGroupLasso: samples must be a whole number >= 1, got {samples!r}")
        if group_strength is not None and not (is_number(group_strength) and group_strength > 0):
            raise ValueError(f"SparseGroupLasso: group_strength must be a number > 0, got {group_strength!r}")
        penalty = L1() if penalty is None else penalty
        if grouping_of(penalty) is not None and not isinstance(penalty, L1MinusL2):
            raise ValueError(f"SparseGroupLasso: penalty must be one of single numbers, got {penalty!r}")
        if group_strength is None:
            group_strength = 1e-5 * (samples or 1) if strength is None else strength
        super().__init__(
            model,
            penalty,
            strength,
            target=target,
            beta=beta,
            beta_schedule=beta_schedule,
            every=every,
            group_lasso=group_strength,
            lasso_groups=neurons if groups is None else groups,
            include=include,
            exclude=exclude,
            schedule=schedule,
            fine_tune=fine_tune,
            steps=steps,
        )
        if samples is not None:
            self.base_beta, self.group_lasso = self.base_beta / samples, self.group_lasso / samples
            self.base_strength = self.base_strength / samples

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Besides those of `VariableSplitting`: the share of groups that are all zero."""
        groups = [None if penalty is None else penalty.grouping for penalty in self._lasso]
        return super().figures() | {"group_sparsity": dead_share(self, groups)}


def dead_share(sparsifier: Sparsifier, groupings: Sequence[Grouping | None]) -> float:
    """The share of groups that are all zero."""
    norms = [
        grouping.norm(sparsifier.sparse(weight)).flatten().cpu()
        for weight, grouping in zip(sparsifier.weights, groupings, strict=True)
        if grouping is not None
    ]
    return float((torch.cat(norms) == 0).double().mean())
