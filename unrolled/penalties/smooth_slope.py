"""Penalties whose proximal map solves an equation, for their slope is smooth."""

from abc import abstractmethod

import torch
from torch import Tensor

from unrolled.penalties.magnitudes import above, moved_into_range, step_tensor, with_gradient_of
from unrolled.penalties.penalty import SeparablePenalty

_FLAT = 1e-12  # at a jump of the proximal map 1 + step·ρ'' may reach 0: derivatives stay finite there
_TINY = 1e-30  # instead of 0 in a quotient


class SmoothPenalty(SeparablePenalty):
    """A separable penalty with a smooth slope, whose proximal map solves z + step·ρ'(z) = v where it is not 0.

    The solution is found without recording it; gradients in v, the step and the parameters are those of the implicit
    function theorem, ∂z/∂v = 1/(1 + step·ρ''(z)), ∂z/∂step = −ρ'(z)/(1 + step·ρ''(z)).

    A subclass says how it is solved (`_solve`), and overrides `threshold` if that has a closed form.
    """

    @abstractmethod
    def _curvature(self, z: Tensor) -> Tensor:
        """ρ''(z); from the right at 0."""

    @abstractmethod
    def _solve(self, magnitude: Tensor, step: Tensor) -> Tensor:
        """The best root of z + step·ρ'(z) = magnitude, where there is one ≥ 0; no gradient is recorded."""

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return torch.minimum(self._solve(magnitude, step).clamp(min=0), magnitude)

    def _prox(self, magnitude: Tensor, step: Tensor) -> Tensor:
        with torch.no_grad():
            t = self.threshold(step) if self.exact_zeros else None
            inside, beyond = moved_into_range(magnitude, t)
            z = self._shrink(inside, step)
            kept = z + beyond if t is None else above(magnitude, t) * z + beyond
        learned = (step * self._slope(torch.ones_like(step))).requires_grad
        if not (learned or magnitude.requires_grad):
            return kept
        with torch.no_grad():
            weight = -1 / (1 + step * self._curvature(z)).clamp(min=_FLAT)
            weight = weight if t is None else above(magnitude, t) * weight
        equation = step * self._slope(z) - magnitude if learned else -magnitude
        return with_gradient_of(equation, kept, weight)

    def threshold(self, step: Tensor | float) -> Tensor:
        step = step_tensor(step)
        with torch.no_grad():
            z = self._jump(step)
        # inf_z of z/2 + step·ρ(z)/z, which is step·ρ'(0) at z = 0: the envelope theorem gives its gradients.
        return torch.fmin(step * self._slope(torch.zeros_like(z)), self._secant(z, step))

    def _secant(self, z: Tensor, step: Tensor) -> Tensor:
        """The magnitude at which z is as good as 0."""
        return z / 2 + step * self._value(z) / z

    def _jump(self, step: Tensor) -> Tensor:
        """Where the proximal map lands when it leaves 0 by a jump: the minimiser z of z/2 + step·ρ(z)/z.

        Dinkelbach's method for the ratio (z²/2 + step·ρ(z))/z: at the magnitude t where z is as good as 0, the best
        point is a better z. It descends, and converges quadratically; where there is no jump it tends to 0.
        """
        furthest = step * self._slope(torch.zeros_like(step))
        z = (2 * step * self._value(furthest)).sqrt()  # as if ρ were constant from there on
        t = torch.minimum(self._secant(z, step), furthest)
        for _ in range(6):
            better = self._solve(t, step).clamp(min=_TINY)
            below = self._secant(better, step)
            z, t = torch.where(below < t, better, z), torch.minimum(below, t)
        return z
