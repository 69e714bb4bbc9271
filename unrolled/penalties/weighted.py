"""A penalty with a weight for every number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unrolled.penalties.magnitudes import step_tensor
from unrolled.penalties.penalty import Formulas, SeparablePenalty
from unrolled.system.arraylike import as_numbers

Weights = float | Sequence[Any] | Tensor


@dataclass(frozen=True)
class Weighted(SeparablePenalty):
    """c·ρ(z) with a weight c ≥ 0 for every entry of the tensor; entries of weight 0 are left alone.

    Parameters
    ----------
    penalty : SeparablePenalty
        ρ.
    weights : float, (nested) sequence of float, or Tensor that broadcasts with w; >= 0 and finite

    Examples
    --------
    >>> from unrolled.penalties import L1
    >>> Weighted(L1(), [0.0, 1.0, 2.0]).prox(torch.tensor([5.0, 5.0, 5.0]), 1.5)
    tensor([5.0000, 3.5000, 2.0000])
    """

    formulas: ClassVar = Formulas(
        value="c ρ(z)",
        threshold="that of ρ for the step cs",
        eta="that of ρ divided by c",
        dual="c f(cη), f that of ρ",
        source="Zou, J. Am. Stat. Assoc. 101, 2006 (adaptive lasso)",
    )

    penalty: SeparablePenalty
    weights: Weights

    def __post_init__(self) -> None:
        if not isinstance(self.penalty, SeparablePenalty):
            raise ValueError(
                f"Weighted: penalty must be one of single numbers, got {self.penalty!r}; "
                "groups are weighted by Grouped(penalty, grouping, weight)"
            )
        object.__setattr__(self, "weights", checked_weights("Weighted: weights", self.weights))
        object.__setattr__(self, "prox_has_step_gradient", self.penalty.prox_has_step_gradient)
        object.__setattr__(self, "exact_zeros", self.penalty.exact_zeros)

    def _weights(self, like: Tensor) -> Tensor:
        return weights_tensor(self.weights, like)

    def _value(self, z: Tensor) -> Tensor:
        return times_weight(self._weights(z), self.penalty._value(z))

    def _slope(self, z: Tensor) -> Tensor:
        return times_weight(self._weights(z), self.penalty._slope(z))

    def _eta(self, z: Tensor) -> Tensor:
        return weighted_eta(self._weights(z), self.penalty._eta(z))

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return self.penalty._shrink(magnitude, step * self._weights(magnitude))

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        real = v.real if v.is_complex() else v
        return weighted_prox(self.penalty, self._weights(real), v, step_tensor(step, real))

    def threshold(self, step: Tensor | float) -> Tensor:
        step = step_tensor(step)
        return weighted_threshold(self.penalty, self._weights(step), step)

    def dual(self, eta: Tensor) -> Tensor:
        return weighted_dual(self.penalty, self._weights(eta), eta)


def checked_weights(name: str, weights: Any) -> Any:
    """The weights, sequences as tuples.

    Raises
    ------
    ValueError
        unless they are finite numbers >= 0, or a floating point tensor of such.
    """
    allowed = f"{name} must be finite floating point numbers >= 0"
    weights = as_numbers(name, weights) if isinstance(weights, (np.ndarray, np.generic)) else weights
    try:
        numbers = weights if isinstance(weights, Tensor) else torch.tensor(weights, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{allowed}, got {weights!r}") from error
    if isinstance(weights, bool) or not numbers.is_floating_point() or not numbers.numel():
        raise ValueError(f"{allowed}, got {weights!r}")
    if numbers.is_meta:  # it has no values
        return weights
    bad = numbers.detach()[~((numbers >= 0) & numbers.isfinite())]
    if len(bad):
        raise ValueError(f"{allowed}, got {bad[0].item()!r}")
    return _as_tuples(weights) if isinstance(weights, Sequence) else weights


def _as_tuples(weights: Any) -> Any:
    return tuple(_as_tuples(part) for part in weights) if isinstance(weights, Sequence) else weights


def weights_tensor(weights: Weights, like: Tensor) -> Tensor:
    """Weights as a tensor of the type of `like`, and on its device unless they are a tensor already."""
    if isinstance(weights, Tensor):
        return weights.to(like.dtype)
    return torch.tensor(weights, dtype=like.dtype, device=like.device)


def times_weight(weight: Tensor, number: Tensor) -> Tensor:
    """weight·number, 0 where the weight is."""
    return torch.where(weight == 0, 0.0, weight * number)


def weighted_eta(weight: Tensor, eta: Tensor) -> Tensor:
    """η̂ of weight·ρ, from that of ρ."""
    return torch.where(weight == 0, math.inf, eta / _positive(weight))


def weighted_dual(penalty: SeparablePenalty, weight: Tensor, eta: Tensor) -> Tensor:
    """f of weight·ρ."""
    return times_weight(weight, penalty.dual(_positive(weight) * eta))


def weighted_prox(penalty: SeparablePenalty, weight: Tensor, v: Tensor, step: Tensor) -> Tensor:
    """The proximal map of weight·ρ."""
    return torch.where(weight == 0, v, penalty.prox(v, step * _positive(weight)))


def weighted_threshold(penalty: SeparablePenalty, weight: Tensor, step: Tensor) -> Tensor:
    """The threshold of weight·ρ."""
    return torch.where(weight == 0, 0.0, penalty.threshold(step * _positive(weight)))


def _positive(weight: Tensor) -> Tensor:
    """The weights, 1 instead of 0: what is computed with it is not used, and must not become NaN."""
    return torch.where(weight == 0, 1.0, weight)
