"""Measurement matrices: read from files, drawn, and told apart."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_matrix(path: str | Path, key: str | None = None) -> Tensor:
    """Read a matrix from `.npy`, `.mat` (any version) or `.h5`.

    Parameters
    ----------
    path : str or Path
    key : str, optional
        the name of the matrix inside a `.mat` or `.h5` file; needed if the file holds several.

    Returns
    -------
    Tensor, (rows, columns), float64 or complex128

    Raises
    ------
    ValueError
        if the file does not exist, cannot be read, or does not hold one finite matrix.
    """
    matrix = read_array(path, key, dimensions=2)
    check_matrix(matrix)
    return matrix


def read_array(path: str | Path, key: str | None = None, dimensions: int | None = None) -> Tensor:
    """Read an array of numbers from `.npy`, `.mat` (any version) or `.h5`; see `read_matrix`.

    Parameters
    ----------
    dimensions : int, optional
        only arrays of so many dimensions are looked at.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"array: there is no file {path}")
    readers = {".npy": _read_npy, ".mat": _read_mat, ".h5": _read_h5, ".hdf5": _read_h5}
    if path.suffix.lower() not in readers:
        raise ValueError(f"array: {path} must end in one of {', '.join(readers)}")
    try:
        found = readers[path.suffix.lower()](path)
    except Exception as error:  # the readers of three libraries, on whatever is in the file
        raise ValueError(f"array: {path} cannot be read as {path.suffix}: {error}") from error
    found = {
        name: array
        for name, array in found.items()
        if array.dtype.kind in "buifc" and dimensions in (None, array.ndim) and key in (None, name)
    }
    if len(found) != 1:
        names = ", ".join(sorted(found)) or "none"
        wanted = "matrix" if dimensions == 2 else "array"
        raise ValueError(f"array: {path} must hold one {wanted}{f' {key!r}' if key else ''}; found: {names}")
    (array,) = found.values()
    return torch.from_numpy(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))


def check_matrix(matrix: Tensor) -> None:
    """Raise ValueError unless the tensor is a finite matrix."""
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"matrix: must be (rows, columns), got shape {tuple(matrix.shape)}")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("matrix: must be finite, but holds NaN or inf")


def _read_npy(path: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, allow_pickle=False)}


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    import h5py
    from scipy.io import loadmat

    if h5py.is_hdf5(path):  # MATLAB 7.3, which stores matrices transposed
        return {name: array.T for name, array in _read_h5(path).items()}
    return {name: array for name, array in loadmat(path).items() if isinstance(array, np.ndarray)}


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(path, "r") as file:
        return {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}


def orthonormal_gaussian(rows: int, columns: int, seed: int) -> Tensor:
    """A Gaussian matrix with orthonormalised rows, the same on every machine (up to rounding in float64).

    Drawn by NumPy's frozen `RandomState`; the signs that the QR decomposition leaves open are fixed.

    Returns
    -------
    Tensor, (rows, columns), float64, with matrix @ matrix.T = 1
    """
    gaussian = np.random.RandomState(seed).standard_normal((columns, rows))
    q, r = np.linalg.qr(gaussian)
    return torch.from_numpy(np.ascontiguousarray((q * np.sign(np.diag(r))).T))


def matrix_hash(matrix: Tensor) -> str:
    """A short hash of a matrix, rounded to 1e-5 so that the last bits of another machine do not change it."""
    rounded = np.round(matrix.detach().cpu().double().numpy() * 1e5).astype("<i8")
    return hashlib.sha256(str(rounded.shape).encode() + rounded.tobytes()).hexdigest()[:16]
