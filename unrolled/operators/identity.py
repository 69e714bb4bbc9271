"""The identity: denoising, and a part of sums."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unrolled.operators.linear_map import check_images
from unrolled.operators.operator import LinearOperator


class Identity(LinearOperator):
    """y = x, for images of any size: denoising, and a part of sums.

    Parameters
    ----------
    complex_images : bool
        images are complex tensors.
    """

    local = True

    def __init__(self, complex_images: bool = False):
        super().__init__()
        self.complex_images = complex_images

    @property
    def sampling_ratio(self) -> float | Tensor:
        return 1.0

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return check_images(self, image_shape)

    def forward(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def gram(self, x: Tensor) -> Tensor:
        return x

    def norm(self) -> Tensor:
        return torch.ones(())

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        return b / (1 + ridge)

    def image_size(self, y: Tensor) -> tuple[int, int]:
        return y.shape[-2], y.shape[-1]

    def crop(self, y: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        return y[..., top : top + height, left : left + width]
