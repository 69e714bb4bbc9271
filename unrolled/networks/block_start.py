"""A start for block compressive sensing: a matrix that was fitted to images elsewhere, applied to every block."""

import torch
from einops import rearrange
from torch import Tensor

from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.operators import LinearOperator
from unrolled.operators.matrix import check_matrix
from unrolled.operators.unit_norm import UnitNorm
from unrolled.system.arraylike import ArrayLike, as_numbers
from unrolled.system.devices import full_precision


class BlockStart(Start):
    """x₀ = Qy for every block of the image, Q a given matrix that is not learned.

    Programs of block compressive sensing fit Q to training blocks X and their measurements Y by least squares,
    Q = XYᵀ(YYᵀ)⁻¹; where no such matrix is at hand `LinearStart` does without.

    Parameters
    ----------
    block : int
        side of a block, in pixels.
    measurements : int
        of a block.
    matrix : Tensor or array, (block², measurements), optional
        Q. It travels with the weights, so that a start that is made for them needs none; it is 0 until they are there.

    Raises
    ------
    ValueError
        if the matrix has another shape, is complex or not finite.
    """

    matrix: Tensor
    local = True

    def __init__(self, block: int = 33, measurements: int = 272, matrix: ArrayLike | None = None):
        super().__init__()
        check_sizes("BlockStart", block=block, measurements=measurements)
        shape = (block**2, measurements)
        given = torch.zeros(shape) if matrix is None else as_numbers("BlockStart: matrix", matrix)
        check_matrix(given, "BlockStart: matrix")
        if tuple(given.shape) != shape or given.is_complex():
            raise ValueError(
                f"BlockStart: matrix must be real, {shape} for {measurements} measurements of blocks of {block}, got "
                f"{given.dtype} {tuple(given.shape)}"
            )
        self.block, self.measurements = block, measurements
        self.register_buffer("matrix", given.detach().clone())

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        if y.ndim != 5 or y.shape[2] != self.measurements or y.is_complex():
            raise ValueError(
                f"BlockStart: measurements must be real, (batch, channel, {self.measurements}, rows, columns), as "
                f"those of blocks are, got {y.dtype} {tuple(y.shape)}"
            )
        with full_precision(y):
            blocks = rearrange(y, "b c m rows cols -> b c rows cols m") @ self.matrix.to(y.dtype).T
            x = rearrange(blocks, "b c rows cols (p q) -> b c (rows p) (cols q)", p=self.block, q=self.block)
        return x * operator.size if isinstance(operator, UnitNorm) else x  # Q is that of y as it was measured

    def description(self) -> dict[str, int]:
        return {"block": self.block, "measurements": self.measurements}  # the matrix is in the state_dict

    def extra_repr(self) -> str:
        return f"block={self.block}, measurements={self.measurements}"
