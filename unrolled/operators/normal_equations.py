"""(AᴴA + ridge) x = b by conjugate gradients, with derivatives that are solutions of such equations themselves."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._higher_order_ops import while_loop
from torch.func import functional_call, vjp

from unrolled.operators.krylov import State, advance, begin, power_of_two, rounding

Matrix = Callable[[Tensor, Tensor], Tensor]
"""(x, ridge) ↦ (AᴴA + ridge) x."""


MANY = 1000
"""Steps of conjugate gradients where nobody says how many."""


class Accuracy(NamedTuple):
    """When conjugate gradients end: ‖b − (AᴴA + ridge)x‖ <= tolerance·‖b‖ for every image, or after so many steps.

    complain : whether a warning tells if these steps are not enough.
    """

    tolerance: float = 1e-6
    iterations: int = MANY
    complain: bool = False


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
    start = None if start is None else start.detach()
    if torch.compiler.is_compiling():
        return _compiled(operator, b, ridge, start, accuracy)
    tensors = {**dict(operator.named_parameters()), **dict(operator.named_buffers())}
    return _Solution.apply(b, ridge, start, operator, accuracy, tuple(tensors), *tensors.values())


class _Solution(torch.autograd.Function):
    """The tensors of the operator are arguments, so that they have derivatives and may be those of a transform."""

    @staticmethod
    def forward(
        b: Tensor,
        ridge: Tensor,
        start: Tensor | None,
        operator: nn.Module,
        accuracy: Accuracy,
        names: tuple[str, ...],
        *tensors: Tensor,
    ) -> Tensor:
        def solve(matrix: Matrix) -> Tensor:
            return _conjugate_gradients(lambda x: matrix(x, ridge), b, start, accuracy)

        return _with_tensors(operator, names, tensors, solve)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ridge, _, *ctx.others = inputs[:6]
        ctx.save_for_backward(output, ridge, *inputs[6:])
        ctx.save_for_forward(output, ridge, *inputs[6:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *own = ctx.saved_tensors
        # The matrix is its own adjoint, and so is its inverse.
        solution = _Solution.apply(gradient, own[0], None, *ctx.others, *own[1:])
        needed = [number for number, need in enumerate((ctx.needs_input_grad[1], *ctx.needs_input_grad[6:])) if need]
        gradients: list[Tensor | None] = [None] * len(own)
        if needed:
            pull = vjp(_applied(ctx, x, own, needed), *(own[number] for number in needed))[1]
            for number, found in zip(needed, pull(-solution), strict=True):
                gradients[number] = found
        return solution, gradients[0], None, None, None, None, *gradients[1:]

    @staticmethod
    def jvp(ctx: Any, b: Tensor | None, ridge: Tensor | None, *others: Tensor | None) -> Tensor:
        x, *own = ctx.saved_tensors
        right = torch.zeros_like(x) if b is None else b
        moves = {number: tangent for number, tangent in enumerate((ridge, *others[4:])) if tangent is not None}
        if moves:
            # Forward mode does not nest; the derivative of pulling back, which is linear, is pushing forward.
            pull = vjp(_applied(ctx, x, own, list(moves)), *(own[number] for number in moves))[1]
            push = vjp(pull, torch.zeros_like(x))[1]
            right = right - push(tuple(moves.values()))[0]
        return _Solution.apply(right, own[0], None, *ctx.others, *own[1:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        size = info.batch_size
        if any(dim is not None for dim in in_dims[6:]):  # an operator for each: one after another

            def alone(i: int) -> list[Any]:
                pairs = zip(inputs, in_dims, strict=True)
                return [one.select(dim, i) if isinstance(dim, int) else one for one, dim in pairs]

            return torch.stack([_Solution.apply(*alone(i)) for i in range(size)]), 0

        # Otherwise all are images of one batch.
        def first(tensor: Tensor, dim: int | None) -> Tensor:
            return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

        b, ridge = (first(tensor, dim) for tensor, dim in zip(inputs[:2], in_dims[:2], strict=True))
        ridge = ridge.expand(*b.shape[:2], *ridge.shape[2:])
        start = None if inputs[2] is None else first(inputs[2], in_dims[2])
        merged = [None if tensor is None else tensor.reshape(-1, *tensor.shape[2:]) for tensor in (b, ridge, start)]
        return _Solution.apply(*merged, *inputs[3:]).unflatten(0, (size, -1)), 0


def _applied(ctx: Any, x: Tensor, own: list[Tensor], which: list[int]) -> Callable[..., Tensor]:
    """(AᴴA + ridge)x as a function of some of the ridge (number 0) and the operator's tensors."""
    operator, _, names = ctx.others

    def apply(*some: Tensor) -> Tensor:
        ridge, *tensors = [some[which.index(number)] if number in which else one for number, one in enumerate(own)]
        return _with_tensors(operator, names, tensors, lambda matrix: matrix(x, ridge))

    return apply


