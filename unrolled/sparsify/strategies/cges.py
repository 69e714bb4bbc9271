"""Combined group and exclusive sparsity."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.penalties import L1, Grouping, Penalty
from unrolled.sparsify.groups import Groups, PricedGroups, dead_share, neurons
from unrolled.sparsify.machinery.metric_prox import radial_step
from unrolled.sparsify.machinery.optimizer_metric import step_of
from unrolled.sparsify.selection import Weight
from unrolled.sparsify.sparsifier import Sparsifier
from unrolled.system.scalars import as_number


class CGES(Sparsifier):
    """Combined group and exclusive sparsity: groups that vanish in lower layers, numbers that compete in upper ones.

        f(w) + strength · Σ_k Σ_g [(1 − μ_k) ‖w_g‖₂ + (μ_k/2) ‖w_g‖₁²],     μ_k = k/K for weight k of K

    (Yoon, Hwang, "Combined group and exclusive sparsity for deep neural networks", ICML 2017). After each step of the
    optimiser comes the proximal map of what is added, exactly, with one step for each group if those of the
    optimiser differ. With a target the strength stays, and the numbers become 0 which that map would set to 0 at the
    smallest step, so many as the target asks for.

    Parameters
    ----------
    mu : sequence of float in [0, 1], optional
        one for each weight, in the order of the model; by default k/K.
    groups : Grouping or function
        by default `neurons`.
    model, strength, target, include, exclude, schedule, fine_tune, steps
        as for every `Sparsifier`.

    Raises
    ------
    ValueError
        if an argument is not allowed.
    """

    captures = True

    def __init__(
        self,
        model: nn.Module,
        strength: float | None = None,
        *,
        mu: Sequence[float] | None = None,
        groups: Groups | None = None,
        **options: Any,
    ):
        if isinstance(groups, PricedGroups):
            raise ValueError("CGES: groups cannot have prices, for mu weighs the layers; give the groups alone")
        super().__init__(model, L1(), strength, groups=neurons if groups is None else groups, **options)
        count = len(self.weights)
        self.mu = [k / count for k in range(1, count + 1)]
        if mu is not None:
            try:
                given = [as_number(share) for share in mu]
            except TypeError:  # a single number
                given = []
            self.mu = [share for share in given if share is not None and 0 <= share <= 1]
            if not len(self.mu) == len(given) == count:
                raise ValueError(f"CGES: mu must be {count} numbers in [0, 1], one for each weight, got {mu!r}")

    def check_penalty(self, penalty: Penalty) -> None:
        super().check_penalty(penalty)
        for weight in self.weights:
            if weight.grouping is None:
                raise ValueError(f"CGES: groups must say a grouping for every weight, got None for {weight.name}")

    def initial_strength(self) -> float:
        return 1e-4

    def ranking(self, weight: Weight) -> Tensor:
        """The step of the penalty at which a number would become 0, with its group or by itself."""
        grouping, mu = weight.grouping, self.mu[self.weights.index(weight)]
        assert grouping is not None
        values = weight.parameter.detach()
        values = values.abs() if values.dtype not in (torch.bfloat16, torch.float16) else values.abs().float()
        tiny = torch.finfo(values.dtype).tiny
        alone = values / (mu * grouping.spread(grouping.sum(values), values.shape, 1.0)).clamp(min=tiny)
        together = grouping.spread(grouping.norm(values), values.shape, torch.inf) / max(1 - mu, tiny)
        return torch.minimum(alone, together)

    def act(self, optimizer: Optimizer, options: Mapping[int, dict[str, Any]]) -> None:
        shrunk = []
        for weight, mu in zip(self.weights, self.mu, strict=True):
            grouping = weight.grouping
            assert grouping is not None
            step = step_of(optimizer, weight.parameter, options[id(weight.parameter)])
            if isinstance(step, Tensor):
                step = radial_step(grouping, weight.parameter, step)
            step = self.strength * step
            values = group_exclusive_prox(weight.parameter, grouping, (1 - mu) * step, mu * step)
            if self.course.target is not None:  # what shall not yet be 0 stays as it is
                values = torch.where(values == 0, weight.parameter, values)
            shrunk.append(values)
        self.survivors.overwrite(self.weights, shrunk)
        super().act(optimizer, options)

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Besides sparsity and strength: the share of groups that are all zero."""
        sparse = [(weight.grouping, self.sparse(weight)) for weight in self.weights]
        return super().figures() | {"group_sparsity": dead_share(sparse)}


def group_exclusive_prox(v: Tensor, grouping: Grouping, group: Tensor | float, exclusive: Tensor | float) -> Tensor:
    """argmin_z ½‖z − v‖² + group · Σ ‖z_g‖₂ + exclusive/2 · Σ ‖z_g‖₁².

    Parameters
    ----------
    v : Tensor, any shape, real or complex
    grouping : Grouping
    group, exclusive : float ≥ 0, or Tensor with one number per group

    Notes
    -----
    Where z is not 0, z(1 + a/‖z‖₂) + bσ sign z = v with σ = ‖z‖₁: hence z is x = soft(v, bσ), scaled by 1 − a/‖x‖₂
    like in the group lasso. There remains one equation for each group, σ = (1 − a/‖x‖₂)₊ ‖x‖₁, whose right side falls
    in σ; without a it is piecewise linear, and Newton's method from 0 ends at σ = Σ|v_i|/(1 + bk), summed over the k
    largest, where the closed form stands. In general Newton's steps that leave the bracket are replaced by halving.
    """
    z = v.abs() if v.dtype not in (torch.bfloat16, torch.float16) else v.abs().float()
    shape = v.shape

    def at(total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, its norm, and the factor 1 − a/‖x‖."""
        x = (z - grouping.spread(exclusive * total, shape)).clamp(min=0)
        norm = grouping.norm(x)
        positive = norm.clamp(min=torch.finfo(norm.dtype).tiny)
        return x, positive, (1 - group / positive).clamp(min=0)

    x, norm, factor = at(torch.zeros_like(grouping.sum(z)))
    low, total = torch.zeros_like(norm), torch.zeros_like(norm)
    high = factor * grouping.sum(x)
    for _ in range(NEWTON_STEPS):
        sums, count = grouping.sum(x), grouping.sum((x > 0).to(x.dtype))
        rest = factor * sums - total
        low, high = torch.where(rest > 0, total, low), torch.where(rest > 0, high, total)
        slope = exclusive * torch.where(factor > 0, factor * count + group * (sums / norm).square() / norm, 0.0)
        newton = total + rest / (1 + slope)
        total = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        x, norm, factor = at(total)
    scaled = x * grouping.spread(factor, shape, outside=1.0)
    return (torch.sgn(v) * scaled).to(v.dtype)


NEWTON_STEPS = 12
