"""Proximal maps of penalties as layers that learn their steps, the penalties' parameters, and which penalty to use."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.networks.positive_numbers import check_positive
from unrolled.penalties import L1, Penalty, SeparablePenalty
from unrolled.penalties.numbers_given import floating

LEAST = 1e-9
"""Steps and distances of parameters from their bounds are at least this, whatever the raw parameter."""


class Shrinkage(nn.Module):
    """The proximal map of a penalty, with one learned step or one per channel.

    The step is kept positive by a softplus over the raw parameter, so that the layer never expands. The penalty's own
    parameters can be learned too; they are kept in their allowed intervals likewise.

    Parameters
    ----------
    penalty : Penalty
        any separable penalty whose proximal map has a gradient in its step, with numbers as parameters. Default: L1,
        soft thresholding.
    channels : int, optional
        one step for each of so many channels (axis 1 of the input), and one of each learned parameter; by default one
        for all.
    threshold : float > 0
        where the threshold starts: inputs up to this magnitude become 0. A penalty without a threshold (Cauchy, flat
        at 0) starts with this as its step.
    learn_penalty : bool
        learn the parameters of the penalty; they start at the values of `penalty`. Those that only move a jump of the
        proximal map (θ of CappedL1) have no gradient and stay as they are.

    Attributes
    ----------
    penalty : Penalty
        as it was given; `current_penalty` has the learned parameters.
    raw_step : Parameter, scalar or (channels,)
    raw_parameters : ParameterDict
        of the names of the penalty's parameters, each like raw_step; empty unless they are learned.

    Raises
    ------
    ValueError
        if the penalty's step cannot be learned, its parameters are tensors, or channels or threshold are not positive.

    Notes
    -----
    Where a step is so large that the proximal map is hard thresholding (MCP from step b on, SCAD from a + 1 on), no
    gradient reaches the step. Choose parameters so that the penalty bends well above the threshold it starts with.

    Examples
    --------
    >>> layer = Shrinkage(L1(), channels=8, threshold=0.1)
    >>> layer(torch.ones(2, 8, 5, 5)).amax().item()
    0.8999999761581421
    """

    def __init__(
        self,
        penalty: Penalty | None = None,
        channels: int | None = None,
        threshold: float = 0.01,
        learn_penalty: bool = False,
    ):
        super().__init__()
        penalty = L1() if penalty is None else penalty
        _check_penalty(penalty)
        if channels is not None and channels < 1:
            raise ValueError(f"Shrinkage: channels must be >= 1 or None, got {channels!r}")
        check_positive("Shrinkage", threshold=threshold)
        self.penalty = penalty
        self.channels = channels
        self.raw_step = self._parameter(_inverse_softplus(_step_of_threshold(penalty, threshold)))
        self._bounds = _bounds(penalty) if learn_penalty else {}
        self.raw_parameters = nn.ParameterDict(
            {
                name: self._parameter(_raw_of(getattr(penalty, name), above, below))
                for name, (above, below) in self._bounds.items()
            }
        )

    def _parameter(self, start: float) -> nn.Parameter:
        return nn.Parameter(torch.full(() if self.channels is None else (self.channels,), start))

    @property
    def step(self) -> Tensor:
        """The step of the proximal map, > 0: a scalar, or (channels,)."""
        return F.softplus(self.raw_step).clamp(min=LEAST)

    @property
    def threshold(self) -> Tensor:
        """The largest magnitude that the layer sends to 0: a scalar, or (channels,)."""
        return self._penalty().threshold(self.step)

    @property
    def current_penalty(self) -> Penalty:
        """The penalty with the parameters as they are now: numbers, or tensors (channels,) without gradients."""
        return dataclasses.replace(
            self.penalty,
            **{
                name: value.item() if value.ndim == 0 else value
                for name in self._bounds
                for value in [self._value_of(name).detach()]
            },
        )

    def forward(self, v: Tensor) -> Tensor:
        """Shrink v.

        Parameters
        ----------
        v : Tensor, (batch, channel, …), real or complex; any shape when there are no channels
        """
        v = floating("Shrinkage: v", v)
        if self.channels is None:
            return self._penalty().prox(v, self.step)
        if v.ndim < 2 or v.shape[1] != self.channels:
            raise ValueError(f"Shrinkage: axis 1 must have {self.channels} channels, got shape {tuple(v.shape)}")
        shape = (-1, *[1] * (v.ndim - 2))
        return self._penalty(shape).prox(v, self.step.view(shape))

    def _penalty(self, shape: tuple[int, ...] | None = None) -> Penalty:
        """The penalty of the raw parameters, with gradients; parameters of channels in a shape that broadcasts."""
        if not self._bounds:
            return self.penalty
        values = {name: self._value_of(name) for name in self._bounds}
        if shape is not None:
            values = {name: value.view(shape) for name, value in values.items()}
        return dataclasses.replace(self.penalty, **values)

    def _value_of(self, name: str) -> Tensor:
        """A parameter inside of its open interval: a softplus above its bound, or a sigmoid between two."""
        raw, (above, below) = self.raw_parameters[name], self._bounds[name]
        if math.isinf(below):
            # Where the bound swallows what is added, the next number stands for it.
            return (above + F.softplus(raw)).clamp(min=_next_above(above, raw.dtype))
        value = above + (below - above) * torch.sigmoid(raw)
        return value.clamp(_next_above(above, raw.dtype), -_next_above(-below, raw.dtype))

    def extra_repr(self) -> str:
        return f"{self.penalty}, channels={self.channels}, learn_penalty={bool(self._bounds)}"


class ShrinkageMixture(nn.Module):
    """A learned convex combination of the proximal maps of several penalties, Σ_k w_k prox_k(v, step_k).

    The weights w = softmax(raw_weights) start equal; training chooses among the penalties. As no map expands, neither
    does the mixture.

    Parameters
    ----------
    penalties : sequence of Penalty
        each as `Shrinkage` takes it.
    channels : int, optional
        weights, steps and learned parameters of their own for each of so many channels (axis 1 of the input); by
        default one of each for all.
    threshold : float > 0
        where the threshold of every map starts.
    learn_penalty : bool
        learn the parameters of the penalties too.

    Attributes
    ----------
    shrinkages : ModuleList of Shrinkage
        the maps, in the order of the penalties.
    raw_weights : Parameter, (penalties,) or (penalties, channels)

    Raises
    ------
    ValueError
        if there is no penalty, or `Shrinkage` refuses one.

    Examples
    --------
    >>> from unrolled.penalties import MCP
    >>> layer = ShrinkageMixture([L1(), MCP()], threshold=0.5)
    >>> layer.weights.tolist(), layer(torch.tensor([0.4, 3.0])).tolist()
    ([0.5, 0.5], [0.0, 2.75])
    """

    def __init__(
        self,
        penalties: Sequence[Penalty],
        channels: int | None = None,
        threshold: float = 0.01,
        learn_penalty: bool = False,
    ):
        super().__init__()
        if isinstance(penalties, Penalty) or not len(penalties):
            raise ValueError(f"ShrinkageMixture: penalties must be a list of at least one penalty, got {penalties!r}")
        self.shrinkages = nn.ModuleList(Shrinkage(penalty, channels, threshold, learn_penalty) for penalty in penalties)
        self.channels = channels
        self.raw_weights = nn.Parameter(torch.zeros(len(penalties), *() if channels is None else (channels,)))

    @property
    def weights(self) -> Tensor:
        """The weights of the penalties, > 0, of sum 1: (penalties,), or (penalties, channels)."""
        return self.raw_weights.softmax(0)

    @property
    def threshold(self) -> Tensor:
        """The largest magnitude that the layer sends to 0, that of its maps: a scalar, or (channels,)."""
        return torch.stack([shrinkage.threshold for shrinkage in self._maps]).amin(0)

    @property
    def current_penalties(self) -> list[Penalty]:
        """The penalties with their parameters as they are now."""
        return [shrinkage.current_penalty for shrinkage in self._maps]

    @property
    def _maps(self) -> list[Shrinkage]:
        return [shrinkage for shrinkage in self.shrinkages if isinstance(shrinkage, Shrinkage)]

    def forward(self, v: Tensor) -> Tensor:
        """Shrink v.

        Parameters
        ----------
        v : Tensor, (batch, channel, …), real or complex; any shape when there are no channels
        """
        v = floating("ShrinkageMixture: v", v)
        weights = self.weights.to(v.real.dtype if v.is_complex() else v.dtype)
        if self.channels is not None:
            weights = weights.view(len(weights), -1, *[1] * (v.ndim - 2))
        terms = (weight * shrink(v) for weight, shrink in zip(weights, self._maps, strict=True))
        return functools.reduce(torch.add, terms)


def shrinkage_of(
    penalty: Penalty | Sequence[Penalty] | None,
    channels: int | None = None,
    threshold: float = 0.01,
    learn_penalty: bool = False,
) -> Shrinkage | ShrinkageMixture:
    """The layer of what the config of a network says: of one penalty or none a `Shrinkage`, of a list a mixture.

    Parameters
    ----------
    penalty : Penalty, sequence of Penalty, or None
    channels, threshold, learn_penalty
        as of `Shrinkage`.
    """
    if penalty is None or isinstance(penalty, Penalty):
        return Shrinkage(penalty, channels, threshold, learn_penalty)
    return ShrinkageMixture(penalty, channels, threshold, learn_penalty)


def _check_penalty(penalty: Penalty) -> None:
    name = type(penalty).__name__
    if not isinstance(penalty, Penalty):
        raise ValueError(f"Shrinkage: penalty must be a penalty, such as L1() or LogSum(0.1), got {penalty!r}")
    if not isinstance(penalty, SeparablePenalty):
        raise ValueError(
            f"Shrinkage: {name} does not act on each number alone; use a separable penalty (L1, LogSum, MCP, …), or "
            "call the prox of this one in a layer of your own"
        )
    if not penalty.prox_has_step_gradient:
        raise ValueError(
            f"Shrinkage: the proximal map of {name} is constant in its step wherever it has a "
            "derivative, so no gradient would reach the step; MCP(gamma, b) with a small b comes close to it"
        )
    for field in dataclasses.fields(penalty):
        if isinstance(getattr(penalty, field.name), Tensor):
            raise ValueError(
                f"Shrinkage: {field.name} of {name} must be a number, got a tensor; "
                "learn_penalty=True learns it, for every channel if there are channels"
            )
    if penalty.threshold(torch.ones(())).numel() != 1:
        raise ValueError(f"Shrinkage: {name} must have one threshold for all numbers, got {penalty!r}")


def _bounds(penalty: Penalty) -> dict[str, tuple[float, float]]:
    """The open intervals of a penalty's parameters that can be learned."""
    return {
        field.name: (field.metadata["above"], field.metadata["below"])
        for field in dataclasses.fields(penalty)
        if "above" in field.metadata and _has_gradient(penalty, field.name)
    }