class _Lent(nn.Module):
    """An operator, for a function that is called with its matrix."""

    def __init__(self, operator: nn.Module):
        super().__init__()
        self.operator = operator

    def forward(self, function: Callable[[Matrix], Tensor]) -> Tensor:
        return function(lambda x, ridge: self.operator.gram(x) + ridge * x)  # type: ignore[operator]


def _with_tensors(
    operator: nn.Module, names: Sequence[str], tensors: Sequence[Tensor], function: Callable[[Matrix], Tensor]
) -> Tensor:
    """function(matrix), with these tensors in the operator."""
    exchanged = {f"operator.{name}": tensor for name, tensor in zip(names, tensors, strict=True)}
    return functional_call(_Lent(operator), exchanged, (function,))


def _compiled(operator: nn.Module, b: Tensor, ridge: Tensor, start: Tensor | None, accuracy: Accuracy) -> Tensor:
    # Compilers cannot exchange tensors of a module, nor trace rules of forward mode. They need derivatives only of the
    # first order: those of x + (AᴴA + ridge)⁻¹(b − (AᴴA + ridge)x), where x itself is held fixed.
    with torch.no_grad():
        x = _conjugate_gradients(lambda v: operator.gram(v) + ridge * v, b, start, accuracy)  # type: ignore[operator]
    if torch.compiler.is_exporting():  # a program has no derivatives
        return x
    residual = b - operator.gram(x) - ridge * x  # type: ignore[operator]
    return x + _Correction.apply(residual, ridge.detach(), operator, accuracy)


class _Correction(torch.autograd.Function):
    """(AᴴA + ridge)⁻¹ of a residual that is 0 up to the accuracy, and counts only for derivatives."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, ridge: Tensor, operator: nn.Module, accuracy: Accuracy) -> Tensor:
        ctx.save_for_backward(ridge)
        ctx.operator, ctx.accuracy = operator, accuracy
        return torch.zeros_like(residual)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (ridge,) = ctx.saved_tensors
        solution = _conjugate_gradients(lambda x: ctx.operator.gram(x) + ridge * x, gradient, None, ctx.accuracy)
        return solution, None, None, None


def _conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], right: Tensor, start: Tensor | None, accuracy: Accuracy
) -> Tensor:
    axes = tuple(range(1, right.ndim))
    unit = power_of_two(right, axes)
    right, start = right / unit, None if start is None else start / unit
    enough = accuracy.tolerance**2 * (right.conj() * right).real.sum(axes, keepdim=True)

    def inaccurate(x: Tensor, energy: Tensor, largest: Tensor) -> Tensor:
        return (energy > torch.maximum(enough, rounding(x, largest, axes))).any()

    def unsolved(steps: Any, x: Tensor, residual: Tensor, direction: Tensor, energy: Tensor, largest: Tensor) -> Any:
        return (steps < accuracy.iterations) & inaccurate(x, energy, largest)

    def step(steps: Any, *state: Tensor) -> tuple[Any, ...]:
        return steps + 1, *advance(matrix, State(*state), axes)

    state: tuple[Any, ...] = (0, *begin(matrix, right, start, axes))
    if right.is_meta:  # there are no values to look at
        return step(*state)[1]
    if torch.compiler.is_compiling():
        # No two of what a loop carries may be one tensor.
        carried = (torch.zeros((), dtype=torch.int64, device=right.device), *(part.clone() for part in state[1:]))
        return unit * while_loop(unsolved, step, carried)[1]
    while bool(unsolved(*state)):
        state = step(*state)
    x: Tensor = state[1]
    if accuracy.complain and bool(inaccurate(x, *state[4:])):
        part = float((state[4].sqrt() / (enough.sqrt() / accuracy.tolerance)).max())
        warnings.warn(
            f"solve: after {accuracy.iterations} steps of conjugate gradients the residual is {part:.1e} of b, more "
            f"than the tolerance of {accuracy.tolerance:g}; a larger ridge, or more iterations, help",
            stacklevel=6,
        )
    return unit * x
