"""Operators of your own: from functions, matrices and physics of deepinv."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.operators.dense import Dense
from unrolled.operators.foreign_functions import Calling, find_calling, linked, pulled_back
from unrolled.operators.intake import as_image_shape, numbers_of
from unrolled.operators.linear_map import blank, check_images
from unrolled.operators.operator import LinearOperator
from unrolled.system.arraylike import COMPLEX, as_numbers
from unrolled.system.devices import full_precision
from unrolled.system.scalars import plain_number


class FromFunctions(LinearOperator):
    """An operator made of two functions, or of one that can be differentiated; see `as_operator`, which checks them.

    Modules among the functions, and those whose methods they are, move with the operator.

    Attributes
    ----------
    calling, calling_adjoint : Calling
        how the functions are called.
    opaque, opaque_adjoint : bool
        whether autograd cannot look inside of the function, so that the other one is taken for its derivative.

    Parameters
    ----------
    apply : callable
        x ↦ A x, on batches of images.
    apply_adjoint : callable, optional
        y ↦ Aᴴ y; the vector-Jacobian product of apply, if not given.
    shape : (channel, height, width)
        of the images.
    complex_images : bool
        images are complex tensors; otherwise real, and of a complex adjoint the real part is taken.
    """

    apply_forward: Callable[[Tensor], Tensor]
    apply_adjoint: Callable[[Tensor], Tensor] | None

    def __init__(
        self,
        apply: Callable[[Tensor], Tensor],
        apply_adjoint: Callable[[Tensor], Tensor] | None,
        shape: tuple[int, int, int],
        complex_images: bool = False,
    ):
        super().__init__()
        self.image_shape = (shape[0], shape[1], shape[2])
        self.complex_images = complex_images
        owners = [getattr(function, "__self__", function) for function in (apply, apply_adjoint)]
        self.modules_of_functions = nn.ModuleList(dict.fromkeys(one for one in owners if isinstance(one, nn.Module)))
        # Beside the modules of this one, which would otherwise list a function that is a module twice.
        self.__dict__.update(apply_forward=apply, apply_adjoint=apply_adjoint)
        self.calling, self.calling_adjoint = Calling(), Calling()
        self.opaque = self.opaque_adjoint = False

    @cached_property
    def _range(self) -> tuple[tuple[int, ...], bool]:
        """The shape of the measurements of an image, without the batch, and whether they are complex."""
        assert self.image_shape is not None
        with torch.no_grad():
            y = self(blank(self, self.image_shape))
        return tuple(y.shape[1:]), y.is_complex()

    @property
    def complex_measurements(self) -> bool:
        return self._range[1]

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        check_images(self, image_shape)
        return self._range[0]

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            x = _at_least_32_bits(x)
            return linked(self._forward, self._adjoint, x) if self.opaque else self._forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        if tuple(y.shape[1:]) != self._range[0]:
            sizes = ", ".join(map(str, ("batch", *self._range[0])))
            raise ValueError(f"FromFunctions: measurements must be ({sizes}), got {tuple(y.shape)}")
        with full_precision(y):
            y = _at_least_32_bits(y)
            return linked(self._adjoint, self._forward, y) if self.opaque_adjoint else self._adjoint(y)

    def _forward(self, x: Tensor) -> Any:
        return self.calling(self.apply_forward, x)

    def _adjoint(self, y: Tensor) -> Any:
        x = self.calling_adjoint(self.apply_adjoint, y) if self.apply_adjoint is not None else self._pull_back(y)
        return x.real if isinstance(x, Tensor) and x.is_complex() and not self.complex_images else x

    def description(self) -> dict[str, Any]:
        # The functions as they are: no recipe can make them, only the program that has them.
        return {**super().description(), **{name: self.arguments[name] for name in ("apply", "apply_adjoint")}}

    def _pull_back(self, y: Tensor) -> Tensor:
        # Of a linear function the vector-Jacobian product is the same at every x.
        kind = torch.promote_types(y.dtype, torch.complex64) if self.complex_images else y.real.dtype
        shape = (y.shape[0], *self.image_shape) if self.image_shape else y.shape
        origin = torch.zeros(shape, dtype=kind, device=y.device)
        if self.opaque_adjoint:
            return pulled_back(self._forward, origin, y)
        found = torch.func.vjp(self._forward, origin)
        (x,) = found[1](y if found[0].is_complex() else y.real)
        return x


def as_operator(thing: Any, shape: tuple[int, int, int] | None = None, complex_images: bool = False) -> LinearOperator:
    """Make a `LinearOperator` of what measures images; an operator is returned as it is.

    Functions are checked once, here, on two random images.

    Parameters
    ----------
    thing : LinearOperator, (forward, adjoint), forward, matrix (rows, columns), or physics of deepinv
        two functions, x ↦ A x and y ↦ Aᴴ y, on batches of images; or the first alone, made of operations that PyTorch
        can differentiate, which gives the adjoint; or the matrix of a `Dense`; or a `LinearPhysics` of deepinv,
        whose noise is left out. Functions that are modules, or methods of one, move with the operator.
    shape : (channel, height, width)
        of the images; needed unless thing is an operator or a physics that knows the size of its images.
    complex_images : bool
        images are complex tensors; otherwise real, and of a complex adjoint the real part is taken. A complex matrix
        always measures complex images.

    Raises
    ------
    ValueError
        if the functions are not adjoint to each other (both inner products are shown), are not linear or give NaN, or
        thing is none of these.

    Examples
    --------
    >>> mirror = as_operator((lambda x: x.flip(-1), lambda y: y.flip(-1)), shape=(1, 8, 8))
    >>> mirror.norm().item()
    1.0
    >>> columns = as_operator(lambda x: x.sum(-2), shape=(1, 8, 8))
    >>> columns.adjoint(torch.ones(1, 1, 8)).shape
    torch.Size([1, 1, 8, 8])
    """
    if isinstance(thing, LinearOperator):
        return thing
    complex_images = plain_number("as_operator: complex_images", complex_images, bool)
    physics = callable(getattr(thing, "A", None)) and callable(getattr(thing, "A_adjoint", None))
    if physics and shape is None:
        shape = getattr(thing, "img_size", None)
    if not physics and not callable(thing) and not _is_pair(thing):
        return _matrix(thing, shape, complex_images)
    shape = as_image_shape("as_operator: shape", shape)
    apply, apply_adjoint = (thing.A, thing.A_adjoint) if physics else thing if _is_pair(thing) else (thing, None)
    operator = FromFunctions(apply, apply_adjoint, shape, complex_images)
    _check(operator, (2, *shape))
    return operator


def _matrix(thing: Any, shape: Any, complex_images: bool) -> Dense:
    needed = (
        "as_operator: needs a LinearOperator, a pair of functions (forward, adjoint), one function, a matrix or a "
        f"LinearPhysics of deepinv, got {type(thing).__name__}"
    )
    try:
        matrix = as_numbers("as_operator: matrix", thing)
    except ValueError as error:
        raise ValueError(f"{needed}; {error}") from error
    if matrix.ndim == 0:
        raise ValueError(needed)
    _, height, width = as_image_shape("as_operator: shape", shape)
    if matrix.ndim != 2:
        raise ValueError(f"as_operator: a matrix must be (rows, columns), got shape {tuple(matrix.shape)}")
    return Dense(matrix.to(COMPLEX[matrix.real.dtype]) if complex_images else matrix, height, width)


def _is_pair(thing: Any) -> bool:
    return isinstance(thing, (tuple, list)) and len(thing) == 2 and all(callable(part) for part in thing)


def _at_least_32_bits(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def _check(operator: FromFunctions, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    kind, device = numbers_of(operator)

    def draw(shape: tuple[int, ...], is_complex: bool) -> Tensor:
        drawn = torch.randn(shape, dtype=torch.complex128 if is_complex else torch.float64, generator=generator)
        return drawn.to(device, kind.to_complex() if is_complex else kind)

    x = draw(shape, operator.complex_images)
    operator.calling = find_calling(operator.apply_forward, x)
    ax = operator(x)
    if not isinstance(ax, Tensor) or ax.ndim < 2 or ax.shape[0] != shape[0]:
        found = f"shape {tuple(ax.shape)}" if isinstance(ax, Tensor) else type(ax).__name__
        raise ValueError(
            f"as_operator: measurements of {shape[0]} images must be a tensor ({shape[0]}, …), got {found}"
        )
    if operator.complex_images and not ax.is_complex():
        raise ValueError("as_operator: real measurements are not linear in complex images")
    _check_finite("forward", ax)
    alone = operator(x[:1])
    if alone.shape != ax[:1].shape or not torch.allclose(alone, ax[:1], rtol=1e-3, atol=1e-4 * float(ax.abs().max())):
        raise ValueError(
            "as_operator: the forward mixes the images of a batch: one measures otherwise alone than with another"
        )
    if operator.apply_adjoint is None:
        _check_linear(operator, x, ax, draw(shape, operator.complex_images))
    y = draw(tuple(ax.shape), ax.is_complex())
    if operator.apply_adjoint is not None:
        operator.calling_adjoint = find_calling(operator.apply_adjoint, y)
        operator.opaque, operator.opaque_adjoint = (
            not _has_derivative(operator, x),
            not _has_derivative(operator.adjoint, y),
        )
    back = operator.adjoint(y) if operator.apply_adjoint is not None else _first_adjoint(operator, y)
    if not isinstance(back, Tensor) or back.shape != x.shape or back.dtype != x.dtype:
        found = type(back).__name__
        if isinstance(back, Tensor):
            found = f"shape {tuple(back.shape)}" if back.shape != x.shape else str(back.dtype)
        raise ValueError(f"as_operator: the adjoint gives {found} for images of {tuple(x.shape)}, {x.dtype}")
    _check_finite("adjoint", back)
    left, right = _inner(ax, y), _inner(x, back)
    if not operator.complex_images:  # linear over the real numbers
        left, right = left.real, right.real
    # Random vectors have inner products of about ‖Ax‖‖y‖/√m.
    scale = float(ax.norm() * y.norm()) / ax.numel() ** 0.5
    if not abs(left - right) <= 1e-3 * scale:
        raise ValueError(
            "as_operator: the functions are not adjoint: for random x and y "
            f"⟨Ax, y⟩ = {left:.6g} but ⟨x, Aᴴy⟩ = {right:.6g}"
        )


@torch.enable_grad()
def _has_derivative(function: Callable[[Tensor], Any], at: Tensor) -> bool:
    try:
        value = function(at.clone().requires_grad_())
    except RuntimeError:  # of functions that ask for the values of tensors
        return False
    return isinstance(value, Tensor) and value.requires_grad


def _first_adjoint(operator: FromFunctions, y: Tensor) -> Tensor:
    """The adjoint of a forward alone, by whatever differentiates it."""
    if not operator.calling.numpy:
        try:
            return operator.adjoint(y)
        except Exception:  # transforms of functions ask for more than ordinary autograd does
            operator.opaque_adjoint = True
    try:
        return operator.adjoint(y)
    except Exception as error:
        what = "calculates with NumPy and " if operator.calling.numpy else ""
        raise ValueError(
            f"as_operator: the forward {what}cannot be differentiated, give a pair (forward, adjoint): {error}"
        ) from error


def _check_finite(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"as_operator: the {name} gives NaN or inf for random numbers")


def _check_linear(operator: FromFunctions, x: Tensor, ax: Tensor, z: Tensor) -> None:
    factor = 3j if operator.complex_images else 3
    whole, parts = operator(2 * x - factor * z), 2 * ax - factor * operator(z)
    difference = float((whole - parts).norm())
    if not difference <= 1e-4 * float(parts.norm()):
        raise ValueError(
            "as_operator: the forward is not linear: for random x and z "
            f"‖A(2x − {factor}z) − (2Ax − {factor}Az)‖ = {difference:.6g}, where ‖2Ax − {factor}Az‖ = "
            f"{float(parts.norm()):.6g}"
        )


def _inner(a: Tensor, b: Tensor) -> complex:
    """⟨a, b⟩ = Σ a b̄."""
    return complex((a.to(torch.complex128) * b.to(torch.complex128).conj()).sum())
