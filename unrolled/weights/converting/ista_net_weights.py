"""ISTA-Net+ of its authors, in PyTorch: state dictionaries of `ISTANetplus`, their Φ and their linear start."""

from pathlib import Path

import torch
from torch import Tensor

from unrolled.networks import AdjointStart, BlockStart, OriginalISTANetPlus, Start
from unrolled.operators import BlockCompressedSensing, LinearOperator
from unrolled.operators.matrix import read_matrix
from unrolled.system.arraylike import ArrayLike, as_numbers
from unrolled.weights.converting.foreign_files import ForeignWeights
from unrolled.weights.converting.key_mapping import From, brought, counted, fill_from, made_of, same, shape_of

NAMES = {
    "step": "lambda_step",
    "threshold": "soft_thr",
    "first.weight": "conv_D",
    "analysis.0.weight": "conv1_forward",
    "analysis.2.weight": "conv2_forward",
    "synthesis.0.weight": "conv1_backward",
    "synthesis.2.weight": "conv2_backward",
    "last.weight": "conv_G",
}
"""Of a phase, ours and theirs."""


def ista_net_plus(
    weights: ForeignWeights,
    *,
    matrix: ArrayLike | str | Path | None = None,
    initial: ArrayLike | str | Path | None = None,
    operator: LinearOperator | None = None,
) -> tuple[OriginalISTANetPlus, LinearOperator]:
    """The network and its operator.

    Parameters
    ----------
    weights : ForeignWeights
    matrix : Tensor or array (m, block²), or a file of one
        Φ of compressive sensing by blocks, such as phi_0_25_1089.mat.
    initial : Tensor or array (block², m), or a file of one
        Qinit, which makes the start, such as Initialization_Matrix_25.mat.
    operator : LinearOperator
        instead of both, of networks for whole images, which start from Aᴴy.

    Raises
    ------
    ValueError
        if these do not belong together, or names and shapes are not those of ISTA-Net+.
    """
    phases = counted(weights, r"fcs\.(\d+)\.")
    features, parts, *_ = shape_of(weights, "fcs.0.conv_D", 4)
    if parts != 1:
        raise ValueError(f"weights: {weights.name}: fcs.0.conv_D must see one channel, got {parts}")
    origins: dict[str, From | Tensor] = {
        f"phases.{phase}.{name}": From(f"fcs.{phase}.{theirs}", same if "conv" in theirs else _number)
        for phase in range(phases)
        for name, theirs in NAMES.items()
    }
    if operator is not None:
        if matrix is not None or initial is not None:
            raise ValueError("operator: stands instead of matrix and initial; give one or the others")
        start: Start = AdjointStart()
        block = None
    else:
        if matrix is None or initial is None:
            raise ValueError(
                "matrix, initial: both are needed, Φ (phi_0_….mat) and Qinit (Initialization_Matrix_….mat), or the "
                "operator of a network for whole images"
            )
        phi, q = _matrix("matrix", matrix, "phi"), _matrix("initial", initial, "Qinit")
        if phi.shape != q.T.shape:
            raise ValueError(
                f"initial: must be the transpose of the matrix in shape, {tuple(phi.T.shape)}, got {tuple(q.shape)}; "
                "the two are of different ratios, or one was taken for the other"
            )
        operator = BlockCompressedSensing(matrix=phi.float(), block=_side(phi.shape[1]))
        start, block = BlockStart(operator.block, len(phi), q.float()), operator.block
        origins["start.matrix"] = q
    if operator.complex_images:
        raise ValueError(f"operator: must measure real images, as ISTA-Net+ has them, got {type(operator).__name__}")
    with made_of(weights, more=brought(origins)):
        network = OriginalISTANetPlus(phases, features, block, start=start)
    fill_from(network, origins, weights)
    return network, operator


def _number(tensor: Tensor) -> Tensor:
    """One number, which is kept there in a list of one."""
    return tensor.reshape(()) if tensor.numel() == 1 else tensor


def _matrix(name: str, given: ArrayLike | str | Path, key: str) -> Tensor:
    if not isinstance(given, (str, Path)):
        matrix = as_numbers(name, given)
        if matrix.ndim != 2 or matrix.is_complex() or not bool(torch.isfinite(matrix).all()):
            raise ValueError(f"{name}: must be a real, finite matrix, got {matrix.dtype} {tuple(matrix.shape)}")
        return matrix
    try:
        matrix = read_matrix(given, key)
    except ValueError as error:
        if f"one matrix {key!r}" not in str(error):
            raise ValueError(f"{name}: {error}") from error
        matrix = read_matrix(given)  # the only one, whatever its name
    if matrix.is_complex():
        raise ValueError(f"{name}: {given} must be real, got complex numbers")
    return matrix


def _side(pixels: int) -> int:
    side = round(pixels**0.5)
    if side**2 != pixels:
        raise ValueError(f"matrix: must have a column for each pixel of a square block, got {pixels} columns")
    return side
