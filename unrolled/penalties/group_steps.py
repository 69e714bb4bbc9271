"""Steps and magnitudes of groups."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.penalties.grouping import Grouping
from unrolled.penalties.magnitudes import magnitude_of, step_tensor


def check_grouping(cls: str, grouping: Any) -> None:
    if not isinstance(grouping, Grouping):
        raise ValueError(f"{cls}: grouping must be a Grouping, such as Filters() or Blocks((4, 4)), got {grouping!r}")


def typed(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers in the real type of `like`."""
    return numbers.to(like.real.dtype if like.is_complex() else like.dtype)


def magnitudes(w: Tensor) -> Tensor:
    """|w|, in at least 32 bits."""
    z = magnitude_of(w)
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


def in_range(norm: Tensor) -> Tensor:
    """Norms whose squares can be represented: what is divided by them stays finite, and the limit at 0 and inf."""
    tiny = torch.finfo(norm.dtype).tiny ** 0.5
    return norm.clamp(tiny, 1 / tiny)


def step_of_groups(grouping: Grouping, v: Tensor, step: Tensor | float, like: Tensor) -> tuple[Tensor, bool]:
    """The step as a tensor that broadcasts against the groups' numbers; or of the shape of v, and True."""
    step = step_tensor(step, like)
    groups, shape = grouping.shape(v.shape), tuple(v.shape)
    if step.numel() == 1:
        return step.reshape(()), False
    single = grouping.size(shape) == 1 if not isinstance(grouping.size(shape), Tensor) else False
    if broadcasts(step.shape, groups) and (single or step.shape != v.shape):
        return step, False
    if broadcasts(step.shape, shape):
        return step.expand(shape), True
    raise ValueError(
        f"step must broadcast against the groups, of shape {groups}, or against the tensor, of shape {shape}, "
        f"got {tuple(step.shape)}"
    )


def broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    trailing = list(to)[len(to) - len(shape) :] if len(shape) <= len(to) else []
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape, trailing, strict=True))


def unit_root(x: Tensor, shift: Tensor, grouping: Grouping, steps: int = 40) -> Tensor:
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
