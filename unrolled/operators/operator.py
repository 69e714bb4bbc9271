"""Linear operators: the contract, and what can be made of operators."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.description import Described


class LinearOperator(Described, nn.Module, ABC):
    """A linear measurement operator A, with its exact adjoint Aᴴ.

    Images are (batch, channel, height, width); measurements have the shape that the operator states.

        A(x), A.adjoint(y), A.gram(x) = Aᴴ A x, A.H, A @ B, A.norm()
    """

    multiple: int = 1
    """The sides of images must be multiples of this many pixels."""

    local: bool = False
    """Whether every part of an image whose edges are multiples of `multiple` has measurements of its own. Such an
    operator implements `image_size` and `crop`, and images are then reconstructed in tiles of any size."""

    def image_size(self, y: Tensor) -> tuple[int, int]:
        """Height and width of the image that y was measured of; for local operators."""
        raise ValueError(f"{type(self).__name__}: is not local, so measurements do not tell the size of their image")

    def crop(self, y: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        """The measurements of a part of the image, so that it can be reconstructed alone; for local operators.

        Parameters
        ----------
        y : Tensor, measurements of the whole image
        top, left, height, width : int
            the part, in pixels; multiples of `multiple`.

        Raises
        ------
        ValueError
            if the operator is not local.
        """
        raise ValueError(f"{type(self).__name__}: every measurement sees the whole image, parts have none of their own")

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """y = A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y, with ⟨A x, y⟩ = ⟨x, Aᴴ y⟩ for all x and y."""

    def gram(self, x: Tensor) -> Tensor:
        """Aᴴ A x."""
        return self.adjoint(self(x))

    @abstractmethod
    def norm(self) -> Tensor:
        """The operator norm ‖A‖, the largest singular value: a scalar."""

    @property
    def H(self) -> "LinearOperator":
        """The adjoint as an operator of its own."""
        return Adjoint(self)

    def __matmul__(self, other: "LinearOperator") -> "LinearOperator":
        """The composition: (A @ B)(x) = A(B(x))."""
        return Composition(self, other)


class Adjoint(LinearOperator):
    """Aᴴ of an operator A."""

    def __init__(self, operator: LinearOperator):
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator(y)

    def norm(self) -> Tensor:
        return self.operator.norm()

    @property
    def H(self) -> LinearOperator:
        return self.operator


class Composition(LinearOperator):
    """A B of two operators; its norm is the bound ‖A‖·‖B‖."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator):
        super().__init__()
        self.outer, self.inner = outer, inner

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))

    def norm(self) -> Tensor:
        """An upper bound of the operator norm: the product of both norms."""
        return self.outer.norm() * self.inner.norm()


class FromFunctions(LinearOperator):
    """An operator made of two functions; see `as_operator`."""

    def __init__(
        self, apply: Callable[[Tensor], Tensor], apply_adjoint: Callable[[Tensor], Tensor], shape: tuple[int, ...]
    ):
        super().__init__()
        self.apply_forward, self.apply_adjoint, self.shape = apply, apply_adjoint, tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.apply_adjoint(y)

    def norm(self) -> Tensor:
        """The operator norm by power iteration on AᴴA, from a seeded start, to a relative change of 1e-6."""
        x = torch.randn(1, *self.shape, generator=torch.Generator().manual_seed(0))
        squared = torch.tensor(0.0)
        for _ in range(1000):
            x = self.gram(x / x.norm())
            previous, squared = squared, x.norm()
            if squared == 0 or (squared - previous).abs() <= 1e-6 * squared:
                break
        return squared.sqrt()


def as_operator(thing: Any, shape: tuple[int, ...] | None = None) -> LinearOperator:
    """Make a `LinearOperator` of a pair of functions; an operator is returned as it is.

    Parameters
    ----------
    thing : LinearOperator, or (forward, adjoint)
        two functions, x ↦ A x and y ↦ Aᴴ y, on batches of images.
    shape : (channel, height, width)
        of the images; needed with functions.

    Raises
    ------
    ValueError
        if the functions are not adjoint to each other (both inner products are shown), or thing is neither.

    Examples
    --------
    >>> mirror = as_operator((lambda x: x.flip(-1), lambda y: y.flip(-1)), shape=(1, 8, 8))
    >>> mirror.norm().item()
    1.0
    """
    if isinstance(thing, LinearOperator):
        return thing
    if not (isinstance(thing, (tuple, list)) and len(thing) == 2 and all(callable(part) for part in thing)):
        raise ValueError(f"as_operator: needs a LinearOperator or a pair of functions, got {type(thing).__name__}")
    if shape is None or len(shape) != 3:
        raise ValueError(f"as_operator: shape must be (channel, height, width) for a pair of functions, got {shape!r}")
    operator = FromFunctions(thing[0], thing[1], shape)
    _check_adjoint(operator, shape)
    return operator


def _check_adjoint(operator: LinearOperator, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *shape, generator=generator)
    ax = operator(x)
    y = torch.randn(ax.shape, generator=generator, dtype=ax.dtype)
    back = operator.adjoint(y)
    if back.shape != x.shape:
        raise ValueError(f"as_operator: the adjoint gives shape {tuple(back.shape)} for images of {tuple(x.shape)}")
    left, right = _inner(ax, y), _inner(x, back)
    if not abs(left - right) <= 1e-4 * float(ax.norm() * y.norm()):
        raise ValueError(
            "as_operator: the functions are not adjoint: for random x and y "
            f"⟨Ax, y⟩ = {left:.6g} but ⟨x, Aᴴy⟩ = {right:.6g}"
        )


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a.to(torch.complex128) * b.to(torch.complex128).conj()).sum().real)
