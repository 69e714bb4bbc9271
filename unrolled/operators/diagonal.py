"""Multiplication by numbers of one's own: weights of measurements, fields over images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.operators.operator import LinearOperator
from unrolled.system.arraylike import as_numbers


class Diagonal(LinearOperator):
    """y = d·x, number by number.

    `Diagonal(weights.sqrt()) @ A` measures so that ½‖·‖² is weighted least squares. Its estimate is x = y/d, and 0
    where d is 0.

    Parameters
    ----------
    diagonal : Tensor or array of real numbers that has one axis at least
        d, of the shape of x, or of one that can be broadcast to it; with an axis for the batch, batches are of that
        size, or of any size where it is 1.

    Raises
    ------
    ValueError
        for numbers that are complex or not finite.
    """

    diagonal: Tensor
    tensors = ("diagonal",)

    def __init__(self, diagonal: Any):
        super().__init__()
        given = as_numbers("Diagonal: diagonal", diagonal, torch.get_default_dtype())
        if given.is_complex() or not given.numel() or not bool(given.isfinite().all()):
            raise ValueError(
                f"Diagonal: diagonal must be real and finite, got {given.dtype} of the shape {tuple(given.shape)}"
            )
        self.register_buffer("diagonal", given.clone())

    @property
    def sampling_ratio(self) -> float | Tensor:
        return 1.0

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(image_shape)

    def forward(self, x: Tensor) -> Tensor:
        return self._like(x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self._like(y) * y

    def norm(self) -> Tensor:
        return self.diagonal.abs().max()

    def estimate(self, y: Tensor) -> Tensor:
        d = self._like(y)
        return torch.where(d == 0, 0, y / torch.where(d == 0, 1, d))

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        return b / (self._like(b).square() + ridge)

    def _like(self, x: Tensor) -> Tensor:
        """d, which must not make x larger."""
        d = self.diagonal
        if d.ndim > x.ndim or any(
            own not in (1, size) for own, size in zip(d.shape[::-1], x.shape[::-1], strict=False)
        ):
            raise ValueError(f"Diagonal: a diagonal of {tuple(d.shape)} does not fit to {tuple(x.shape)}")
        return d
