"""Linear functions that a user brings: called as they want to be, and each the derivative of the other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.system.arraylike import as_tensor, is_floating, kind_like

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Calling:
    """How a function is called.

    Parameters
    ----------
    kind : dtype, optional
        the real type that it calculates in, if that of what it is given does not do.
    numpy : bool
        it is given arrays of NumPy.
    dense : bool
        it is given numbers that lie in memory one after the other: SciPy errs on such that stand for many.
    """

    kind: torch.dtype | None = None
    numpy: bool = False
    dense: bool = False

    def __call__(self, function: Function, x: Tensor) -> Any:
        """function(x), in the precision of x."""
        y = function(self.given(x))
        if isinstance(y, (np.ndarray, np.generic)):
            y = as_tensor("a function's value", y).to(x.device)
        if not isinstance(y, Tensor) or (is_floating(y) and y.real.dtype is x.real.dtype):
            return y
        return y.to(kind_like(y, x.real.dtype))

    def given(self, x: Tensor) -> Any:
        """x as the function is given it."""
        x = x if self.kind is None else x.to(kind_like(x, self.kind))
        x = x.contiguous().resolve_conj() if self.dense else x
        return x.detach().cpu().resolve_conj().numpy() if self.numpy else x


WAYS = (Calling(), Calling(torch.float64), Calling(numpy=True), Calling(torch.float64, numpy=True))


def find_calling(function: Function, x: Tensor) -> Calling:
    """The first way in which a function can be called with x.

    Raises
    ------
    Exception
        that of the function when it is called with x itself, if it cannot be called at all.
    """
    first = None
    for calling in WAYS:
        try:
            value = function(calling.given(x))
        except Exception as error:  # strangers' functions raise what they like
            first = error if first is None else first
        else:
            return replace(calling, dense=isinstance(value, (np.ndarray, np.generic)))
    assert first is not None
    raise first


def linked(function: Function, partner: Function, x: Tensor) -> Tensor:
    """function(x), whose derivative is the partner, as that of the partner is the function.

    For linear functions that are adjoint to each other, of which autograd cannot look inside.
    """
    if torch.compiler.is_exporting():  # programs have no derivatives
        return function(x)
    kind = _Linked if torch.compiler.is_compiling() else _LinkedInForwardMode  # compilers take no rule of forward mode
    result: Tensor = kind.apply(x, function, partner)
    return result


class _Linked(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, function: Function, partner: Function) -> Tensor:
        y: Tensor = function(x)
        return y.clone() if y is x else y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.is_complex, *ctx.functions = inputs[0].is_complex(), *inputs[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        function, partner = ctx.functions
        back = linked(partner, function, gradient)
        return back if ctx.is_complex or not back.is_complex() else back.real, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, *functions: Function) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        whole = x.movedim(in_dims[0], 0)  # all are images of one batch
        return linked(functions[0], functions[1], whole.flatten(0, 1)).unflatten(0, whole.shape[:2]), 0


class _LinkedInForwardMode(_Linked):
    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: None) -> Tensor:
        function, partner = ctx.functions
        return linked(function, partner, x)


def pulled_back(function: Function, x: Tensor, y: Tensor) -> Tensor:
    """The vector-Jacobian product of a function at x with y, by ordinary autograd, without a derivative."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x)
        (pulled,) = torch.autograd.grad(value, x, y.detach() if value.is_complex() else y.detach().real)
    return pulled
