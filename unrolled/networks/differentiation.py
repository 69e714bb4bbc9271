"""How to differentiate through the phases of a network: a value that is given to the network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unrolled.operators import LinearOperator

Step = Callable[[Tensor, Any, Tensor, LinearOperator], tuple[Tensor, Any]]


@dataclass(frozen=True)
class Differentiation(ABC):
    """How gradients are carried through the phases. The image is the same with each; memory and time differ."""

    @abstractmethod
    def run(self, steps: Sequence[Step], x: Tensor, y: Tensor, operator: LinearOperator) -> tuple[Tensor, Any]:
        """Apply phases one after the other.

        Parameters
        ----------
        steps : sequence of (x, memory, y, operator) ↦ (x, memory)
        x : Tensor, (batch, channel, height, width)
            the start.
        y : Tensor, the measurements
        operator : LinearOperator

        Returns
        -------
        x, memory
            after the last phase
        """


@dataclass(frozen=True)
class Unroll(Differentiation):
    """Ordinary backpropagation: what is computed inside of every phase is kept. Memory grows with the phases."""

    def run(self, steps: Sequence[Step], x: Tensor, y: Tensor, operator: LinearOperator) -> tuple[Tensor, Any]:
        return _run(steps, x, None, y, operator)


@dataclass(frozen=True)
class Recompute(Differentiation):
    """Keep the image only after every few phases, and compute what lies between once more in the backward pass.

    The gradient is the same, a step takes about a third longer, and memory hardly grows with the phases. A phase keeps
    dozens of feature maps but hands on only an image or two: `every=1` needs the least memory.

    Parameters
    ----------
    every : int >= 1
        phases between kept images.
    """

    every: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"Recompute: every must be a whole number >= 1, got {self.every!r}")

    def run(self, steps: Sequence[Step], x: Tensor, y: Tensor, operator: LinearOperator) -> tuple[Tensor, Any]:
        if not torch.is_grad_enabled():
            return _run(steps, x, None, y, operator)
        memory = None
        for first in range(0, len(steps), self.every):
            part = steps[first : first + self.every]
            # No phase draws random numbers, so their state need not be kept.
            x, memory = checkpoint(_run, part, x, memory, y, operator, use_reentrant=False, preserve_rng_state=False)
        return x, memory


@dataclass(frozen=True)
class Implicit(Differentiation):
    """Differentiate the fixed point that equal phases approach, by the implicit function theorem.

    For z* = f(z*, θ) the gradient of a loss is uᵀ∂f/∂θ with u = v + (∂f/∂z)ᵀu, v the loss's gradient by z (Bai, Kolter,
    Koltun, "Deep Equilibrium Models", 2019). u is found by iteration, which converges where the phases do. Memory is
    that of one phase. It is the gradient of the limit: the same as that of unrolling only if the phases have converged.

    For networks whose phases share their weights (`shared=True`).

    Parameters
    ----------
    iterations : int >= 1
        at most so many for u.
    tolerance : float > 0
        the iteration for u ends when it changes by less than this, relatively.
    """

    iterations: int = 50
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            raise ValueError(f"Implicit: iterations must be a whole number >= 1, got {self.iterations!r}")
        if not self.tolerance > 0:
            raise ValueError(f"Implicit: tolerance must be > 0, got {self.tolerance!r}")

    def run(self, steps: Sequence[Step], x: Tensor, y: Tensor, operator: LinearOperator) -> tuple[Tensor, Any]:
        if any(step != steps[0] for step in steps[1:]):
            raise ValueError("Implicit: needs phases that share their weights; make the network with shared=True")
        if not torch.is_grad_enabled():
            return _run(steps, x, None, y, operator)
        with torch.no_grad():
            x, memory = _run(steps[:-1], x, None, y, operator)
        has_memory = isinstance(memory, Tensor)
        point = tuple(part.detach().requires_grad_() for part in ((x, memory) if has_memory else (x,)))
        image, kept = steps[-1](point[0], point[1] if has_memory else None, y, operator)
        state = (image, kept) if has_memory else (image,)
        solved = _SolveAdjoint.apply(self, point, state, *state)
        return (solved[0], solved[1]) if has_memory else (solved[0], None)

    def solve(self, point: tuple[Tensor, ...], state: tuple[Tensor, ...], v: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """u = v + (∂f/∂z)ᵀu by iteration from u = v, at z = point with f(z) = state."""
        u = v
        for _ in range(self.iterations):
            pulled = torch.autograd.grad(state, point, u, retain_graph=True, allow_unused=True)
            following = tuple(a if b is None else a + b for a, b in zip(v, pulled, strict=True))
            change = sum(_energy(a - b) for a, b in zip(following, u, strict=True))
            size = sum(_energy(a) for a in following)
            u = following
            if change <= self.tolerance**2 * size:
                break
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


def _run(steps: Sequence[Step], x: Tensor, memory: Any, y: Tensor, operator: LinearOperator) -> tuple[Tensor, Any]:
    for step in steps:
        x, memory = step(x, memory, y, operator)
    return x, memory
