"""The base of all penalties: what a sparsity penalty can be asked."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Penalty(ABC):
    """A sparsity penalty ρ(|w|): an immutable value with no strength and no step of its own.

    A penalty has two faces. Its proximal map shrinks coefficients inside an unrolled network; its reweighting
    (equally: an adaptive dropout) sparsifies the weights of a network. Both come from one definition, through

        ρ(w) = ½ min_{η ≥ 0} [w²/η + f(η)],        η̂(w) = |w| / ρ'(|w|)

    (LeJeune, Javadi, Baraniuk, "The Flip Side of the Reweighted Coin", NeurIPS 2021).

    All methods work elementwise on tensors of any shape, real or complex: a complex number is shrunk in magnitude
    and keeps its phase. NaN passes through, ±inf stays.
    """

    prox_has_step_gradient: ClassVar[bool] = True
    """False where the proximal map is piecewise constant in its step, so that a step cannot be learned."""

    homogeneous: ClassVar[bool] = False
    """True where ρ(cz) = c·ρ(z) for all c > 0, so that prox(v, s) = s·prox(v/s, 1)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
                raise ValueError(f"{type(self).__name__}: {field.name} must be a finite number > 0, got {value!r}")

    @abstractmethod
    def value(self, w: Tensor) -> Tensor:
        """ρ(|w|), elementwise.

        Parameters
        ----------
        w : Tensor, any shape, real or complex

        Returns
        -------
        Tensor, the shape of w, real
        """

    @abstractmethod
    def derivative(self, w: Tensor) -> Tensor:
        """ρ'(|w|), elementwise; its limit from the right at 0."""

    @abstractmethod
    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        """The proximal map on magnitudes ≥ 0 that lie above the threshold; smaller ones are set to 0 afterwards."""

    @abstractmethod
    def threshold(self, step: Tensor | float) -> Tensor:
        """The largest |v| that `prox(v, step)` sends to 0.

        Parameters
        ----------
        step : Tensor or float > 0
        """

    @abstractmethod
    def dual(self, eta: Tensor) -> Tensor:
        """f(η) of ρ(w) = ½ min_{η ≥ 0} [w²/η + f(η)], for η ≥ 0."""

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        """The global minimiser argmin_z ½|z − v|² + step·ρ(z), elementwise; 0 where 0 is as good.

        Parameters
        ----------
        v : Tensor, any shape, real or complex
        step : Tensor that broadcasts with v, or float; > 0. A value of a tensor is not checked.

        Raises
        ------
        ValueError
            if step is a number that is not > 0.
        """
        magnitude = v.abs()
        step = step_tensor(step, magnitude)
        kept = torch.where(magnitude <= self.threshold(step), 0.0, self._shrink(magnitude, step))
        return kept * torch.sgn(v)

    def eta(self, w: Tensor) -> Tensor:
        """η̂(w) = |w| / ρ'(|w|), the minimiser in the variational form; inf where ρ' = 0."""
        magnitude, slope = w.abs(), self.derivative(w)
        return torch.where(slope == 0, torch.inf, magnitude / torch.where(slope == 0, 1.0, slope))

    def keep_probability(self, w: Tensor, strength: float) -> Tensor:
        """α = η̂ / (η̂ + strength): the probability of keeping w in the equivalent adaptive dropout.

        With a mask of mean α, scaled by 1/α, on a least-squares problem with columns of unit norm, one step of
        dropout is in expectation one reweighted step on strength·ρ (LeJeune et al., 2021).
        """
        if not strength > 0:
            raise ValueError(f"keep_probability: strength must be > 0, got {strength!r}")
        return 1 / (1 + strength / self.eta(w))


def step_tensor(step: Tensor | float, like: Tensor | None = None) -> Tensor:
    """The step as a tensor: a number is checked and takes the type and device of `like` (float64 without one)."""
    if isinstance(step, Tensor):
        return step
    if not step > 0:
        raise ValueError(f"step must be > 0, got {step!r}")
    if like is None:
        return torch.tensor(step, dtype=torch.float64)
    return torch.tensor(step, dtype=like.dtype, device=like.device)
