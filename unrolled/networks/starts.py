"""Where a network starts: the first image, made from the measurements."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from unrolled.networks.phases.phase import Phase
from unrolled.networks.sizes import check_sizes
from unrolled.operators import LinearOperator
from unrolled.operators.krylov import advance, begin, power_of_two
from unrolled.system.devices import full_precision
from unrolled.system.recipes import Described


class Start(Described, nn.Module, ABC):
    """x₀ = start(y, operator): the image that the first phase is given, by default without anything learned."""

    local: ClassVar[bool] = False
    """Whether, with a local operator, the unlearned start of a part of an image is that part of the start."""

    def __init__(self) -> None:  # so that starts without arguments have a recipe too
        super().__init__()

    @property
    def unlearned(self) -> "Start":
        """The start without what is learned in it: what a network is to be better than."""
        return self

    @property
    def learned(self) -> list[Phase]:
        """Phases that make the start of the unlearned one; by default there are none."""
        return []

    @abstractmethod
    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        """The first image.

        Parameters
        ----------
        y : Tensor, measurements of a batch of images, in the shape that the operator states
        operator : LinearOperator

        Returns
        -------
        Tensor, (batch, channel, height, width), complex if the operator's images are
        """


class AdjointStart(Start):
    """x₀ = Aᴴy."""

    local = True

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        return operator.adjoint(y)


class LinearStart(Start):
    """x₀ = operator.estimate(y), the operator's own linear estimate.

    The linear minimum-mean-square estimate for block compressive sensing, zero filling, x₀ = Aᴴy, for sampled Fourier
    transforms, filtered back-projection for the Radon transform, and Aᴴy for operators that know nothing better.
    """

    local = True

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        return operator.estimate(y)


class ZeroStart(Start):
    """x₀ = 0, an image or code of which nothing is known yet."""

    local = True

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        return torch.zeros_like(operator.adjoint(y))  # whose shape the operator alone knows


class ConjugateGradientStart(Start):
    """Some steps of conjugate gradients from 0 on (AᴴA + ridge)x = Aᴴy (Hestenes, Stiefel, 1952).

    With ridge 0 the least-squares image of least norm, as far as so many steps come. Every image of a batch has steps
    of its own, and so has every channel if the operator measures any number of them. Linear in y only where the
    steps have converged; an image that has is left as it is.

    Parameters
    ----------
    iterations : int in 1 … 10,000
    ridge : float >= 0
        added to AᴴA, whose largest eigenvalue is ‖A‖².
    """

    def __init__(self, iterations: int = 10, ridge: float = 0.0):
        super().__init__()
        check_sizes("ConjugateGradientStart", iterations=iterations)
        if not (math.isfinite(ridge) and ridge >= 0):
            raise ValueError(f"ConjugateGradientStart: ridge must be a finite number >= 0, got {ridge!r}")
        self.iterations, self.ridge = iterations, ridge

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        alike = operator.image_shape is None or operator.image_shape[0] == 0
        axes = (2, 3) if alike else (1, 2, 3)

        def matrix(x: Tensor) -> Tensor:
            return operator.gram(x) + self.ridge * x

        with full_precision(y):
            right = operator.adjoint(y)
            unit = power_of_two(right, axes)
            state = begin(matrix, right / unit, axes=axes)
            for _ in range(self.iterations):
                state = advance(matrix, state, axes)
            return unit * state.x

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}, ridge={self.ridge}"


def check_start(owner: str, own: Tensor | None, x: Tensor, y: Tensor, operator: LinearOperator) -> None:
    """Raise ValueError unless a start x is an image of each of the measurements y, in the precision of a network."""
    if x.ndim != 4 or len(x) != len(y):
        raise ValueError(
            f"{owner}: the start must be images (batch, channel, height, width) of {len(y)} measurements, got "
            f"{tuple(x.shape)}"
        )
    if own is not None and x.real.dtype is not own.real.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"{owner}: calculates in {own.real.dtype}, and {type(operator).__name__} gives images in {x.real.dtype}; "
            f"bring the operator into the same precision by operator.to({own.real.dtype})"
        )
