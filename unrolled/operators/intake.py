"""What operators are given: images and measurements as users have them, taken in the operator's own precision."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.system.arraylike import as_numbers, as_tensor, is_floating, kind_like
from unrolled.system.scalars import whole_numbers

IMAGES, MEASUREMENTS = "images", "measurements"

TAKEN = {
    "forward": IMAGES,
    "gram": IMAGES,
    "adjoint": MEASUREMENTS,
    "estimate": MEASUREMENTS,
    "sampled": MEASUREMENTS,
    "split": MEASUREMENTS,
    "image_size": MEASUREMENTS,
    "crop": MEASUREMENTS,
}
"""Methods of operators whose first argument is taken by `taken`, and what it is."""


def numbers_of(operator: nn.Module) -> tuple[torch.dtype, torch.device]:
    """The type (that of their real parts, if complex) and the device of the numbers in an operator; of new tensors if
    it has none."""
    like = number_in(operator)
    like = torch.empty(0) if like is None else like
    return like.real.dtype, like.device


def number_in(operator: nn.Module) -> Tensor | None:
    """The first floating-point tensor of a module, its parameters before its buffers; None if it has none."""
    found = _first(operator, "_parameters")
    return _first(operator, "_buffers") if found is None else found


def _first(module: nn.Module, kind: str) -> Tensor | None:
    # By hand, because it is asked for in every call: the iterators of modules take ten times as long.
    for tensor in getattr(module, kind).values():
        if tensor is not None and is_floating(tensor):
            return tensor
    for child in module._modules.values():
        if child is not None and (found := _first(child, kind)) is not None:
            return found
    return None


def taken(operator: Any, what: str, x: Any) -> Tensor:
    """Images or measurements as a tensor that the operator calculates with.

    What fits is returned as it is, and nothing is asked of its values. All else is brought into the precision of the
    operator's numbers; an operator without numbers leaves floating-point numbers in their own, and takes others in the
    default type.

    Parameters
    ----------
    operator : LinearOperator
    what : str
        `IMAGES` or `MEASUREMENTS`.
    x : Tensor, array, or nested lists of numbers

    Raises
    ------
    ValueError
        for what is no array of numbers, or empty; for numbers that the precision cannot hold; for complex numbers where
        the operator has real ones; for images of another size than the operator's, if it has one.
    """
    name = f"{type(operator).__name__}: {what}"
    x = in_precision_of(number_in(operator), name, x)
    if operator.checks_itself:
        return x
    images = what is IMAGES
    shape = operator.image_shape if images else None
    if x.is_complex() and not (operator.complex_images if images else operator.complex_measurements):
        raise ValueError(f"{name} must be real{_sizes(shape, ', ')}, got {x.dtype} {tuple(x.shape)}")
    if shape is not None and (x.ndim != 4 or x.shape[2:] != shape[1:] or shape[0] not in (0, x.shape[1])):
        raise ValueError(f"{name} must be {_sizes(shape)}, got {x.dtype} {tuple(x.shape)}")
    if 0 in x.shape or x.ndim == 0:
        raise ValueError(f"{name} must hold numbers, of a batch at least one, got shape {tuple(x.shape)}")
    return x


def in_precision_of(own: Tensor | None, name: str, x: Any) -> Tensor:
    """Numbers in the precision of a tensor of floating point; what was no tensor also on its device.

    Parameters
    ----------
    own : Tensor, optional
        without one, floating-point numbers stay as they are, and others come in the default type.
    name : str
        of x, for messages.
    x : Tensor, array, or nested lists of numbers
    """
    if not isinstance(x, Tensor):
        x = as_tensor(name, x)
        kind = own.real.dtype if own is not None else x.real.dtype if is_floating(x) else None
        return as_numbers(name, x, kind).to(own.device if own is not None else None)
    if _unusual(x):
        x = as_tensor(name, x)
        return x if own is None and is_floating(x) else as_numbers(name, x, None if own is None else own.real.dtype)
    if own is not None and x.dtype is not kind_like(x, own.real.dtype):
        return _converted(name, x, own.real.dtype)
    return x


def _unusual(x: Tensor) -> bool:
    """Whether it holds no ordinary numbers of floating point; compilers take only dense tensors."""
    return (
        not is_floating(x) or x.dtype.itemsize == 1 or not (torch.compiler.is_compiling() or x.layout is torch.strided)
    )


def _sizes(shape: tuple[int, int, int] | None, before: str = "") -> str:
    return "" if shape is None else f"{before}(batch, {shape[0] or 'channel'}, {shape[1]}, {shape[2]})"


def _converted(name: str, x: Tensor, kind: torch.dtype) -> Tensor:
    if x.dtype.itemsize <= kind_like(x, kind).itemsize or torch.compiler.is_compiling():
        return x.to(kind_like(x, kind))
    try:
        return as_numbers(name, x, kind)
    except RuntimeError:  # within transforms and on the device `meta` there are no values to look at
        return x.to(kind_like(x, kind))


def with_intake(method: Callable[..., Any], what: str) -> Callable[..., Any]:
    """A method of an operator whose first argument is taken by `taken`."""
    names = list(inspect.signature(method).parameters)[1:2]

    @functools.wraps(method)
    def take(self: Any, *given: Any, **named: Any) -> Any:
        if given:
            return method(self, taken(self, what, given[0]), *given[1:], **named)
        return method(
            self, **{key: taken(self, what, value) if key in names else value for key, value in named.items()}
        )

    return take


def as_image_shape(what: str, shape: Any) -> tuple[int, int, int]:
    """(channel, height, width), as Python's own numbers.

    Raises
    ------
    ValueError
        unless they are three whole numbers >= 1.
    """
    sides = whole_numbers(shape, 3)
    if sides is None:
        raise ValueError(f"{what} must be (channel, height, width) of the images, whole numbers >= 1, got {shape!r}")
    return sides[0], sides[1], sides[2]
