"""What is known of images before they are measured: g(x), a penalty on what a linear map makes of the image."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from unrolled.penalties import Penalty, SeparablePenalty, Weighted
from unrolled.transforms import FiniteDifferences, OrthonormalTransform, Transform


class Prior(ABC):
    """g(x) = h(Wx), on batches of images (batch, channel, height, width), real or complex.

    Attributes
    ----------
    transform : Transform
        W.
    """

    transform: Transform

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """g(x), one number per image of the batch."""

    @abstractmethod
    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·g(z)."""

    @abstractmethod
    def prox_coefficients(self, c: Tensor, step: float) -> Tensor:
        """argmin_d ½‖d − c‖² + step·h(d), on coefficients: what primal-dual methods need."""


class SparsePrior(Prior):
    """g(x) = strength · Σ ρ(Wx): the image is sparse in an orthonormal transform.

    Parameters
    ----------
    penalty : Penalty
        ρ.
    strength : float > 0
    transform : OrthonormalTransform
        W.
    spare_coarsest : bool
        leave the mean (of the DCT) or the coarsest image (of wavelets) unpenalised, for they are not sparse.
    """

    transform: OrthonormalTransform

    def __init__(
        self, penalty: Penalty, strength: float, transform: OrthonormalTransform, spare_coarsest: bool = False
    ):
        _check_strength("SparsePrior", strength)
        if not isinstance(transform, OrthonormalTransform):
            raise ValueError(f"SparsePrior: transform must be orthonormal, got {type(transform).__name__}")
        if spare_coarsest and not isinstance(penalty, SeparablePenalty):
            raise ValueError(f"SparsePrior: spare_coarsest needs a penalty of single numbers, got {penalty!r}")
        self.penalty, self.strength, self.transform = penalty, strength, transform
        self.spare_coarsest = spare_coarsest

    def value(self, x: Tensor) -> Tensor:
        c = self.transform(x)
        return self.strength * self._on(c).value(c).flatten(1).sum(1)

    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·g(z): exact, for W is orthonormal."""
        return self.transform.adjoint(self.prox_coefficients(self.transform(v), step))

    def prox_coefficients(self, c: Tensor, step: float) -> Tensor:
        return self._on(c).prox(c, step * self.strength)

    def slopes(self, x: Tensor) -> Tensor:
        """strength · ρ'(|Wx|), 0 where nothing is penalised: the weights of the l1 norm that is tangent to g at x."""
        c = self.transform(x)
        return self.strength * self._on(c).derivative(c)

    def _on(self, c: Tensor) -> Penalty:
        """The penalty of these coefficients."""
        if not self.spare_coarsest:
            return self.penalty
        assert isinstance(self.penalty, SeparablePenalty)
        rows, columns = self.transform.coarsest(*c.shape[-2:])
        weights = torch.ones(c.shape[-2:], dtype=c.real.dtype, device=c.device)
        weights[:rows, :columns] = 0
        return Weighted(self.penalty, weights)


class TotalVariation(Prior):
    """g(x) = strength · Σ |Dx|, the sum of the differences between neighbours (Rudin, Osher, Fatemi, 1992).

    Parameters
    ----------
    strength : float > 0
    isotropic : bool
        at every pixel the root of the sum of both squared differences; otherwise the sum of both magnitudes.
    iterations : int >= 1
        of the proximal map, which is itself found by iteration: fast gradient projection on its dual (Beck, Teboulle,
        IEEE Trans. Image Process. 18, 2009). It ends earlier when the dual changes by less than 1e-12, relatively.
    """

    def __init__(self, strength: float, isotropic: bool = True, iterations: int = 50):
        _check_strength("TotalVariation", strength)
        if iterations < 1:
            raise ValueError(f"TotalVariation: iterations must be >= 1, got {iterations!r}")
        self.strength, self.isotropic, self.iterations = strength, isotropic, iterations
        self.transform = FiniteDifferences()

    def value(self, x: Tensor) -> Tensor:
        return self.strength * self._magnitude(self.transform(x)).flatten(1).sum(1)

    def prox(self, v: Tensor, step: float) -> Tensor:
        dual = torch.zeros_like(self.transform(v))
        point, t, bound = dual, 1.0, step * self.strength
        for _ in range(self.iterations):
            ascent = point + self.transform(v - self.transform.adjoint(point)) / self.transform.norm**2
            following = self._project(ascent, bound)
            t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
            point = following + (t - 1) / t_next * (following - dual)
            change, dual, t = (following - dual).norm(), following, t_next
            if change <= 1e-12 * dual.norm():
                break
        return v - self.transform.adjoint(dual)

    def prox_coefficients(self, c: Tensor, step: float) -> Tensor:
        return c - self._project(c, step * self.strength)

    def _magnitude(self, c: Tensor) -> Tensor:
        # The sum keeps its axis, so that it broadcasts with the differences.
        return c.abs().square().sum(-3, keepdim=True).sqrt() if self.isotropic else c.abs()

    def _project(self, c: Tensor, bound: float) -> Tensor:
        """The nearest differences with no magnitude above the bound."""
        return c * (bound / self._magnitude(c).clamp(min=bound))


def _check_strength(name: str, strength: float) -> None:
    if not (math.isfinite(strength) and strength > 0):
        raise ValueError(f"{name}: strength must be a finite number > 0, got {strength!r}")
