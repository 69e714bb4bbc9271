"""Magnitude pruning as a penalty."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.magnitudes import magnitude_of, step_tensor
from unrolled.penalties.penalty import Formulas, Penalty


@dataclass(frozen=True)
class TopK(Penalty):
    """The indicator of ‖w‖₀ ≤ k over the whole tensor: magnitude pruning to k numbers. Not separable.

    Its value is 0 or ∞, one number with axes kept (as of a group that is the whole tensor); its η̂ is ∞ at the k
    largest magnitudes and 0 elsewhere, so that its dropout keeps those and drops the others. Among equal magnitudes
    at the k-th place some are taken, exactly k in all. A threshold that holds for all v does not exist: it is ∞.

    Parameters
    ----------
    k : int ≥ 1, at most the number of entries
    """

    formulas: ClassVar = Formulas(
        value="0 if ‖w‖₀ ≤ k, else ∞",
        threshold="∞: any magnitude is sent to 0 if k others are larger",
        eta="∞ at the k largest, else 0",
        dual="0 if ‖η‖₀ ≤ k, else ∞",
        source="Blumensath, Davies, J. Fourier Anal. Appl. 14, 2008 (iterative hard thresholding)",
    )
    prox_has_step_gradient: ClassVar[bool] = False

    k: int

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"TopK: k must be an integer >= 1, got {self.k!r}")

    def _largest(self, w: Tensor) -> Tensor:
        size = magnitude_of(w).detach()
        if self.k > size.numel():
            raise ValueError(f"TopK: k must be at most the number of entries, {size.numel()}, got {self.k}")
        kept = torch.zeros(size.numel(), dtype=torch.bool, device=size.device)
        kept[size.flatten().topk(self.k).indices] = True
        return kept.reshape(size.shape)

    def value(self, w: Tensor) -> Tensor:
        self._largest(w)  # which checks w and k
        size = magnitude_of(w)
        count = (size != 0).sum().reshape([1] * w.ndim)
        inside = torch.where(count <= self.k, 0.0, torch.inf).to(size)
        return torch.where(size.isnan().any(), torch.nan, inside)

    def derivative(self, w: Tensor) -> Tensor:
        return torch.where(self._largest(w), 0.0, torch.inf).to(magnitude_of(w))

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        step_tensor(step)  # checked; it does not matter
        return torch.where(self._largest(v) | v.isnan(), v, 0)

    def threshold(self, step: Tensor | float) -> Tensor:
        return step_tensor(step) + torch.inf

    def eta(self, w: Tensor) -> Tensor:
        return torch.where(self._largest(w), torch.inf, 0.0).to(magnitude_of(w))

    def dual(self, eta: Tensor) -> Tensor:
        return self.value(eta)
