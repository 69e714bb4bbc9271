"""A matrix that measures the whole image."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unrolled.operators.linear_map import check_images
from unrolled.operators.matrix import Spectrum, check_matrix, read_matrix, solve_with_ridge, spectrum_of
from unrolled.operators.operator import LinearOperator
from unrolled.system.arraylike import ArrayLike, as_numbers
from unrolled.system.devices import full_precision


class Dense(LinearOperator):
    """y = M vec(x): one matrix for the whole image, pixels in row-major order.

    Measurements are (batch, channel, rows of M). Images are complex if the matrix is.

    Parameters
    ----------
    matrix : Tensor or array (rows, height·width), or a file of one (`.npy`, `.mat`, `.h5`)
        of numbers of any type, kept in the default type.
    height, width : int
        of the images.
    """

    matrix: Tensor
    tensors = ("matrix",)
    checks_itself = True

    def __init__(self, matrix: ArrayLike | str | Path, height: int, width: int):
        super().__init__()
        if height < 1 or width < 1:
            raise ValueError(f"Dense: height and width must be >= 1, got {height!r} and {width!r}")
        matrix = as_numbers("Dense: matrix", read_matrix(matrix) if isinstance(matrix, (str, Path)) else matrix)
        check_matrix(matrix)
        if matrix.shape[1] != height * width:
            raise ValueError(f"Dense: matrix must have height·width = {height * width} columns, got {matrix.shape[1]}")
        self.height, self.width = height, width
        self.image_shape, self.complex_images = (0, height, width), matrix.is_complex()
        self.register_buffer("matrix", matrix)
        self.spectrum: Spectrum | None = None

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return check_images(self, image_shape)[0], self.matrix.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        self._check("images", x, ("batch", "channel", self.height, self.width))
        with full_precision(x):
            return x.to(self.matrix.dtype).flatten(2) @ self.matrix.t()

    def adjoint(self, y: Tensor) -> Tensor:
        self._check("measurements", y, ("batch", "channel", self.matrix.shape[0]))
        with full_precision(y):
            return (y.to(self.matrix.dtype) @ self.matrix.conj()).unflatten(2, (self.height, self.width))

    def _check(self, what: str, x: Tensor, sizes: tuple[str | int, ...]) -> None:
        known = sizes[2:]
        if x.ndim != len(sizes) or x.shape[2:] != known or 0 in x.shape or (x.is_complex() and not self.complex_images):
            real = "" if self.complex_images else "real, "
            wanted = ", ".join(map(str, sizes))
            raise ValueError(f"Dense: {what} must be {real}({wanted}), got {x.dtype} {tuple(x.shape)}")

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        x = solve_with_ridge(self.matrix.to(b.dtype), b.flatten(2).mT, ridge.flatten(2), self.spectrum)
        return x.mT.unflatten(2, (self.height, self.width))

    def prepare_program(self) -> None:
        self.spectrum = spectrum_of(self.matrix)

    def norm(self) -> Tensor:
        return torch.linalg.matrix_norm(self.matrix, ord=2)
