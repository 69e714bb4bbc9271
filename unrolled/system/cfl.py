"""Arrays of the Berkeley Advanced Reconstruction Toolbox (BART): numbers in a `.cfl` file, their axes in a `.hdr`.

The numbers are complex64 with the first axis running fastest. Of the 16 axes those that images and k-space of two
dimensions have are known here by name.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.system.arraylike import as_tensor
from unrolled.system.files import as_path, check_writable, replacing

NAMES = ("readout", "phase", "second phase", "coil", "set of maps", "echo", "coefficient", "second coefficient",
         "iteration", "cycle", "time", "second time", "level", "slice", "average", "batch")  # fmt: skip
"""What BART's axes are."""

ORDER = {"slice": 13, "set": 4, "coil": 3, "height": 0, "width": 1}
"""Which of them are taken, in the order that arrays have here: the readout runs along the height of images."""

KIND = np.dtype("<c8")

LONGEST = 2**16
"""Bytes of a header that are read."""

FIRST = "# Dimensions"


def open_cfl(path: str | Path) -> np.ndarray:
    """The array of a `.cfl` file, mapped: no more is read than is used.

    Parameters
    ----------
    path : str or Path
        of the numbers; the header is beside it.

    Returns
    -------
    array, (slice, set, coil, height, width), complex64

    Raises
    ------
    ValueError
        if one of both files is missing, they do not fit each other, or the array has other axes than these.
    """
    path = as_path("cfl", path)
    for each in (path, path.with_suffix(".hdr")):
        if not os.path.isfile(each):
            raise ValueError(f"cfl: there is no file {each}; an array is a .cfl and a .hdr of the same name")
    lengths = _lengths(path.with_suffix(".hdr"))
    claimed, held = KIND.itemsize * math.prod(lengths), path.stat().st_size
    if claimed != held:
        raise ValueError(f"cfl: {path} has {held:,} bytes, but its header states {claimed:,}: {lengths}")
    others = [
        f"{length} of {NAMES[axis]} (axis {axis})"
        for axis, length in enumerate(lengths)
        if length > 1 and axis not in ORDER.values()
    ]
    if others:
        raise ValueError(
            f"cfl: {path} has {', '.join(others)}; only slices, coils, sets of maps, readout and one phase encoding "
            "are taken; bring it to these by BART's slice, fft and transpose first"
        )
    array = np.memmap(path, KIND, "r", shape=tuple(lengths), order="F")
    kept = [axis for axis in range(len(lengths)) if axis in ORDER.values()]
    return np.asarray(array.reshape([lengths[axis] for axis in kept], order="F")).transpose(
        [kept.index(axis) for axis in ORDER.values()]
    )


def _lengths(header: Path) -> list[int]:
    with open(header, "rb") as file:
        text = file.read(LONGEST + 1)
    lines = text.decode("ascii", "replace").splitlines()
    at = next((number for number, line in enumerate(lines) if line.strip() == FIRST), len(lines))
    words = lines[at + 1].split() if at + 1 < len(lines) else []
    good = all(word.isascii() and word.isdigit() and len(word) < 10 and int(word) for word in words)
    if len(text) > LONGEST or not words or len(words) > len(NAMES) or not good:
        raise ValueError(
            f"cfl: {header} must be a short text with a line {FIRST!r}, and below it at most {len(NAMES)} lengths >= 1"
        )
    return [int(word) for word in words] + [1] * (len(NAMES) - len(words))


def check_header(path: Path) -> None:
    """Raise ValueError if the header of a `.cfl` file cannot be written, or would replace what is none."""
    header = path.with_suffix(".hdr")
    check_writable(header)
    if header.exists():
        with open(header, "rb") as file:
            if file.read(len(FIRST)) != FIRST.encode():
                raise ValueError(f"cfl: {header} is there, and is no header of this format; name another file")


def write_cfl(path: str | Path, numbers: Any, axes: str) -> None:
    """Write an array as `.cfl`, and its header beside it.

    Parameters
    ----------
    path : str or Path
        that ends in `.cfl`.
    numbers : Tensor or array
        real or complex; they are written in single precision.
    axes : str
        what the axes are: height, width, and any of slice, set and coil, such as "coil, height, width".

    Raises
    ------
    ValueError
        if the axes do not fit, a file cannot be written, or what is at the header's place is none of this format.
    """
    path = as_path("cfl", path)
    names = [name.strip() for name in axes.split(",")]
    tensor = as_tensor("cfl", numbers).detach().cpu()
    if path.suffix.lower() != ".cfl":
        raise ValueError(f"cfl: {path} must end in .cfl")
    if len({*names}) != len(names) or not {"height", "width"} <= {*names} <= {*ORDER} or len(names) != tensor.ndim:
        raise ValueError(
            f"cfl: axes must be height, width, and any of slice, set and coil, as many as the array has, "
            f"{tuple(tensor.shape)}, got {axes!r}"
        )
    check_header(path)
    order = sorted(names, key=lambda name: ORDER[name])
    array = tensor.numpy().transpose([names.index(name) for name in order]).astype(KIND)
    lengths = [1] * len(NAMES)
    for name, length in zip(order, array.shape, strict=True):
        lengths[ORDER[name]] = length
    with replacing(path) as temporary:
        array.ravel(order="F").tofile(temporary)
    with replacing(path.with_suffix(".hdr")) as temporary:
        temporary.write_text(f"{FIRST}\n{' '.join(map(str, lengths))}\n", encoding="ascii")
