"""What a sparsity penalty can be asked, and the parts that all penalties of single numbers share."""

import dataclasses
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from unrolled.penalties.magnitudes import (
    LOW_PRECISION,
    above,
    magnitude_of,
    moved_into_range,
    on_magnitudes,
    step_tensor,
    with_gradient_of,
    with_phase_of,
)
from unrolled.penalties.numbers_given import ENTRIES, is_step, step_given, with_numbers
from unrolled.system.scalars import PlainNumbers


@dataclass(frozen=True)
class Formulas:
    """How a penalty is written on paper, for z = |w| ≥ 0, s the step of the proximal map; for documentation."""

    value: str
    threshold: str
    eta: str
    dual: str
    source: str


def parameter(default: float | Any = dataclasses.MISSING, above: float = 0.0, below: float = math.inf) -> Any:
    """A parameter of a penalty: a number in the open interval (above, below), or a tensor of unchecked values.

    Parameters
    ----------
    default : float, optional
    above, below : float
    """
    return dataclasses.field(default=default, metadata={"above": above, "below": below})


@dataclass(frozen=True)
class Penalty(PlainNumbers, ABC):
    """A sparsity penalty ρ(|w|): an immutable value with no strength and no step of its own.

    A penalty has two faces. Its proximal map shrinks coefficients inside an unrolled network; its reweighting
    (equally: an adaptive dropout) sparsifies the weights of a network. Both come from one definition, through

        ρ(w) = ½ min_{η ≥ 0} [w²/η + f(η)],        η̂(w) = |w| / ρ'(|w|)

    (LeJeune, Javadi, Baraniuk, "The Flip Side of the Reweighted Coin", NeurIPS 2021).

    All methods take floating point tensors of any shape, real or complex (a complex number is shrunk in magnitude and
    keeps its phase), and return the type and device of what they were given. NaN passes through, ±inf stays. Whatever
    else holds numbers (arrays, lists, tensors of whole numbers) is taken in the default type.
    """

    formulas: ClassVar[Formulas]

    prox_has_step_gradient: ClassVar[bool] = True
    """False where the proximal map is piecewise constant in its step, so that a step cannot be learned."""

    exact_zeros: ClassVar[bool] = True
    """False where the threshold is 0 for every step: such a penalty shrinks small values, but never to exactly 0."""

    homogeneous: ClassVar[bool] = False
    """True where ρ(cz) = c·ρ(z) for all c > 0, so that prox(v, s) = s·prox(v/s, 1)."""

    checks_numbers = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, takers in ENTRIES.items():
            if inspect.isfunction(method := cls.__dict__.get(name)):
                setattr(cls, name, with_numbers(method, takers))

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if "above" in field.metadata:
                self._check_parameter(field.name, field.metadata["above"], field.metadata["below"])

    def _check_parameter(self, name: str, above: float, below: float) -> None:
        value = getattr(self, name)
        if isinstance(value, Tensor):
            if not value.is_floating_point():
                raise ValueError(f"{type(self).__name__}: {name} must be floating point, got {value.dtype}")
            return
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and above < value < below):
            allowed = f"> {above:g}" + ("" if math.isinf(below) else f" and < {below:g}")
            raise ValueError(f"{type(self).__name__}: {name} must be a finite number {allowed}, got {value!r}")

    @abstractmethod
    def value(self, w: Tensor) -> Tensor:
        """ρ(|w|).

        Parameters
        ----------
        w : Tensor, any shape, real or complex

        Returns
        -------
        Tensor, the shape of w, real; of a penalty on groups one value per group, axes kept
        """

    @abstractmethod
    def derivative(self, w: Tensor) -> Tensor:
        """ρ'(|w|); its limit from the right at 0. Shapes as in `value`."""

    @abstractmethod
    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        """The global minimiser argmin_z ½|z − v|² + step·ρ(z); 0 where 0 is as good.

        Parameters
        ----------
        v : Tensor, any shape, real or complex
        step : Tensor that broadcasts with v, or float; > 0. A value of a tensor is not checked.

        Raises
        ------
        ValueError
            if step is a number that is not > 0 and finite, or v is not floating point.
        """

    @abstractmethod
    def threshold(self, step: Tensor | float) -> Tensor:
        """The largest |v| that `prox(v, step)` sends to 0.

        Parameters
        ----------
        step : Tensor or float > 0
        """

    @abstractmethod
    def eta(self, w: Tensor) -> Tensor:
        """η̂(w) = |w| / ρ'(|w|), the minimiser in the variational form: its limit at 0, inf where ρ' = 0."""

    @abstractmethod
    def dual(self, eta: Tensor) -> Tensor:
        """f(η) of ρ(w) = ½ min_{η ≥ 0} [w²/η + f(η)], for η ≥ 0."""

    def keep_probability(self, w: Tensor, strength: float | Tensor) -> Tensor:
        """α = η̂ / (η̂ + strength): the probability of keeping w in the equivalent adaptive dropout.

        With a mask of mean α, scaled by 1/α, on a least-squares problem with columns of unit norm, one step of
        dropout is in expectation one reweighted step on strength·ρ (LeJeune et al., 2021).
        """
        strength = strength if is_step(strength) else step_given("keep_probability: strength", strength)
        if not isinstance(strength, Tensor) and not (math.isfinite(strength) and strength > 0):
            raise ValueError(f"keep_probability: strength must be a finite number > 0, got {strength!r}")
        return 1 / (1 + strength / self.eta(w))

    @staticmethod
    def from_dropout(rule: Callable[[Tensor], Tensor], strength: float = 1.0) -> "SeparablePenalty":
        """The penalty that a rule of adaptive dropout amounts to, with everything that a penalty can be asked.

        Its derivative is ρ'(w) = |w|(1 − α)/(α·strength), so that `keep_probability(w, strength)` is the rule again;
        its value is the integral of that, and the rest is found numerically.

        Parameters
        ----------
        rule : callable
            α(|w|), the probability of keeping a weight of magnitude |w|: maps a float64 tensor of any shape with
            entries > 0, elementwise, to one of the same shape and device with values in (0, 1]. It must not fall as
            |w| grows, and is smooth but for some jumps and kinks. Tensors that it uses may require gradients: value,
            derivative, eta, dual, prox and threshold pass them on (not for a moving jump). What is found of a rule is
            remembered: apart from such tensors, nothing that it uses may change.
        strength : float > 0
            of the penalty in the loss, for which the rule is meant.

        Returns
        -------
        SeparablePenalty
            with a relative accuracy of 1e-12 for magnitudes in [1e-15, 1e9], as far as rounding in 1 − α permits.

        Raises
        ------
        ValueError
            if the rule falls somewhere, leaves [0, 1] or is NaN, saying where; or if its penalty is infinite, because
            α is 0 up to some |w| > 0 or falls like |w|² or faster towards 0; or if strength is not > 0. The rule is
            checked at 2,561 magnitudes on torch's default device.
        """
        return _MADE_OF["dropout"](rule, strength)

    @staticmethod
    def from_value(fn: Callable[[Tensor], Tensor]) -> "SeparablePenalty":
        """The penalty with the value ρ(z) = fn(z), with everything that a penalty can be asked.

        Parameters
        ----------
        fn : callable
            ρ(z): maps a float64 tensor of any shape with entries ≥ 0, elementwise, to one of the same shape; torch can
            differentiate it. It is 0 at 0, does not fall, does not jump, and is concave in z² (so that z/ρ'(z) does
            not fall: then it is the penalty of an adaptive dropout). Its tensors may require gradients; nothing else
            that it uses may change.

        Returns
        -------
        SeparablePenalty
            exact where fn is; its dual, threshold and prox to 1e-12 for magnitudes in [1e-15, 1e9].

        Raises
        ------
        ValueError
            if fn is not of this kind, saying where. It is checked at 2,562 magnitudes on torch's default device.
        """
        return _MADE_OF["value"](fn)


