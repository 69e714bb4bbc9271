"""What is known of images before they are measured: g(x), a penalty on what a linear map makes of the image."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from unrolled.penalties import L1, Penalty, SeparablePenalty, Weighted
from unrolled.solvers.transforms import CycleSpinning, FiniteDifferences, OrthonormalTransform, Transform


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
    """g(x) = strength · Σ ρ(Wx): the image is sparse in a transform.

    Parameters
    ----------
    penalty : Penalty
        ρ.
    strength : float > 0
    transform : Transform
        W. The proximal map is exact if it is orthonormal; otherwise it is found by iteration, and only for `L1`
        (primal-dual methods do without).
    spare_coarsest : bool
        leave the mean (of the DCT) or the coarsest image (of wavelets) unpenalised, for they are not sparse.
    iterations : int >= 1
        of a proximal map that is found by iteration, see `TotalVariation`.
    """

    def __init__(
        self,
        penalty: Penalty,
        strength: float,
        transform: Transform,
        spare_coarsest: bool = False,
        iterations: int = 50,
    ):
        _check("SparsePrior", strength, iterations)
        if spare_coarsest and not isinstance(penalty, SeparablePenalty):
            raise ValueError(f"SparsePrior: spare_coarsest needs a penalty of single numbers, got {penalty!r}")
        if spare_coarsest and not hasattr(transform, "coarsest"):
            raise ValueError(f"SparsePrior: spare_coarsest: {type(transform).__name__} has no coarsest scale")
        self.penalty, self.strength, self.transform = penalty, strength, transform
        self.spare_coarsest, self.iterations = spare_coarsest, iterations
        self._weighted: dict[tuple[torch.Size, torch.dtype, torch.device], Weighted] = {}

    def value(self, x: Tensor) -> Tensor:
        c = self.transform(x)
        return self.strength * self._on(c).value(c).flatten(1).sum(1)

    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·g(z).

        Raises
        ------
        ValueError
            if the transform is not orthonormal and the penalty is not l1.
        """
        if isinstance(self.transform, OrthonormalTransform):
            return self.transform.adjoint(self.prox_coefficients(self.transform(v), step))
        inner = self.penalty.penalty if isinstance(self.penalty, Weighted) else self.penalty
        if not isinstance(inner, L1):
            raise ValueError(
                f"SparsePrior: the proximal map in {type(self.transform).__name__} needs the penalty L1, got "
                f"{self.penalty!r}; reweighted_l1 takes others"
            )
        return dual_prox(self, v, step, self.iterations)

    def prox_coefficients(self, c: Tensor, step: float) -> Tensor:
        return self._on(c).prox(c, step * self.strength)

    def slopes(self, x: Tensor) -> Tensor:
        """strength · ρ'(|Wx|), 0 where nothing is penalised: the weights of the l1 norm that is tangent to g at x."""
        c = self.transform(x)
        return self.slopes_at(c)

    def slopes_at(self, c: Tensor) -> Tensor:
        """strength · ρ'(|c|) at coefficients."""
        return self.strength * self._on(c).derivative(c)

    def _on(self, c: Tensor) -> Penalty:
        """The penalty of these coefficients; made once, for its weights are checked."""
        if not self.spare_coarsest:
            return self.penalty
        assert isinstance(self.penalty, SeparablePenalty)
        assert isinstance(self.transform, (OrthonormalTransform, CycleSpinning))
        key = (c.shape[-2:], c.real.dtype, c.device)
        if key not in self._weighted:
            rows, columns = self.transform.coarsest(*c.shape[-2:])
            weights = torch.ones(key[0], dtype=key[1], device=key[2])
            weights[:rows, :columns] = 0
            self._weighted[key] = Weighted(self.penalty, weights)
        return self._weighted[key]


class TotalVariation(Prior):
    """g(x) = strength · Σ |Dx|, the sum of the differences between neighbours (Rudin, Osher, Fatemi, 1992).

    Parameters
    ----------
    strength : float > 0
    isotropic : bool
        at every pixel the root of the sum of both squared differences; otherwise the sum of both magnitudes.
    iterations : int >= 1
        of the proximal map, which is itself found by iteration, see `dual_prox` (Beck, Teboulle, IEEE Trans. Image
        Process. 18, 2009).
    """

    def __init__(self, strength: float, isotropic: bool = True, iterations: int = 50):
        _check("TotalVariation", strength, iterations)
        self.strength, self.isotropic, self.iterations = strength, isotropic, iterations
        self.transform = FiniteDifferences()

    def value(self, x: Tensor) -> Tensor:
        return self.strength * self._magnitude(self.transform(x)).flatten(1).sum(1)

    def prox(self, v: Tensor, step: float) -> Tensor:
        return dual_prox(self, v, step, self.iterations)

    def prox_coefficients(self, c: Tensor, step: float) -> Tensor:
        return c - self._project(c, step * self.strength)

    def _magnitude(self, c: Tensor) -> Tensor:
        # The sum keeps its axis, so that it broadcasts with the differences.
        return torch.linalg.vector_norm(c, dim=-3, keepdim=True) if self.isotropic else c.abs()

    def _project(self, c: Tensor, bound: float) -> Tensor:
        """The nearest differences with no magnitude above the bound."""
        return c * (bound / self._magnitude(c).clamp(min=bound))


def dual_prox(prior: Prior, v: Tensor, step: float, iterations: int) -> Tensor:
    """argmin_z ½‖z − v‖² + step·h(Wz) for a convex h, by fast gradient projection on its dual (Beck, Teboulle, 2009).

    The dual is min_p ½‖v − Wᴴp‖² + (step·h)*(p), and z = v − Wᴴp. The iteration ends early when p changes by less than
    1e-12, relatively.
    """
    w = prior.transform
    rate = 1 / w.norm**2
    dual = point = torch.zeros_like(w(v))
    t = 1.0
    for _ in range(iterations):
        ascent = point + rate * w(v - w.adjoint(point))
        following = ascent - rate * prior.prox_coefficients(ascent / rate, step / rate)  # Moreau's identity
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        point = following + (t - 1) / t_next * (following - dual)
        change, dual, t = (following - dual).norm(), following, t_next
        if change <= 1e-12 * dual.norm():
            break
    return v - w.adjoint(dual)


def _check(name: str, strength: float, iterations: int) -> None:
    if not (math.isfinite(strength) and strength > 0):
        raise ValueError(f"{name}: strength must be a finite number > 0, got {strength!r}")
    if iterations < 1:
        raise ValueError(f"{name}: iterations must be >= 1, got {iterations!r}")
