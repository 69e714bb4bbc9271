"""Measurement matrices: read from files, drawn, and told apart."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unrolled.system.arrays import read_array
from unrolled.system.claims import announce
from unrolled.system.devices import in_double

LARGEST_DRAWN = 2**28
"""Numbers in a matrix that is drawn, at most: 2 GB, and minutes for the QR decomposition."""


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


def check_matrix(matrix: Tensor, name: str = "matrix") -> None:
    """Raise ValueError, by the name of the argument, unless the tensor is a finite matrix."""
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name}: must be (rows, columns), got shape {tuple(matrix.shape)}")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"{name}: must be finite, but holds NaN or inf")


def orthonormal_gaussian(rows: int, columns: int, seed: int) -> Tensor:
    """A Gaussian matrix with orthonormalised rows, the same on every machine (up to rounding in float64).

    Drawn by NumPy's frozen `RandomState`; the signs that the QR decomposition leaves open are fixed.

    Returns
    -------
    Tensor, (rows, columns), float64, with matrix @ matrix.T = 1

    Raises
    ------
    ValueError
        if the matrix would be too large.
    """
    if rows * columns > LARGEST_DRAWN:
        raise ValueError(f"matrix: at most {LARGEST_DRAWN:,} numbers can be drawn, got {rows} × {columns}")
    announce(4 * 8 * rows * columns, rows * columns * (10 + rows / 60))
    gaussian = np.random.RandomState(seed).standard_normal((columns, rows))
    q, r = np.linalg.qr(gaussian)
    return torch.from_numpy(np.ascontiguousarray((q * np.sign(np.diag(r))).T))


class Spectrum(NamedTuple):
    """The smaller one of MMᴴ and MᴴM as V diag(values) Vᴴ.

    Parameters
    ----------
    values : Tensor, (size,), real
    vectors : Tensor, (size, size)
        V, an eigenvector in every column.
    """

    values: Tensor
    vectors: Tensor


@torch.no_grad()
def spectrum_of(matrix: Tensor) -> Spectrum:
    """The spectrum by which `solve_with_ridge` needs products alone, found in double precision."""
    wide = in_double(matrix)
    values, vectors = torch.linalg.eigh(wide @ wide.mH if len(wide) < wide.shape[1] else wide.mH @ wide)
    return Spectrum(values.clamp(min=0).to(matrix.device, matrix.real.dtype), vectors.to(matrix.device, matrix.dtype))


def solve_with_ridge(matrix: Tensor, b: Tensor, ridge: Tensor, spectrum: Spectrum | None = None) -> Tensor:
    """(MᴴM + ridge)⁻¹ b by a Cholesky factorisation of the smaller one of MᴴM and MMᴴ, or by its spectrum.

    With fewer rows than columns by Woodbury's identity, (b − Mᴴ(MMᴴ + ridge)⁻¹Mb)/ridge.

    Parameters
    ----------
    matrix : Tensor, (rows, columns)
    b : Tensor, (batch, columns, number)
    ridge : Tensor > 0, (1, 1, 1) or (batch, 1, 1)
    spectrum : Spectrum, optional
        of the matrix.

    Returns
    -------
    Tensor, like b
    """
    rows, columns = matrix.shape
    if spectrum is not None:
        values, vectors = spectrum.values.to(b.real.dtype)[:, None], spectrum.vectors.to(b.dtype)
        coordinates = vectors.mH @ (matrix @ b if rows < columns else b)
        solved = vectors @ (coordinates / (values + ridge))
        return (b - matrix.mH @ solved) / ridge if rows < columns else solved
    smaller = matrix @ matrix.mH if rows < columns else matrix.mH @ matrix
    smaller = smaller + ridge * torch.eye(len(smaller), dtype=matrix.dtype, device=matrix.device)
    factor, _ = torch.linalg.cholesky_ex(smaller)
    if rows >= columns:
        return torch.cholesky_solve(b, factor)
    return (b - matrix.mH @ torch.cholesky_solve(matrix @ b, factor)) / ridge


def matrix_hash(matrix: Tensor) -> str:
    """A short hash of a matrix, rounded to 1e-5 so that the last bits of another machine do not change it."""
    rounded = np.round(matrix.detach().cpu().double().numpy() * 1e5).astype("<i8")
    return hashlib.sha256(str(rounded.shape).encode() + rounded.tobytes()).hexdigest()[:16]