class SeparablePenalty(Penalty):
    """A penalty that acts on each number alone.

    Whoever writes a penalty writes a frozen dataclass whose parameters are made by `parameter`: numbers, or tensors
    that broadcast with w and may require gradients. The methods with an underscore are theirs to write, and work on
    real magnitudes z ≥ 0; signs, phases and types are looked after here. `_value`, `_slope` and `threshold` are always
    needed, `_eta` and `dual` only where the general formula does not do. For the proximal map one chooses:

    - `_shrink` alone is enough where the proximal map has a closed form beyond the threshold;
    - `PiecewiseLinearPenalty` is cheaper if that form has finite values and gradients at every magnitude;
    - `SmoothPenalty` asks for `_solve` and `_curvature` instead, and finds gradients by the implicit function theorem;
    - `NumericPenalty` asks for a curve, and finds everything else by searches;
    - `_prox` itself is written where none of these fits.
    """

    @abstractmethod
    def _value(self, z: Tensor) -> Tensor:
        """ρ(z)."""

    @abstractmethod
    def _slope(self, z: Tensor) -> Tensor:
        """ρ'(z); from the right at 0."""

    @abstractmethod
    def _shrink(self, magnitude: Tensor, step: Tensor) -> Tensor:
        """The proximal map on finite magnitudes > 0 from the threshold on."""

    def _prox(self, magnitude: Tensor, step: Tensor) -> Tensor:
        """The proximal map on all magnitudes."""
        t = self.threshold(step)
        inside, beyond = moved_into_range(magnitude, t)
        kept = self._shrink(with_gradient_of(magnitude, inside, torch.ones_like(t)), step)
        return above(magnitude, t) * kept + beyond

    def _eta(self, z: Tensor) -> Tensor:
        """η̂(z) = z/ρ'(z); to be overridden where ρ'(0) = 0."""
        slope = self._slope(z)
        return torch.where(slope == 0, torch.inf, z / torch.where(slope == 0, 1.0, slope))

    def value(self, w: Tensor) -> Tensor:
        return on_magnitudes(self._value, w)

    def derivative(self, w: Tensor) -> Tensor:
        return on_magnitudes(self._slope, w)

    def eta(self, w: Tensor) -> Tensor:
        return on_magnitudes(self._eta, w)

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        if v.dtype in LOW_PRECISION:  # roots and differences need more digits than that
            return self.prox(v.float(), step).to(v.dtype)
        magnitude = magnitude_of(v)
        return with_phase_of(v, magnitude, self._prox(magnitude, step_tensor(step, magnitude)))

    def dual(self, eta: Tensor) -> Tensor:
        # sup_w 2ρ(w) − w²/η is reached where η̂ crosses η, and η̂ never falls: bisection of log w. A small error of w
        # costs only its square. A closed form is better, where there is one.
        def at(eta: Tensor) -> Tensor:
            with torch.no_grad():
                low, high = torch.full_like(eta, -80.0), torch.full_like(eta, 80.0)
                for _ in range(60):
                    middle = (low + high) / 2
                    below = self._eta(middle.exp()) < eta
                    low, high = torch.where(below, middle, low), torch.where(below, high, middle)
                w = ((low + high) / 2).exp()
            positive = torch.where(eta == 0, 1.0, eta)
            supremum = (2 * self._value(w) - w / positive * w).clamp(min=0)
            return torch.where(eta.isnan() | (eta == 0), eta, supremum)

        return on_magnitudes(at, eta)


_MADE_OF: dict[str, Callable[..., SeparablePenalty]] = {}
_Class = TypeVar("_Class", bound=type[SeparablePenalty])


def makes_penalties_of(kind: Literal["dropout", "value"]) -> Callable[[_Class], _Class]:
    """A decorator for the class whose penalties `Penalty.from_dropout` or `Penalty.from_value` makes.

    These classes stand on this module, which therefore cannot import them: they enter themselves here. The package
    imports them all.
    """

    def enter(cls: _Class) -> _Class:
        _MADE_OF[kind] = cls
        return cls

    return enter
