"""Arguments of solvers as users have them: single numbers, and arrays of any type. Taken, or refused by name."""

import math
from typing import Any

import torch
from torch import Tensor

from unrolled.operators import LinearOperator
from unrolled.system.arraylike import as_numbers, as_tensor, is_floating
from unrolled.system.scalars import as_number


def real_number(name: str, value: Any, least: float = 0.0, *, above: bool = False) -> float:
    """A finite number of Python, NumPy or PyTorch.

    Parameters
    ----------
    name : str
        of the argument, for messages.
    value : number
    least : float
        the smallest that is allowed.
    above : bool
        it must be larger than that.

    Raises
    ------
    ValueError
        for any other.
    """
    found = as_number(value)
    number = math.nan if found is None else float(found)
    if not math.isfinite(number) or number < least or (above and number == least):
        raise ValueError(f"{name} must be a finite number {'>' if above else '>='} {least:g}, got {value!r}")
    return number


def as_image(name: str, image: Any) -> Tensor:
    """An array as a tensor of floating point in its own precision, at least single; whole numbers in the default type.

    Raises
    ------
    ValueError
        for what is no array of numbers.
    """
    tensor = as_tensor(name, image)
    return tensor if tensor.dtype in _CALCULATED else as_numbers(name, tensor, _precision(tensor))


def as_batch(name: str, images: Any) -> Tensor:
    """As `as_image`, a batch of images.

    Raises
    ------
    ValueError
        unless it is (batch, channel, height, width), none of them 0.
    """
    batch = as_image(name, images)
    if batch.ndim != 4 or not batch.numel():
        raise ValueError(f"{name}: must be (batch, channel, height, width), none of them 0, got {tuple(batch.shape)}")
    return batch


def measured(y: Any, operator: LinearOperator) -> Tensor:
    """Measurements in the precision of the operator, complex if it measures complex numbers.

    An operator without numbers of its own leaves them in theirs.

    Raises
    ------
    ValueError
        for what is no array of numbers, is empty, on another device, not finite, or complex where the operator
        measures real numbers.
    """
    own = next((part for part in (*operator.parameters(), *operator.buffers()) if is_floating(part)), None)
    given = as_tensor("y", y)
    if own is not None and not isinstance(y, Tensor):
        given = given.to(own.device)
    if own is not None and given.device != own.device:
        raise ValueError(f"y: must be on {own.device} as the operator, got {given.device}")
    tensor = as_numbers("y", given, _precision(given) if own is None else own.real.dtype)
    if tensor.numel() == 0 or tensor.ndim == 0:
        raise ValueError(f"y: must be measurements of at least one image, got the shape {tuple(tensor.shape)}")
    if tensor.is_complex() and not operator.complex_measurements:
        raise ValueError(f"y: must be real, for {type(operator).__name__} measures real numbers; got {given.dtype}")
    check_finite("y:", tensor)
    return tensor.to(tensor.dtype.to_complex()) if operator.complex_measurements else tensor


def image_like(name: str, image: Any, like: Tensor) -> Tensor:
    """A batch of images in the type and on the device of another.

    Parameters
    ----------
    name : str
        of the argument as messages begin with it: "start:", or "fista: truth".

    Raises
    ------
    ValueError
        for another shape, complex numbers where the other is real, or numbers that are not finite.
    """
    bare = name.rstrip(":")
    tensor = as_tensor(bare, image)
    if tensor.shape != like.shape:
        raise ValueError(f"{name} must be {tuple(like.shape)} for these measurements, got {tuple(tensor.shape)}")
    if tensor.is_complex() and not like.is_complex():
        raise ValueError(f"{name} must be real as the operator's images, got {tensor.dtype}")
    tensor = as_numbers(bare, tensor, like.real.dtype).to(like.device, like.dtype)
    check_finite(name, tensor)
    return tensor


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and inf."""
    if not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} must be finite, but holds NaN or inf")


_CALCULATED = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def _precision(tensor: Tensor) -> torch.dtype:
    """That of the numbers themselves; of whole numbers and of half precision the one to calculate with."""
    if not is_floating(tensor):
        return torch.get_default_dtype()
    return torch.promote_types(tensor.real.dtype, torch.float32)
