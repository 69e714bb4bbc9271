"""How to differentiate through the phases of a network: a value that is given to the network."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unrolled.networks.anderson import Anderson
from unrolled.networks.phases.phase import State, Step, following
from unrolled.networks.recomputation import Draws, Surroundings
from unrolled.networks.sizes import check_sizes
from unrolled.operators import LinearOperator


@dataclass(frozen=True)
class Differentiation(ABC):
    """How gradients are carried through the phases. The image is the same with each; memory and time differ."""

    @abstractmethod
    def run(
        self, steps: Sequence[Step], state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> State:
        """Apply phases one after the other.

        Parameters
        ----------
        steps : sequence of (state, y, operator, condition) ↦ state
        state : tuple of Tensor
            what the first is given.
        y : Tensor, the measurements
        operator : LinearOperator
        condition : Tensor, optional

        Returns
        -------
        tuple of Tensor
            the state after the last phase
        """

    def states(
        self, steps: Sequence[Step], state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> list[State]:
        """The same, with the state after every phase."""
        return [state := following(step, state, y, operator, condition) for step in steps]


@dataclass(frozen=True)
class Unroll(Differentiation):
    """Ordinary backpropagation: what is computed inside of every phase is kept. Memory grows with the phases."""

    def run(
        self, steps: Sequence[Step], state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> State:
        return _run(steps, state, y, operator, condition)


@dataclass(frozen=True)
class Recompute(Differentiation):
    """Keep the image only after every few phases, and compute what lies between once more in the backward pass.

    The gradient is the same, a step takes about a third longer, and memory hardly grows with the phases. A phase keeps
    dozens of feature maps but hands on only an image or two: `every=1` needs the least memory. Random numbers, those of
    dropout and of generators that modules hold, are the same again; statistics of norms count once.

    Parameters
    ----------
    every : int in 1 … 10,000
        phases between kept images.
    """

    every: int = 1

    def __post_init__(self) -> None:
        check_sizes("Recompute", every=self.every)

    def run(
        self, steps: Sequence[Step], state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> State:
        if not torch.is_grad_enabled():
            return _run(steps, state, y, operator, condition)
        for first in range(0, len(steps), self.every):
            part = steps[first : first + self.every]
            if torch.compiler.is_compiling():  # the compiler keeps random numbers itself, and refuses the rest
                state = checkpoint(_run, part, state, y, operator, condition, use_reentrant=False)
                continue
            # Dropout falls on the same numbers again, for the state of the generators is kept.
            contexts = Surroundings([*part, operator]).contexts
            state = checkpoint(_run, part, state, y, operator, condition, use_reentrant=False, context_fn=contexts)
        return state


@dataclass(frozen=True)
class Implicit(Differentiation):
    """Differentiate the fixed point that equal phases approach, by the implicit function theorem.

    For z* = f(z*, θ) the gradient of a loss is uᵀ∂f/∂θ with u = v + (∂f/∂z)ᵀu, v the loss's gradient by z (Bai, Kolter,
    Koltun, "Deep Equilibrium Models", 2019). u is found by iteration, which converges where the phases do. Memory is
    that of one phase. It is the gradient of the limit: the same as that of unrolling only if the phases have converged.

    For networks whose phases share their weights (`shared=True`), carry tensors only and draw no random numbers. With
    gradients it does not compile, for the backward pass ends when u has converged: training runs without.

    Parameters
    ----------
    iterations : int in 1 … 10,000
        at most so many for u.
    tolerance : float > 0
        the iteration for u ends when it changes by less than this, relatively.
    memory : int in 1 … 10,000
        how many of the last iterates, of the phases and of u, are combined to the next one by Anderson's acceleration,
        for fewer of both; with 1, every phase is given what the one before it returned.
    """

    iterations: int = 50
    tolerance: float = 1e-6
    memory: int = 1

    def __post_init__(self) -> None:
        check_sizes("Implicit", iterations=self.iterations, memory=self.memory)
        if not self.tolerance > 0:
            raise ValueError(f"Implicit: tolerance must be > 0, got {self.tolerance!r}")

    def run(
        self, steps: Sequence[Step], state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> State:
        if any(step != steps[0] for step in steps[1:]):
            raise ValueError("Implicit: needs phases that share their weights; make the network with shared=True")
        if not torch.is_grad_enabled():
            state = _last(self._approach(steps[:-1], state, y, operator, condition), state)
            return following(steps[-1], state, y, operator, condition)
        if torch.compiler.is_compiling():
            raise RuntimeError("Implicit does not compile with gradients")
        draws = Draws([steps[0], operator], y.device)
        with torch.no_grad():
            state = _last(self._approach(steps[:-1], state, y, operator, condition), state)
        _check_state(state)
        point = tuple(entry.detach().requires_grad_() for entry in state)
        state = following(steps[-1], point, y, operator, condition)
        if draws.happened():
            raise ValueError(
                "Implicit: phases that draw random numbers, as dropout does, have no fixed point; use Unroll() or "
                "Recompute(), or do without"
            )
        _check_state(state)
        if len(state) != len(point):
            raise ValueError(
                f"Implicit: a phase must return as many entries as it is given, {len(point)}, got {len(state)}"
            )
        return tuple(_SolveAdjoint.apply(self, point, state, *state))

    def states(
        self, steps: Sequence[Step], state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None
    ) -> list[State]:
        found = list(self._approach(steps[:-1], state, y, operator, condition))
        return [*found, following(steps[-1], found[-1] if found else state, y, operator, condition)]

    def _approach(
        self, steps: Sequence[Step], state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None
    ) -> Iterator[State]:
        """What the phase after each of these is given."""
        if self.memory > 1:
            _check_state(state)
        acceleration = Anderson(self.memory)
        for step in steps:
            state = acceleration.following(state, following(step, state, y, operator, condition))
            yield state

    def solve(self, point: tuple[Tensor, ...], state: tuple[Tensor, ...], v: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """u = v + (∂f/∂z)ᵀu by iteration from u = v, at z = point with f(z) = state."""
        u, acceleration = v, Anderson(self.memory)
        for _ in range(self.iterations):
            pulled = torch.autograd.grad(state, point, u, retain_graph=True, allow_unused=True)
            value = tuple(a if b is None else a + b for a, b in zip(v, pulled, strict=True))
            change = sum(_energy(a - b) for a, b in zip(value, u, strict=True))
            if change <= self.tolerance**2 * sum(_energy(a) for a in value):
                return value
            u = acceleration.following(u, value)
        return u


class _SolveAdjoint(torch.autograd.Function):
    """The identity on the last phase's result; backward, the gradient of the phase becomes that of the fixed point."""

    @staticmethod
    def forward(
        ctx: Any, how: Implicit, point: tuple[Tensor, ...], state: tuple[Tensor, ...], *parts: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.how, ctx.point, ctx.state = how, point, state
        return tuple(part.clone() for part in parts)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Any, ...]:
        return None, None, None, *ctx.how.solve(ctx.point, ctx.state, gradient)


def _energy(x: Tensor) -> Tensor:
    return (torch.view_as_real(x) if x.is_complex() else x).square().sum()


def _last(states: Iterator[State], first: State) -> State:
    """The last one, or the first if there are none."""
    found = first
    for state in states:
        found = state
    return found


def _check_state(state: State) -> None:
    """Raise ValueError unless derivatives by every entry of a state exist."""
    for index, entry in enumerate(state):
        if not isinstance(entry, Tensor) or not (entry.is_floating_point() or entry.is_complex()):
            kind = entry.dtype if isinstance(entry, Tensor) else type(entry).__name__
            raise ValueError(
                "Implicit: a fixed point is made of real or complex tensors, but the phases carry "
                f"{kind} as entry {index} of their state; use Unroll() or Recompute()"
            )


def _run(steps: Sequence[Step], state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None) -> State:
    for step in steps:
        state = following(step, state, y, operator, condition)
    return state
