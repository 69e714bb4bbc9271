"""What a sparsity penalty can be asked, and the parts that all penalties of single numbers share."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


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
class Penalty(ABC):
    """A sparsity penalty ρ(|w|): an immutable value with no strength and no step of its own.

    A penalty has two faces. Its proximal map shrinks coefficients inside an unrolled network; its reweighting
    (equally: an adaptive dropout) sparsifies the weights of a network. Both come from one definition, through

        ρ(w) = ½ min_{η ≥ 0} [w²/η + f(η)],        η̂(w) = |w| / ρ'(|w|)

    (LeJeune, Javadi, Baraniuk, "The Flip Side of the Reweighted Coin", NeurIPS 2021).

    All methods take floating point tensors of any shape, real or complex (a complex number is shrunk in magnitude and
    keeps its phase), and return the type and device of what they were given. NaN passes through, ±inf stays.
    """

    formulas: ClassVar[Formulas]

    prox_has_step_gradient: ClassVar[bool] = True
    """False where the proximal map is piecewise constant in its step, so that a step cannot be learned."""

    exact_zeros: ClassVar[bool] = True
    """False where the threshold is 0 for every step: such a penalty shrinks small values, but never to exactly 0."""

    homogeneous: ClassVar[bool] = False
    """True where ρ(cz) = c·ρ(z) for all c > 0, so that prox(v, s) = s·prox(v/s, 1)."""

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
        from unrolled.penalties.rules import DropoutPenalty  # which stands on this module

        return DropoutPenalty(rule, strength)

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
        from unrolled.penalties.rules import ValuePenalty  # which stands on this module

        return ValuePenalty(fn)


class SeparablePenalty(Penalty):
    """A penalty that acts on each number alone.

    A subclass is a frozen dataclass that says, on magnitudes z ≥ 0, what `_value`, `_slope`, `_shrink` and `threshold`
    are; its parameters are numbers made by `parameter`, or tensors that broadcast with w, also such that require
    gradients.
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

    def _kept(self, magnitude: Tensor, step: Tensor) -> Tensor:
        """The proximal map on magnitudes."""
        t = self.threshold(step)
        inside, beyond = _inside(magnitude, t)
        kept = self._shrink(_WithGradient.apply(inside, magnitude, torch.ones_like(t)), step)
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
        if v.dtype in _LOW_PRECISION:  # roots and differences need more digits than that
            return self.prox(v.float(), step).to(v.dtype)
        magnitude = magnitude_of(v)
        return with_phase_of(v, magnitude, self._kept(magnitude, step_tensor(step, magnitude)))

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

    def _kept(self, magnitude: Tensor, step: Tensor) -> Tensor:
        with torch.no_grad():
            t = self.threshold(step) if self.exact_zeros else None
            inside, beyond = _inside(magnitude, t)
            z = self._shrink(inside, step)
            kept = z + beyond if t is None else above(magnitude, t) * z + beyond
        learned = (step * self._slope(torch.ones_like(step))).requires_grad
        if not (learned or magnitude.requires_grad):
            return kept
        with torch.no_grad():
            weight = -1 / (1 + step * self._curvature(z)).clamp(min=_FLAT)
            weight = weight if t is None else above(magnitude, t) * weight
        equation = step * self._slope(z) - magnitude if learned else -magnitude
        return _WithGradient.apply(kept, equation, weight)

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


_FLAT = 1e-12  # at a jump of the proximal map 1 + step·ρ'' may reach 0: derivatives stay finite there
_TINY = 1e-30  # instead of 0 in a quotient
_LOW_PRECISION = (torch.bfloat16, torch.float16)


def magnitude_of(v: Tensor) -> Tensor:
    """|v|, with the derivative 1 at a real 0: the one from the right, as the maps on magnitudes have it.

    Raises
    ------
    ValueError
        if v is not floating point.
    """
    if v.is_complex():
        infinite = v.isinf()
        return torch.where(infinite, torch.inf, _with_phase(v, infinite).abs())
    if not v.is_floating_point():
        raise ValueError(f"a penalty needs floating point or complex tensors, got {v.dtype}")
    return v * _sign(v) if v.requires_grad else v.abs()


def with_phase_of(v: Tensor, magnitude: Tensor, kept: Tensor) -> Tensor:
    """The numbers of magnitude `kept` and of the sign or phase of v, with |v| = magnitude."""
    if not v.is_complex():
        return (kept * _sign(v) if kept.requires_grad else torch.copysign(kept, v)).to(v.dtype)
    infinite = magnitude.isinf()
    return torch.where(infinite, v, kept * torch.sgn(_with_phase(v, infinite))).to(v.dtype)


def _with_phase(v: Tensor, infinite: Tensor) -> Tensor:
    """Complex v, and 0 instead of infinite and denormal numbers, on which abs() and sgn() have NaN gradients."""
    denormal = v.real.abs() + v.imag.abs() < torch.finfo(v.dtype).tiny
    return torch.where(infinite | denormal, 0.0, v)


def above(z: Tensor, bound: Tensor) -> Tensor:
    """1 where z > bound, else 0, of the type of z and without gradient.

    For data this is worth its detour: a CPU takes several times as long for `torch.where`, which it does not vectorise.
    """
    return torch.sgn(F.relu(z.detach() - bound.detach()))


def _inside(magnitude: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
    """Magnitudes moved to where `_shrink` applies, from the threshold to finite numbers, and the ∞ that is missing."""
    magnitude = magnitude.detach()
    kind = torch.finfo(magnitude.dtype)
    finite = magnitude.clamp(max=kind.max / 4)
    inside = finite if t is None else torch.maximum(finite, t.detach().clamp(min=kind.tiny * kind.eps))
    return inside, F.relu(magnitude - finite)


class _WithGradient(torch.autograd.Function):
    """A value, with the gradient of something else times a weight: of an equation that it solves, for example."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        return None, gradient * ctx.saved_tensors[0], None


def _sign(v: Tensor) -> Tensor:
    """1 or −1, also at 0, without gradient."""
    return torch.copysign(torch.ones((), dtype=v.dtype, device=v.device), v.detach())


def on_magnitudes(function: Callable[[Tensor], Tensor], w: Tensor) -> Tensor:
    """function(|w|), in at least 32 bits, returned in the type of |w|."""
    z = magnitude_of(w)
    return function(z.float()).to(z.dtype) if z.dtype in _LOW_PRECISION else function(z)


def step_tensor(step: Tensor | float, like: Tensor | None = None) -> Tensor:
    """The step as a tensor of the type of `like`: a number is checked, and put on its device (float64 without one)."""
    if isinstance(step, Tensor):
        return step if like is None else step.to(like.dtype)
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"step must be a finite number > 0, got {step!r}")
    if like is None:
        return torch.tensor(step, dtype=torch.float64)
    tensor = torch.tensor(step, dtype=like.dtype, device=like.device)
    if torch.compiler.is_compiling():
        # What follows from a constant the compiler writes out again wherever it is used, for a threshold that is found
        # by iteration thousands of times. Sorted, it is data.
        tensor = tensor.expand(2).sort().values[0]
    return tensor
