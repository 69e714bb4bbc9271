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
        the name of the matrix inside a `.mat` or `.h5` file; needed if the file holds several matrices.

    Returns
    -------
    Tensor, (rows, columns), float64 or complex128

    Raises
    ------
    ValueError
        if the file does not exist, cannot be read, or does not hold one finite matrix.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"matrix: there is no file {path}")
    readers = {".npy": _read_npy, ".mat": _read_mat, ".h5": _read_h5, ".hdf5": _read_h5}
    if path.suffix.lower() not in readers:
        raise ValueError(f"matrix: {path} must end in one of {', '.join(readers)}")
    try:
        found = readers[path.suffix.lower()](path)
    except (OSError, ValueError, EOFError, TypeError, NotImplementedError) as error:
        raise ValueError(f"matrix: {path} cannot be read as {path.suffix}: {error}") from error
    found = {name: array for name, array in found.items() if array.ndim == 2 and array.dtype.kind in "buifc"}
    if key is not None:
        found = {name: array for name, array in found.items() if name == key}
    if len(found) != 1:
        names = ", ".join(sorted(found)) or "none"
        raise ValueError(f"matrix: {path} must hold one matrix{f' {key!r}' if key else ''}; matrices found: {names}")
    (array,) = found.values()
    matrix = torch.from_numpy(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
    check_matrix(matrix)
    return matrix


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
