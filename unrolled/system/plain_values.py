"""Values that JSON has no word for, written so that they come back as they were: arrays, sets, ranges, paths, types."""

import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGEST = 10_000
"""Numbers in an array that is written, at most: a recipe is text that people read."""

NOTHING = object()
"""What `as_written` returns for a value that it cannot write."""


def as_written(value: Any) -> Any:
    """A recipe `{"class_path": …, "init_args": …}` of what `read_back` makes again; NOTHING if there is none."""
    if isinstance(value, Tensor):
        return _tensor(value)
    if type(value) is np.ndarray:
        return _array(value)
    if type(value) is complex:
        return _recipe("complex", real=_number(value.real), imag=_number(value.imag))
    if type(value) is float and not math.isfinite(value):
        return _recipe("float", value=str(value))
    if type(value) in (set, frozenset):
        return _recipe(type(value).__name__, items=sorted(value, key=repr))
    if type(value) is tuple:
        return _recipe("tuple", items=list(value))
    if type(value) is range:
        return _recipe("range", start=value.start, stop=value.stop, step=value.step)
    if isinstance(value, torch.dtype):
        return _recipe("torch.dtype", name=str(value).removeprefix("torch."))
    if isinstance(value, np.dtype) and value.names is None:
        return _recipe("numpy.dtype", name=value.str)
    if isinstance(value, Path):
        return _recipe("pathlib.Path", path=str(value))
    return NOTHING


def read_back(name: str, arguments: dict[str, Any]) -> Any:
    """The value of a recipe by `as_written`.

    Raises
    ------
    ValueError
        if the recipe is malformed.
    """
    try:
        return MAKERS[name](**arguments)
    except Exception as error:  # whatever comes of arguments that nobody thought of
        raise ValueError(f"{name} cannot be made of {reprlib.repr(arguments)}: {error}") from error


def _recipe(path: str, /, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _array(array: np.ndarray) -> Any:
    if (
        array.size > LARGEST
        or array.dtype.kind not in "biufc"
        or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8)
    ):
        return NOTHING
    flat = array.ravel()
    parts = np.stack([flat.real, flat.imag], -1).ravel() if array.dtype.kind == "c" else flat
    return _recipe(
        "numpy.ndarray",
        values=[_number(part) if isinstance(part, float) else part for part in parts.tolist()],
        shape=list(array.shape),
        dtype=array.dtype.newbyteorder("=").name,
    )


def _tensor(tensor: Tensor) -> Any:
    unusual = tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.is_meta
    if type(tensor) is not Tensor or unusual or tensor.requires_grad or tensor.numel() > LARGEST:
        return NOTHING
    parts = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return _recipe(
        "torch.Tensor",
        values=[_number(part) if isinstance(part, float) else part for part in parts.flatten().tolist()],
        shape=list(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
    )


def _make_array(values: list[Any], shape: list[int], dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind not in "biufc":  # text may be of any length
        raise ValueError(f"{dtype!r} is no type of numbers")
    if kind.kind == "c":
        flat = np.array([float(value) for value in values]).view(np.complex128).astype(kind)
    else:
        flat = np.array([float(value) if isinstance(value, str) else value for value in values], dtype=kind)
    return flat.reshape(shape)


def _make_tensor(values: list[Any], shape: list[int], dtype: str) -> Tensor:
    kind = _make_type(dtype)
    if kind.is_complex:
        pairs = torch.tensor([float(value) for value in values], dtype=torch.float64).reshape(-1, 2)
        return torch.view_as_complex(pairs).to(kind).reshape(shape)
    return torch.tensor([float(value) if isinstance(value, str) else value for value in values], dtype=kind).reshape(
        shape
    )


def _make_type(name: str) -> torch.dtype:
    kind = getattr(torch, name)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"{name!r} is no type of tensors")
    return kind


MAKERS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _make_array,
    "torch.Tensor": _make_tensor,
    "complex": lambda real, imag: complex(float(real), float(imag)),
    "float": lambda value: float(value),
    "set": lambda items: set(items),
    "frozenset": lambda items: frozenset(items),
    "tuple": lambda items: tuple(items),
    "range": lambda start, stop, step: range(start, stop, step),
    "torch.dtype": _make_type,
    "numpy.dtype": lambda name: np.dtype(str(name)),
    "pathlib.Path": lambda path: Path(path),
}
"""How each of these values is made again, by the name in its recipe."""
