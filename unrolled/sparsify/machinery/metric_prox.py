"""Proximal maps in the metric of an optimiser."""

import torch
from torch import Tensor

from unrolled.penalties import L1, Grouped, Penalty, SparseGroup, TopK
from unrolled.penalties.grouping import Grouping
from unrolled.sparsify.selection import Weight, grouping_of


def prox_in_metric(penalty: Penalty, v: Tensor, step: Tensor | float) -> Tensor:
    """argmin_z Σ |z_i − v_i|²/(2 step_i) + ρ(z): the proximal map in the metric of an optimiser.

    It is exact for penalties of single numbers, for TopK, and for the group lasso, also with l1 within the groups. Of
    another penalty on groups the step of a group is s with 1/s = Σ (|v_i|²/step_i) / Σ |v_i|². With it the proximal
    map finds the exact minimiser among all multiples of v_g, which 0 and v_g belong to. From there two steps of
    reweighting, z_i ← v_i/(1 + step_i/η̂_i(z)), which never ascend, turn z towards the minimiser: their fixed points
    are the stationary points of the objective.

    Parameters
    ----------
    penalty : Penalty
    v : Tensor, any shape, real or complex
    step : Tensor or float, > 0
        a tensor has the shape of v or no axes. Where it is 0, nothing is done.
    """
    if not isinstance(step, Tensor) or step.ndim == 0:
        return v.clone() if not isinstance(step, Tensor) and step == 0 else penalty.prox(v, step)
    if isinstance(penalty, TopK):
        return torch.where(penalty.prox(v / step.sqrt(), 1.0) != 0, v, 0)
    grouping = grouping_of(penalty)
    if grouping is None or _has_metric(penalty):
        return penalty.prox(v, step)
    low = v.dtype in (torch.bfloat16, torch.float16)
    exact = v.float() if low else v
    z = penalty.prox(exact, radial_step(grouping, exact, step))
    for _ in range(2):
        eta = penalty.eta(z)
        if eta.shape != v.shape:
            eta = grouping.spread(eta, v.shape, outside=torch.inf)
        z = exact / (1 + step / eta)
    return z.to(v.dtype)


def radial_step(grouping: Grouping, v: Tensor, step: Tensor | float) -> Tensor | float:
    """One step for each group: the mean of the steps, harmonic and weighed by |v|²."""
    if not isinstance(step, Tensor) or step.ndim == 0:
        return step
    squares = v.abs().square()
    total, quotient = grouping.sum(squares), grouping.sum(squares / step)
    empty = (total == 0) | (quotient == 0)
    mean = grouping.sum(step) / torch.as_tensor(grouping.size(v.shape)).to(step)
    return torch.where(empty, mean, total / torch.where(empty, 1.0, quotient))


def deadly(weight: Weight, step: Tensor | float) -> Tensor:
    """About the strengths that make numbers or groups zero at once: |w|²/(2 step·ρ(w)), where 0 is as good as w."""
    values, grouping = weight.parameter.detach(), weight.grouping
    squares = values.abs().square()
    if grouping is not None:
        squares, step = grouping.sum(squares), radial_step(grouping, values, step)
    return torch.where(squares == 0, 0.0, squares / (2 * step * weight.penalty.value(values)))


def _has_metric(penalty: Penalty) -> bool:
    """Whether the proximal map of a penalty on groups is exact for steps that differ within a group."""
    if isinstance(penalty, SparseGroup):
        return penalty.exact and isinstance(penalty.grouped.penalty, L1)
    return isinstance(penalty, Grouped) and isinstance(penalty.penalty, L1)
