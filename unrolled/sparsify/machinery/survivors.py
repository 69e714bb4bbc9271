"""Weights that would become all zero keep their largest number or group."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from unrolled.sparsify.selection import Weight


class Survivors:
    """Keeps every weight alive, and warns once for each weight that only lives for that reason."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def overwrite(self, weights: Sequence[Weight], values: Sequence[Tensor]) -> None:
        """Give weights new values; one that would become all zero keeps its largest number or group."""
        for weight, new, lives in zip(weights, values, answers([new.any() for new in values]), strict=True):
            weight.parameter.copy_(new if lives else self.at_least_one(weight, new))

    def at_least_one(self, weight: Weight, values: Tensor) -> Tensor:
        """The values, or if they are all zero the largest number or group of the weight as it is now."""
        if values.any() or not weight.parameter.any():
            return values
        self.warn(weight)
        return largest_group(weight, weight.parameter.detach())

    def warn(self, weight: Weight) -> None:
        """Say that a weight would be emptied, the first time."""
        if weight.name not in self._said:
            self._said.add(weight.name)
            warnings.warn(f"{weight.name} would become all zero; its largest group is kept", stacklevel=4)


def answers(questions: Sequence[Tensor]) -> list[bool]:
    """Whether each of several bool scalars is true: the host waits once for the device, however many there are."""
    found: list[bool] = torch.stack([question.to(questions[0].device) for question in questions]).tolist()
    return found


def largest_group(weight: Weight, values: Tensor) -> Tensor:
    """The values of the group with the largest norm, or of the largest number, and 0 elsewhere."""
    grouping, magnitudes = weight.grouping, values.abs()
    norms = magnitudes if grouping is None else grouping.norm(magnitudes / magnitudes.max())  # tiny squares are 0
    best = torch.zeros_like(norms).flatten()
    best[norms.argmax()] = 1
    best = best.reshape(norms.shape)
    return values * (best if grouping is None else grouping.spread(best, values.shape)).to(values.dtype)
