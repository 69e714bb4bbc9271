"""(AᴴA + ridge) x = b by conjugate gradients, with derivatives that are solutions of such equations themselves."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._higher_order_ops import while_loop
from torch.func import functional_call, jvp, vjp

from unrolled.operators.krylov import State, advance, begin, rounding


class Accuracy(NamedTuple):
    """When conjugate gradients end: ‖b − (AᴴA + ridge)x‖ <= tolerance·‖b‖ for every image, or after so many steps."""

    tolerance: float = 1e-6
    iterations: int = 1000


def solve_normal_equations(
    operator: nn.Module, b: Tensor, ridge: Tensor, start: Tensor | None, accuracy: Accuracy
) -> Tensor:
    """x = (AᴴA + ridge)⁻¹ b by conjugate gradients, each image of the batch for itself.

    Derivatives are implicit: from (AᴴA + ridge)x = b follows dx = (AᴴA + ridge)⁻¹(db − d(AᴴA + ridge)x), one more
    solution, whatever number of steps led to x. There are derivatives by b, ridge, and the operator's parameters and
    buffers.

    Parameters
    ----------
    operator : LinearOperator
    b : Tensor, (batch, …)
    ridge : Tensor > 0, (1, …) or (batch, …) with sides of 1, real
    start : Tensor, like b, optional
        the first iterate; by default 0.
    accuracy : Accuracy

    Returns
    -------
    Tensor, like b
    """
    tensors = {**dict(operator.named_parameters()), **dict(operator.named_buffers())}
    start = torch.zeros_like(b) if start is None else start.detach()
    return _solution(b, ridge, start, operator, accuracy, tuple(tensors), *tensors.values())


def _solution(*arguments: Any) -> Tensor:
    # Compilers take no function with a rule for forward mode, which they would not use.
    kind = _Solution if torch.compiler.is_compiling() else _SolutionInForwardMode
    return kind.apply(*arguments)


class _Solution(torch.autograd.Function):
    """The tensors of the operator are arguments, so that they have derivatives and may be those of a transform."""

    @staticmethod
    def forward(
        b: Tensor,
        ridge: Tensor,
        start: Tensor,
        operator: nn.Module,
        accuracy: Accuracy,
        names: tuple[str, ...],
        *tensors: Tensor,
    ) -> Tensor:
        def solve(matrix: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
            return _conjugate_gradients(lambda x: matrix(x, ridge), b, start, accuracy)

        return _with(operator, names, tensors, solve)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ridge, _, ctx.operator, ctx.accuracy, ctx.names, *tensors = inputs
        ctx.save_for_backward(output, ridge, *tensors)
        ctx.save_for_forward(output, ridge, *tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, ridge, *tensors = ctx.saved_tensors
        # The matrix is its own adjoint, and so is its inverse.
        solution = _solution(
            gradient, ridge, torch.zeros_like(gradient), ctx.operator, ctx.accuracy, ctx.names, *tensors
        )
        needed = [number for number, need in enumerate(ctx.needs_input_grad[6:]) if need]
        gradients: list[Tensor | None] = [None] * len(tensors)
        of_ridge = None
        if ctx.needs_input_grad[1] or needed:

            def applied(ridge: Tensor, *some: Tensor) -> Tensor:
                exchanged = list(tensors)
                for number, tensor in zip(needed, some, strict=True):
                    exchanged[number] = tensor
                return _with(ctx.operator, ctx.names, exchanged, lambda matrix: matrix(x, ridge))

            of_ridge, *found = vjp(applied, ridge, *(tensors[number] for number in needed))[1](-solution)
            for number, tensor in zip(needed, found, strict=True):
                gradients[number] = tensor
        return solution, of_ridge, None, None, None, None, *gradients

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        size = info.batch_size
        if any(dim is not None for dim in in_dims[6:]):  # an operator for each: one after another
            each = [
                _solution(
                    *(one if dim is None else one.select(dim, i) for one, dim in zip(inputs, in_dims, strict=True))
                )
                for i in range(size)
            ]
            return torch.stack(each), 0

        # Otherwise all are images of one batch.
        def first(tensor: Tensor, dim: int | None) -> Tensor:
            return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

        b, ridge, start = (first(tensor, dim) for tensor, dim in zip(inputs[:3], in_dims[:3], strict=True))
        ridge = ridge.expand(*b.shape[:2], *ridge.shape[2:])
        merged = [tensor.reshape(-1, *tensor.shape[2:]) for tensor in (b, ridge, start)]
        return _solution(*merged, *inputs[3:]).unflatten(0, (size, -1)), 0


class _SolutionInForwardMode(_Solution):
    @staticmethod
    def jvp(ctx: Any, b: Tensor | None, ridge: Tensor | None, *others: Tensor | None) -> Tensor:
        x, own_ridge, *tensors = ctx.saved_tensors
        right = torch.zeros_like(x) if b is None else b
        moved = [own_ridge, *tensors]
        tangents = [ridge, *others[4:]]
        some = [number for number, tangent in enumerate(tangents) if tangent is not None]
        if some:

            def applied(*given: Tensor) -> Tensor:
                exchanged = list(moved)
                for number, tensor in zip(some, given, strict=True):
                    exchanged[number] = tensor
                return _with(ctx.operator, ctx.names, exchanged[1:], lambda matrix: matrix(x, exchanged[0]))

            primals = tuple(moved[number] for number in some)
            right = right - jvp(applied, primals, tuple(tangents[number] for number in some))[1]
        return _solution(right, own_ridge, torch.zeros_like(x), ctx.operator, ctx.accuracy, ctx.names, *tensors)


class _Lent(nn.Module):
    """An operator whose tensors are others for the time of a call."""

    def __init__(self, operator: nn.Module):
        super().__init__()
        self.operator = operator

    def forward(self, function: Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor]) -> Tensor:
        return function(lambda x, ridge: self.operator.gram(x) + ridge * x)  # type: ignore[operator]


def _with(
    operator: nn.Module,
    names: Sequence[str],
    tensors: Sequence[Tensor],
    function: Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor],
) -> Tensor:
    """function((x, ridge) ↦ (AᴴA + ridge)x), with these tensors in the operator."""
    exchanged = {f"operator.{name}": tensor for name, tensor in zip(names, tensors, strict=True)}
    return functional_call(_Lent(operator), exchanged, (function,))


def _conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, accuracy: Accuracy
) -> Tensor:
    axes = tuple(range(1, right.ndim))
    enough = accuracy.tolerance**2 * (right.conj() * right).real.sum(axes, keepdim=True)

    def unsolved(steps: Any, x: Tensor, residual: Tensor, direction: Tensor, energy: Tensor, largest: Tensor) -> Any:
        left = energy > torch.maximum(enough, rounding(x, largest, axes))
        return (steps < accuracy.iterations) & left.any()

    def step(steps: Any, *state: Tensor) -> tuple[Any, ...]:
        return steps + 1, *advance(matrix, State(*state), axes)

    state: tuple[Any, ...] = (0, *begin(matrix, right, start, axes))
    if right.is_meta:  # there are no values to look at
        return step(*state)[1]
    if torch.compiler.is_compiling():
        # No two of what a loop carries may be one tensor.
        carried = (torch.zeros((), dtype=torch.int64, device=right.device), *(part.clone() for part in state[1:]))
        return while_loop(unsolved, step, carried)[1]
    while bool(unsolved(*state)):
        state = step(*state)
    return state[1]
