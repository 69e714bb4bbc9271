"""Orthonormal transforms W in which images are sparse."""

import math

import torch
from torch import Tensor


class DCT:
    """The orthonormal discrete cosine transform (type II) over the last two axes; its inverse is its adjoint.

    Works on images of any size. The matrices are made once per side, in float64.
    """

    def __init__(self) -> None:
        self._matrices: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Coefficients of x, (…, height, width), the same shape."""
        rows, columns = self._matrix(x.shape[-2], x), self._matrix(x.shape[-1], x)
        return rows @ x @ columns.T

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """The image of the coefficients."""
        rows, columns = (
            self._matrix(coefficients.shape[-2], coefficients),
            self._matrix(coefficients.shape[-1], coefficients),
        )
        return rows.T @ coefficients @ columns

    def _matrix(self, side: int, like: Tensor) -> Tensor:
        key = (side, like.dtype, like.device)
        if key not in self._matrices:
            frequency = torch.arange(side, dtype=torch.float64)[:, None]
            matrix = torch.cos(math.pi / side * (torch.arange(side, dtype=torch.float64) + 0.5) * frequency)
            matrix *= math.sqrt(2 / side)
            matrix[0] /= math.sqrt(2)
            self._matrices[key] = matrix.to(like.device, like.dtype)
        return self._matrices[key]
