"""Stacks of operators, which measure the same image in several ways."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.operators.common_images import take_common_images
from unrolled.operators.intake import as_image_shape
from unrolled.operators.linear_map import check_images, fits
from unrolled.operators.operator import LinearOperator

LARGEST_IMAGE = 2**28
"""Numbers in an image that a stack is made for, at most: its parts measure one to know their shapes."""


class Stack(LinearOperator):
    """y = (A₁x, A₂x, …): several operators measure the same image.

    Measurements are (batch, total): those of every part flattened, one after another, so that networks can subtract
    them; `split` gives the parts back. They are complex if those of any part are.

    Parameters
    ----------
    operators : list of LinearOperator
        the parts, at least one.
    shape : (channel, height, width)
        of the images, and no others.

    Raises
    ------
    ValueError
        if some parts measure real images and others complex ones, or images of other sizes than shape.

    Examples
    --------
    >>> from unrolled.operators import BlockCompressedSensing, Identity
    >>> both = Stack([BlockCompressedSensing(ratio=0.5, block=4), Identity()], shape=(1, 8, 8))
    >>> y = both(torch.rand(3, 1, 8, 8))
    >>> y.shape
    torch.Size([3, 96])
    >>> [part.shape for part in both.split(y)]
    [torch.Size([3, 1, 8, 2, 2]), torch.Size([3, 1, 8, 8])]
    """

    def __init__(self, operators: list[LinearOperator], shape: tuple[int, int, int]):
        super().__init__()
        listed = isinstance(operators, (list, tuple)) and len(operators) > 0
        if not listed or not all(isinstance(operator, LinearOperator) for operator in operators):
            raise ValueError(f"Stack: operators must be LinearOperators, at least one, got {operators!r}")
        shape = as_image_shape("Stack: shape", shape)
        if math.prod(shape) > LARGEST_IMAGE:
            raise ValueError(f"Stack: shape must be of at most {LARGEST_IMAGE:,} numbers, got {shape!r}")
        take_common_images(self, operators)
        if self.image_shape is not None and not fits(tuple(shape), self.image_shape):
            raise ValueError(f"Stack: shape must be that of the operators' images, {self.image_shape}, got {shape!r}")
        if any(side % self.multiple for side in shape[1:]):
            raise ValueError(f"Stack: height and width must be multiples of {self.multiple}, got {shape!r}")
        self.image_shape = (shape[0], shape[1], shape[2])
        self.operators = nn.ModuleList(operators)
        self.parts = [(part.measurement_shape(shape), part.complex_measurements) for part in operators]

    @property
    def complex_measurements(self) -> bool:
        return any(is_complex for _, is_complex in self.parts)

    @property
    def sampling_ratio(self) -> float | Tensor:
        return sum(part.sampling_ratio for part in self.operators)  # type: ignore[misc]

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        check_images(self, image_shape)
        return (sum(math.prod(shape) for shape, _ in self.parts),)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(f"Stack: images must be (batch, {self._sizes(self.image_shape)}), got {tuple(x.shape)}")
        return torch.cat([operator(x).flatten(1) for operator in self.operators], dim=1)

    def split(self, y: Tensor) -> list[Tensor]:
        """The measurements of every part, in the shapes of its own.

        Parameters
        ----------
        y : Tensor, (batch, total)
        """
        counts = [math.prod(shape) for shape, _ in self.parts]
        if y.ndim != 2 or y.shape[1] != sum(counts):
            raise ValueError(f"Stack: measurements must be (batch, {sum(counts)}), got {tuple(y.shape)}")
        return [
            part.real.unflatten(1, shape) if part.is_complex() and not is_complex else part.unflatten(1, shape)
            for part, (shape, is_complex) in zip(y.split(counts, dim=1), self.parts, strict=True)
        ]

    def adjoint(self, y: Tensor) -> Tensor:
        return self._total([operator.adjoint(part) for operator, part in self._pairs(y)])

    def gram(self, x: Tensor) -> Tensor:
        return self._total([operator.gram(x) for operator in self._children()])

    def estimate(self, y: Tensor) -> Tensor:
        """The mean of the parts' estimates."""
        return self._total([operator.estimate(part) for operator, part in self._pairs(y)]) / len(self.parts)

    @property
    def fitted(self) -> bool:
        return all(operator.fitted for operator in self._children())

    def fit_images(self, images: list[Tensor]) -> None:
        for operator in self._children():
            operator.fit_images(images)

    def _children(self) -> list[LinearOperator]:
        return list(self.operators)  # type: ignore[arg-type]

    def _pairs(self, y: Tensor) -> list[tuple[LinearOperator, Tensor]]:
        return list(zip(self._children(), self.split(y), strict=True))

    @staticmethod
    def _total(images: list[Tensor]) -> Tensor:
        total = images[0]
        for image in images[1:]:
            total = total + image
        return total

    @staticmethod
    def _sizes(shape: tuple[int, ...] | None) -> str:
        return ", ".join(map(str, shape or ()))
