"""Coils mixed to virtual ones: fewer that hold nearly all energy, or as many whose noise is white."""

import torch
from torch import Tensor

from unrolled.system.arraylike import ArrayLike, as_tensor, refuse_meta
from unrolled.system.devices import in_double
from unrolled.system.scalars import whole_number


def compression(y: ArrayLike, coils: int) -> Tensor:
    """The matrix that mixes coils to fewer ones with as much energy as possible: singular vectors of k-space.

    (Buehrer and others, "Array compression for MRI with large coil arrays", 2007; Huang and others, 2008.) Its rows are
    orthonormal, so white noise stays white.

    Parameters
    ----------
    y : Tensor or array, (coil, …)
        k-space.
    coils : int >= 1
        virtual ones, no more than there are.

    Returns
    -------
    Tensor, (coils, coil), complex128; see `mixed`

    Raises
    ------
    ValueError
        for k-space that is not finite or 0 everywhere, or too many coils.
    """
    coils = whole_number("coils:", coils)
    numbers = _rows("y", y)
    if coils > len(numbers):
        raise ValueError(f"coils: must be at most as many as there are, {len(numbers)}, got {coils}")
    if not bool(numbers.any()):
        raise ValueError("y: is 0 everywhere, so no coil is better than another")
    numbers = numbers / numbers.abs().max()
    return torch.linalg.eigh(numbers @ numbers.mH)[1].flip(-1)[:, :coils].mH


def whitening(noise: ArrayLike) -> Tensor:
    """The matrix that makes noise of the coils white: L⁻¹ for the covariance L Lᴴ of what they measure of nothing.

    Afterwards the noise of every coil has the variance 1, and that of different coils is not correlated (Pruessmann and
    others, "Advances in sensitivity encoding with arbitrary k-space trajectories", 2001).

    Parameters
    ----------
    noise : Tensor or array, (coil, …)
        samples of noise alone, of mean 0, at least as many as there are coils.

    Returns
    -------
    Tensor, (coil, coil), complex128; see `mixed`

    Raises
    ------
    ValueError
        for noise that is not finite, or of which the coils are not independent.
    """
    numbers = _rows("noise", noise)
    size = numbers.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    numbers = numbers / size
    factor, failed = torch.linalg.cholesky_ex(numbers @ numbers.mH / numbers.shape[1])
    diagonal = factor.diagonal().real
    if bool(failed) or not bool(diagonal.min() > 1e-6 * diagonal.max()):
        raise ValueError(
            f"noise: of {len(numbers)} coils must be independent samples, more than there are coils, got "
            f"{numbers.shape[1]} of which some coils are mixtures of others, or 0"
        )
    return torch.linalg.inv(factor) / size


def mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """k-space or maps of virtual coils.

    Parameters
    ----------
    matrix : Tensor, (virtual, coil)
        from `compression` or `whitening`, or their product.
    x : Tensor, (…, coil, height, width)

    Returns
    -------
    Tensor, (…, virtual, height, width), complex, in the precision of x
    """
    kind = torch.promote_types(x.dtype, torch.complex64)
    return torch.einsum("vc,...cyx->...vyx", matrix.to(x.device), x.to(matrix.dtype)).to(kind)


def _rows(name: str, numbers: ArrayLike) -> Tensor:
    """Numbers of every coil, (coil, samples), complex128."""
    given = as_tensor(name, numbers)
    refuse_meta(name, given)
    if given.ndim < 2 or 0 in given.shape:
        raise ValueError(f"{name}: must be (coil, …), got shape {tuple(given.shape)}")
    rows = in_double(given).to(torch.complex128).flatten(1)
    if not bool(torch.isfinite(torch.view_as_real(rows)).all()):
        raise ValueError(f"{name}: must be finite, but holds NaN or inf")
    return rows
