"""Penalties without closed forms: everything they can be asked, found numerically from one curve."""

import dataclasses
from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unrolled.penalties.curve import Curve
from unrolled.penalties.curve_search import CurveSearch
from unrolled.penalties.magnitudes import step_tensor
from unrolled.penalties.penalty import SeparablePenalty
from unrolled.penalties.root_finding import derivative_of
from unrolled.system.compilation import outside_graphs
from unrolled.system.devices import in_double

_HUGE = 1e300  # instead of an infinite slope


class NumericPenalty(SeparablePenalty):
    """A separable penalty that is known along a curve u ↦ (z, η̂(z), ρ(z)), u > 0.

    A subclass says what the curve is (`_make_curve`). All else follows: ρ' = z/η̂, the threshold, the dual, and the
    proximal map, whose equation z(1 + step/η̂) = v may have several solutions. For a step that many numbers have in
    common the best ones are known from the convex hull of z²/2 + step·ρ(z) on a table of the curve, and where they
    jump is found once; for steps (or parameters) that differ from number to number they are all found and compared:
    sign changes on a grid of u, looked at more closely where two may hide between nodes. Then they are refined to the
    last digits. Gradients are those of the implicit function theorem.

    Computed in float64 whatever the type of the input, for magnitudes in [2⁻⁵⁰, 2³⁰] (about 1e-15 to 1e9); by power
    laws below and proportionally above. The proximal map costs about a microsecond per number for one step, and
    between 20 and 600 where steps differ.
    """

    @abstractmethod
    def _make_curve(self) -> Curve:
        """The curve, with the parameters as they are now."""

    @property
    def curve(self) -> Curve:
        """The curve; made anew at each call if parameters may have been changed in place, as when they are learned."""
        return self._make_curve() if self._is_learned else self._lasting_curve

    @cached_property
    def _lasting_curve(self) -> Curve:
        return self._make_curve()

    @property
    def _is_learned(self) -> bool:
        """Whether the curve may be another one at the next call."""
        return any(isinstance(getattr(self, field.name), Tensor) for field in dataclasses.fields(self))

    def _value(self, z: Tensor) -> Tensor:
        return CurveSearch(self.curve).value(z)

    def _slope(self, z: Tensor) -> Tensor:
        return CurveSearch(self.curve).slope(z)

    def _eta(self, z: Tensor) -> Tensor:
        return CurveSearch(self.curve).eta(z)

    # The searches decide by their data, at which a compiler gives up: it leaves them to Python.

    @outside_graphs
    def value(self, w: Tensor) -> Tensor:
        return super().value(_float64(w)).to(w.device, w.dtype.to_real())

    @outside_graphs
    def derivative(self, w: Tensor) -> Tensor:
        return super().derivative(_float64(w)).to(w.device, w.dtype.to_real())

    @outside_graphs
    def eta(self, w: Tensor) -> Tensor:
        return super().eta(_float64(w)).to(w.device, w.dtype.to_real())

    @outside_graphs
    def dual(self, eta: Tensor) -> Tensor:
        exact, curve = _float64(eta), self.curve
        search = CurveSearch(curve)
        with torch.no_grad():
            nodes = curve.nodes(exact.device)
            z, least = curve.at(nodes[:1])
            power = search.parts(z)[2]
            power = torch.where(power < 1, (1 + power) / (1 - power), 1e9)  # of f below η̂ there, in η
        positive = torch.where((exact > 0) & exact.isfinite(), torch.maximum(exact, least), 1.0)
        u = torch.where(exact == torch.inf, nodes[-1], search.locate_eta(positive))
        z = curve.at(u)[0]  # an error of u costs only its square
        supremum = (2 * curve.value(u) - z.square() / torch.where(exact.isinf(), exact, positive)).clamp(min=0)
        below = torch.where(exact == 0, 1.0, exact / least).clamp(max=1) ** power
        return torch.where(exact.isnan() | (exact == 0), exact, supremum * below).to(eta.device, eta.dtype)

    @outside_graphs
    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        exact = _float64(v)
        step = step.to(exact.device) if isinstance(step, Tensor) else step
        return SeparablePenalty.prox(self, exact, step).to(v.device, v.dtype)

    def _prox(self, magnitude: Tensor, step: Tensor) -> Tensor:
        with torch.no_grad():
            z = CurveSearch(self.curve).minimisers(magnitude, step)
            threshold = self.threshold(step)  # to the last digit
            z = torch.where((magnitude <= threshold) & (threshold > 0), 0.0, z)
            # What does not change with v and the step sees another z, where its gradients are finite.
            still = z.isinf() | (z == 0) if self.exact_zeros else z.isinf()
            there = torch.where(still, 1.0, z)
        if not (torch.is_grad_enabled() and (magnitude + step * self._slope(torch.ones_like(step))).requires_grad):
            return z
        equation = step * self._slope(there) - magnitude
        curvature = derivative_of(self._slope, there).detach().nan_to_num()  # 0 where η̂ is infinite
        steepness = (1 + step.detach() * curvature).clamp(min=1e-12)
        change = ((equation - equation.detach()) / steepness).nan_to_num()
        return z - torch.where(still, 0.0, change)

    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        return self._prox(magnitude, step)

    @outside_graphs
    def threshold(self, step: Tensor | float) -> Tensor:
        given = step_tensor(step)
        step = in_double(given)
        start = self._slope(torch.zeros_like(step)).clamp(max=_HUGE)  # infinite times 0 would be a NaN gradient
        z = CurveSearch(self.curve).landings(step)
        there = torch.where(z == 0, 1.0, z)
        # The envelope theorem gives the gradients of inf_z z/2 + step·ρ(z)/z at its minimiser.
        return torch.where(z == 0, step * start, there / 2 + step * self._value(there) / there).to(
            given.device, given.dtype
        )


def _float64(w: Tensor) -> Any:
    return in_double(w) if w.is_complex() or w.is_floating_point() else w
