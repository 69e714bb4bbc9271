"""Numbers as users have them: tensors, NumPy arrays, lists, single numbers. Taken as tensors, or refused by name."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

ArrayLike = Tensor | np.ndarray | list[Any]
"""What public functions say that take numbers by `as_tensor`; it takes more."""

COMPLEX = {
    torch.bfloat16: torch.complex64,
    torch.float16: torch.complex32,
    torch.float32: torch.complex64,
    torch.float64: torch.complex128,
}
"""Of each real type the complex one; a table, which compilers can read."""

PAIR = ("real", "imag")

EXACT_KINDS = "biufc"
"""NumPy's letters for numbers: bool, whole with and without a sign, floating point, complex."""


def as_tensor(what: str, value: Any) -> Tensor:
    """A tensor of whatever holds numbers, in a type that PyTorch calculates with.

    Memory is shared where that is possible.

    Parameters
    ----------
    what : str
        the name of the argument, for messages.
    value : Tensor, array, nested lists of numbers, or a number
        whatever NumPy takes for an array: also images of Pillow with one number a pixel, tables of pandas.

    Returns
    -------
    Tensor
        dense; floating point of Python in the default type, all else in its own, but 8 bits of floating point as 32.

    Raises
    ------
    ValueError
        for what is no array of numbers: text, objects, ragged lists, arrays with masked entries; and for floating point
        of Python that the default type can only hold as inf or 0.
    """
    if isinstance(value, Tensor):
        return _dense(what, value)
    if isinstance(value, (list, tuple)) and any(isinstance(part, Tensor) for part in value):
        return _stacked(what, value)
    if value is None or isinstance(value, (str, bytes, dict, set, frozenset)):
        raise ValueError(f"{what}: must be an array of numbers, got {_short(value)}")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{what}: has masked entries, which have no value; fill them with .filled(…)")
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever becomes of ragged lists and of strangers' arrays
        raise ValueError(f"{what}: must be an array of numbers, got {_short(value)}: {error}") from error
    array = with_complex(array)
    if array.dtype.kind not in EXACT_KINDS:
        raise ValueError(f"{what}: must be an array of numbers, got {_short(value)} of the type {array.dtype}")
    if array.dtype.kind in "fc" and array.dtype.itemsize > (8 if array.dtype.kind == "f" else 16):
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.complex128)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array = array.view(array.dtype.str)  # PyTorch knows only one of the types of NumPy that are 64 bits long
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):  # which tensors cannot share
        array = array.copy()
    tensor = torch.from_numpy(np.atleast_1d(array)).reshape(array.shape)
    typeless = not isinstance(value, (np.ndarray, np.generic)) and not hasattr(value, "__array__")
    return _converted(what, tensor, torch.get_default_dtype()) if typeless and is_floating(tensor) else tensor


def as_numbers(what: str, value: Any, kind: torch.dtype | None = None) -> Tensor:
    """As `as_tensor`, real or complex numbers of floating point in one precision.

    Parameters
    ----------
    kind : dtype, optional
        real; by default torch's default type. Complex numbers stay complex.

    Raises
    ------
    ValueError
        as `as_tensor`, and for finite numbers that this precision can only hold as inf or 0.
    """
    return _converted(what, as_tensor(what, value), torch.get_default_dtype() if kind is None else kind)


def _converted(what: str, given: Tensor, kind: torch.dtype) -> Tensor:
    numbers = given.to(kind_like(given, kind))
    if is_floating(given) and numbers.dtype.itemsize < given.dtype.itemsize and given.numel():
        before, after = given.detach().abs(), numbers.detach().abs()
        if bool((before.isfinite() & ~after.isfinite()).any()):
            raise ValueError(f"{what}: reaches {float(before.max()):.3g}, which {kind} cannot hold; give smaller units")
        if bool((before > 0).any()) and not bool((after >= torch.finfo(kind).tiny).any()):
            raise ValueError(
                f"{what}: is at most {float(before.max()):.3g}, which {kind} holds as 0; give larger units"
            )
    return numbers


def kind_like(tensor: Tensor, kind: torch.dtype) -> torch.dtype:
    """A real type, or its complex one if the tensor is complex."""
    return COMPLEX[kind] if tensor.is_complex() else kind


def refuse_meta(what: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor that has a shape, but no values."""
    if tensor.is_meta:
        raise ValueError(f"{what}: is on the device meta, which has no values")


def are_complex(kind: np.dtype) -> bool:
    """Whether numbers of NumPy are complex: as such, or as pairs (real, imag), which HDF5 has of MATLAB and others."""
    return kind.kind == "c" or kind.names == PAIR


def with_complex(array: np.ndarray) -> np.ndarray:
    """The array, with complex numbers for pairs (real, imag)."""
    return array[PAIR[0]] + 1j * array[PAIR[1]] if array.dtype.names == PAIR else array


def is_floating(tensor: Tensor) -> bool:
    """Whether its numbers are of floating point, real or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


def _dense(what: str, tensor: Tensor) -> Tensor:
    if tensor.is_nested or tensor.is_quantized:
        raise ValueError(
            f"{what}: must be a dense tensor of numbers, got a {'nested' if tensor.is_nested else 'quantized'} one"
        )
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    # Only promised, which not all of PyTorch takes; compilers cannot ask.
    if not torch.compiler.is_compiling() and (tensor.is_conj() or tensor.is_neg()):
        tensor = tensor.resolve_conj().resolve_neg()
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize == 1 else tensor


def _stacked(what: str, parts: Any) -> Tensor:
    try:
        return torch.stack([as_tensor(what, part) for part in parts])
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{what}: its parts must have one shape, one type and one device: {error}") from error


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, bytes, int, float, type(None))) else ""
    return text[:60] if text else f"a {type(value).__name__}"