def _has_gradient(penalty: Penalty, name: str) -> bool:
    """Whether the proximal map depends on a parameter by more than comparisons."""
    probe = torch.tensor(float(getattr(penalty, name)), requires_grad=True)
    one = torch.ones(1)
    return dataclasses.replace(penalty, **{name: probe}).prox(one, one).requires_grad


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))


def _raw_of(value: float, above: float, below: float) -> float:
    """The raw parameter of a value in an open interval."""
    if math.isinf(below):
        return _inverse_softplus(value - above)
    return math.log(value - above) - math.log(below - value)


def _next_above(bound: float, dtype: torch.dtype) -> float:
    """The least number that is clearly above a bound, in a type."""
    return bound + max(LEAST, 4 * torch.finfo(dtype).eps * abs(bound))


@functools.lru_cache(maxsize=1024)
def _step_of_threshold(penalty: Penalty, threshold: float) -> float:
    """The step at which a penalty's threshold, which grows with the step, has the given value.

    Of a penalty without a threshold the step itself is the value.
    """
    low, high = math.log10(LEAST), 30.0  # powers of ten
    if not penalty.exact_zeros:
        return threshold
    for _ in range(7):
        powers = torch.linspace(low, high, 65, dtype=torch.float64)
        reached = torch.broadcast_to(penalty.threshold(10**powers) >= threshold, powers.shape)
        first = int(reached.to(torch.int8).argmax())
        if not reached[first] or first == 0:
            raise ValueError(f"Shrinkage: no step gives {penalty} a threshold of {threshold!r}")
        low, high = float(powers[first - 1]), float(powers[first])
    return float(10**high)
