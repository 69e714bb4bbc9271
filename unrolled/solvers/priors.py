"""What is known of images before they are measured: g(x), a penalty on what a linear map makes of the image."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from unrolled.penalties import L1, Penalty, SeparablePenalty, Weighted
from unrolled.solvers.dual import Proximal, certain_prox, dual_prox
from unrolled.solvers.given import as_batch, as_image, real_number
from unrolled.solvers.transforms import CycleSpinning, FiniteDifferences, OrthonormalTransform, Transform
from unrolled.system.scalars import whole_number

FEW = 50
"""Iterations of a proximal map that algorithms ask for again and again, for each of their own."""


SMALL = 1e-18
"""A number whose square and its inverse's are still numbers in single precision."""


class Prior(ABC):
    """g(x) = h(Wx), on batches of images (batch, channel, height, width), real or complex.

    Attributes
    ----------
    transform : Transform
        W.
    iterations, tolerance : int, float
        of a proximal map that is found by iteration.
    """

    transform: Transform
    iterations: int = 1
    tolerance: float = 0.0

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """g(x), one number per image of the batch."""

    @abstractmethod
    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·g(z)."""

    @abstractmethod
    def prox_coefficients(self, c: Tensor, step: float) -> Tensor:
        """argmin_d ½‖d − c‖² + step·h(d), on coefficients: what primal-dual methods need."""

    def approximate_prox(self, v: Tensor, step: float, dual: Tensor | None = None) -> Proximal:
        """The proximal map for algorithms that ask for it again and again, of images that change less and less.

        One that is found by iteration goes on from the dual of the call before, for a few iterations at a time: it
        becomes exact as the algorithm ends. By default it is `prox`.
        """
        return Proximal(self.prox(v, step))


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
    tolerance : float >= 0
        of a proximal map that is found by iteration, see `TotalVariation`.
    """

    def __init__(
        self,
        penalty: Penalty,
        strength: float,
        transform: Transform,
        spare_coarsest: bool = False,
        iterations: int = 1000,
        tolerance: float = 1e-5,
    ):
        if spare_coarsest and not isinstance(penalty, SeparablePenalty):
            raise ValueError(f"SparsePrior: spare_coarsest needs a penalty of single numbers, got {penalty!r}")
        if spare_coarsest and not hasattr(transform, "coarsest"):
            raise ValueError(f"SparsePrior: spare_coarsest: {type(transform).__name__} has no coarsest scale")
        self.penalty, self.transform, self.spare_coarsest = penalty, transform, spare_coarsest
        self.strength = real_number("SparsePrior: strength", strength, above=True)
        self.iterations = whole_number("SparsePrior: iterations", iterations)
        self.tolerance = real_number("SparsePrior: tolerance", tolerance)
        self._weighted: dict[tuple[torch.Size, torch.dtype, torch.device], Weighted] = {}

    def value(self, x: Tensor) -> Tensor:
        return self.norm_of(self.transform(as_batch("x", x)))

    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·g(z).

        Warns if it is found by iteration and ends above the tolerance.

        Raises
        ------
        ValueError
            if the transform is not orthonormal and the penalty is not l1.
        """
        v, step = as_batch("v", v), real_number("step", step, above=True)
        if isinstance(self.transform, OrthonormalTransform):
            return self.transform.adjoint(self.prox_coefficients(self.transform(v), step))
        self._need_l1()
        return certain_prox(self, v, step, self.iterations, self.tolerance)

    def approximate_prox(self, v: Tensor, step: float, dual: Tensor | None = None) -> Proximal:
        if isinstance(self.transform, OrthonormalTransform):
            return Proximal(self.prox(v, step))
        self._need_l1()
        return dual_prox(self, v, step, min(self.iterations, FEW), self.tolerance, dual)

    def _need_l1(self) -> None:
        inner = self.penalty.penalty if isinstance(self.penalty, Weighted) else self.penalty
        if not isinstance(inner, L1):
            raise ValueError(
                f"SparsePrior: the proximal map in {type(self.transform).__name__} needs the penalty L1, got "
                f"{self.penalty!r}; reweighted_l1 takes others"
            )

    def prox_coefficients(self, c: Tensor, step: float) -> Tensor:
        c = as_image("c", c)
        return self._on(c).prox(c, step * self.strength)

    def norm_of(self, c: Tensor) -> Tensor:
        """h(c), one number per image."""
        return self.strength * self._on(c).value(c).flatten(1).sum(1)

    def project(self, p: Tensor, step: float) -> Tensor:
        """The nearest coefficients q with Re⟨q, d⟩ <= step·h(d) for all d, if h is a norm."""
        return p - self.prox_coefficients(p, step)  # Moreau's identity

    def slopes(self, x: Tensor) -> Tensor:
        """strength · ρ'(|Wx|), 0 where nothing is penalised: the weights of the l1 norm that is tangent to g at x."""
        return self.slopes_at(self.transform(x))

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
        Process. 18, 2009), at most. Algorithms that need one proximal map after another make at most 50 for each.
    tolerance : float >= 0
        the proximal map is found when the duality gap, a bound of how far its objective is above the minimum, is at
        most so large a part of the objective. If it is not after all iterations, a warning tells so.
    """

    def __init__(self, strength: float, isotropic: bool = True, iterations: int = 1000, tolerance: float = 1e-5):
        self.strength = real_number("TotalVariation: strength", strength, above=True)
        self.iterations = whole_number("TotalVariation: iterations", iterations)
        self.tolerance = real_number("TotalVariation: tolerance", tolerance)
        self.isotropic = isotropic
        self.transform = FiniteDifferences()

    def value(self, x: Tensor) -> Tensor:
        return self.norm_of(self.transform(as_batch("x", x)))

    def prox(self, v: Tensor, step: float) -> Tensor:
        """argmin_z ½‖z − v‖² + step·g(z). Warns if it ends above the tolerance."""
        v, step = as_batch("v", v), real_number("step", step, above=True)
        return certain_prox(self, v, step, self.iterations, self.tolerance)

    def approximate_prox(self, v: Tensor, step: float, dual: Tensor | None = None) -> Proximal:
        return dual_prox(self, v, step, min(self.iterations, FEW), self.tolerance, dual)

    def prox_coefficients(self, c: Tensor, step: float) -> Tensor:
        c, bound = as_image("c", c), step * self.strength
        # The sum keeps its axis, so that it broadcasts with the differences.
        size = torch.linalg.vector_norm(c, dim=-3, keepdim=True) if self.isotropic else c.abs()
        return c - c * (bound / size.clamp(min=bound))

    def norm_of(self, c: Tensor) -> Tensor:
        """h(c), one number per image."""
        size = torch.linalg.vector_norm(c, dim=-3) if self.isotropic and c.requires_grad else self._squares(c).sqrt()
        return self.strength * size.flatten(1).sum(1)

    def project(self, p: Tensor, step: float) -> Tensor:
        """The nearest differences with no magnitude above step·strength."""
        # Within what has a square. It is several times as fast as by a norm of two numbers.
        bound = min(max(step * self.strength, SMALL), 1 / SMALL)
        return p * (bound / self._squares(p).clamp(min=bound**2).sqrt())

    def _squares(self, c: Tensor) -> Tensor:
        squares = c.abs().square()
        return squares.sum(-3, keepdim=True) if self.isotropic else squares
