"""Classical strategies of dropout and pruning as penalties, and the noise that a penalty amounts to."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unrolled.penalties.numeric import NumericPenalty
from unrolled.penalties.penalty import Formulas, Penalty, SeparablePenalty, magnitude_of, parameter, step_tensor


@dataclass(frozen=True)
class Ridge(SeparablePenalty):
    """ρ(z) = z²/2, which constant dropout amounts to: η̂ = 1 everywhere, and nothing becomes exactly 0."""

    formulas: ClassVar = Formulas(
        value="z²/2",
        threshold="0",
        eta="1",
        dual="0 if η ≤ 1, else ∞",
        source="Hoerl, Kennard, Technometrics 12, 1970; Wager, Wang, Liang, Advances in Neural Information "
        "Processing Systems 26, 2013 (dropout)",
    )
    exact_zeros: ClassVar[bool] = False

    def _value(self, z: Tensor) -> Tensor:
        return z.square() / 2

    def _slope(self, z: Tensor) -> Tensor:
        return z

    def _eta(self, z: Tensor) -> Tensor:
        return torch.where(z.isnan(), z, 1.0)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return magnitude / (1 + step)

    def _kept(self, magnitude: Tensor, step: Tensor) -> Tensor:
        infinite = magnitude.isinf()  # with gradients that are finite
        return torch.where(infinite, magnitude, self._shrink(torch.where(infinite, 0.0, magnitude), step))

    def threshold(self, step: Tensor | float) -> Tensor:
        return 0 * step_tensor(step)

    def dual(self, eta: Tensor) -> Tensor:
        return torch.where(eta.isnan(), eta, torch.where(eta <= 1, 0.0, torch.inf).to(eta))


@dataclass(frozen=True)
class Standout(NumericPenalty):
    """What standout, dropout with the keep probability σ(a|w| + b), amounts to at strength 1.

    ρ(z) = e^(−b)(1 − (1 + az)e^(−az))/a²: like a square near 0, so nothing becomes exactly 0, and bounded.

    Parameters
    ----------
    a : float > 0
    b : float
        logit of the keep probability of 0.
    """

    formulas: ClassVar = Formulas(
        value="e^(−b)(1 − (1 + az)e^(−az))/a²",
        threshold="0",
        eta="e^(az + b)",
        dual="numeric",
        source="Ba, Frey, Advances in Neural Information Processing Systems 26, 2013",
    )
    exact_zeros: ClassVar[bool] = False

    a: float | Tensor = parameter(1.0)
    b: float | Tensor = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_parameter("b", -math.inf, math.inf)

    def _locate(self, z: Tensor) -> Tensor:
        return z

    def _curve(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u, torch.exp(self.a * u + self.b)

    def _slope(self, z: Tensor) -> Tensor:
        z = z.clamp(max=1e100)  # with gradients that are finite where η̂ is not
        return z * torch.exp(-self.a * z - self.b)

    def _value_at(self, u: Tensor) -> Tensor:
        x = self.a * u
        # 1 − (1 + x)e^(−x) = x² Σ (−x)^m / (m! (m + 2)), which is used where the left side cancels
        small = x.clamp(max=0.1)
        series, term = torch.full_like(x, 0.5), torch.ones_like(x)
        for m in range(1, 10):
            term = -term * small / m
            series = series + term / (m + 2)
        closed = -torch.expm1(-x) - x.clamp(max=700) * torch.exp(-x)
        inside = torch.where(x < 0.1, small.square() * series, closed)
        return inside * torch.exp(-torch.as_tensor(self.b, dtype=u.dtype, device=u.device)) / self.a**2


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


def adaptive_dropout_mask(
    penalty: Penalty,
    w: Tensor,
    strength: float | Tensor,
    noise: Literal["bernoulli", "gaussian"] = "bernoulli",
    generator: torch.Generator | None = None,
) -> Tensor:
    """A random mask of mean 1 by which w is multiplied in the adaptive dropout of a penalty.

    On a least-squares problem ‖Xw − y‖² with columns of unit norm, noise of variance strength/η̂(w) adds
    strength·Σ|w|²/η̂ in expectation: the quadratic by which a reweighted step majorises 2·strength·ρ.

    Parameters
    ----------
    penalty : Penalty
    w : Tensor, any shape, real or complex
    strength : float > 0 or Tensor
    noise : "bernoulli" or "gaussian"
        a mask that is 1/α with probability α = η̂/(η̂ + strength), else 0; or one from N(1, strength/η̂). Where η̂ = 0
        such a variance would be infinite, and w is 0 or to be dropped: both masks are 0 there.
    generator : torch.Generator, optional
        on the device of w.

    Returns
    -------
    Tensor, the shape of w, real, without gradient

    Raises
    ------
    ValueError
        if strength is a number that is not > 0, or noise is unknown.
    """
    if noise not in ("bernoulli", "gaussian"):
        raise ValueError(f"noise must be 'bernoulli' or 'gaussian', got {noise!r}")
    with torch.no_grad():
        alpha = penalty.keep_probability(w, strength)
        grouping = getattr(penalty, "grouping", None)
        if grouping is not None and alpha.shape == grouping.shape(w.shape):  # entries in no group are kept
            alpha = grouping.spread(alpha, w.shape, outside=1.0)
        alpha = alpha.expand(w.shape)
        dropped = alpha == 0
        safe = torch.where(dropped, 1.0, alpha)
        if noise == "bernoulli":
            draw = torch.rand(w.shape, generator=generator, dtype=alpha.dtype, device=w.device)
            mask = (draw < alpha) / safe
        else:
            draw = torch.randn(w.shape, generator=generator, dtype=alpha.dtype, device=w.device)
            mask = 1 + ((1 - safe) / safe).sqrt() * draw
        return torch.where(dropped, 0.0, mask)
