"""Linear operators: the contract, and what can be made of operators."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from unrolled.system.recipes import Described


class LinearOperator(Described, nn.Module, ABC):
    """A linear measurement operator A, with its exact adjoint Aᴴ.

    Images are (batch, channel, height, width); measurements have the shape that the operator states.

        A(x), A.adjoint(y), A.gram(x) = Aᴴ A x, A.H, A @ B, A + B, 2 * A, A.norm(), A.normalized(), A.estimate(y)

    An operator on real images whose measurements are complex is linear over the real numbers: its inner products are
    Re⟨·, ·⟩, so its adjoint is real.
    """

    multiple: int = 1
    """The sides of images must be multiples of this many pixels."""

    local: bool = False
    """Whether every part of an image whose edges are multiples of `multiple` has measurements of its own. Such an
    operator implements `image_size` and `crop`, and images are then reconstructed in tiles of any size."""

    complex_images: bool = False
    """Whether images are complex tensors."""

    image_shape: tuple[int, int, int] | None = None
    """(channel, height, width) of the images, if the operator measures only those; it takes any number of channels
    where channel is 0. None: images of any size."""

    tensors: tuple[str, ...] = ()
    """Arguments of the constructor that, given as a tensor or a file, are kept under their own name in the
    `state_dict`: weights carry them there instead of in the recipe."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `.to(torch.float32)` would leave the real part of complex tensors: they follow as pairs of numbers instead.
        def each(tensor: Tensor) -> Tensor:
            if not tensor.is_complex():
                return fn(tensor)
            return torch.view_as_complex(fn(torch.view_as_real(tensor)).contiguous())

        return super()._apply(each, recurse)

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

    def norm(self) -> Tensor:
        """The operator norm ‖A‖, the largest singular value: a scalar. By power iteration, if not in closed form.

        Raises
        ------
        ValueError
            if images may have any size, and the operator does not know its norm.
        """
        if self.image_shape is None:
            raise ValueError(f"{type(self).__name__}: norm() is not known for images of any size; set image_shape")
        return power_iteration(self, self.image_shape)

    def estimate(self, y: Tensor) -> Tensor:
        """A first image, made linearly from the measurements: where solvers and networks start. By default Aᴴ y."""
        return self.adjoint(y)

    def normalized(self) -> "LinearOperator":
        """A/‖A‖, the same measurements in other units: networks and their first steps are made for ‖A‖ = 1."""
        return Scaled(self, 1 / float(self.norm()))

    @property
    def H(self) -> "LinearOperator":
        """The adjoint as an operator of its own."""
        return Adjoint(self)

    def __matmul__(self, other: "LinearOperator") -> "LinearOperator":
        """The composition: (A @ B)(x) = A(B(x))."""
        return Composition(self, other)

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        """The sum: (A + B)(x) = A(x) + B(x)."""

        return Sum(self, other)

    def __rmul__(self, factor: float) -> "LinearOperator":
        """The multiple: (c * A)(x) = c·A(x)."""
        return Scaled(self, factor)

    def description(self) -> dict[str, Any]:
        """The arguments that make this operator again; tensors and files are left out, the `state_dict` holds them."""
        left_out = {name for name in self.tensors if isinstance(self.arguments[name], (Tensor, str, Path))}
        return {name: value for name, value in super().description().items() if name not in left_out}


def power_iteration(
    operator: LinearOperator, shape: tuple[int, ...], iterations: int = 1000, tolerance: float = 1e-6
) -> Tensor:
    """‖A‖ by power iteration on AᴴA from a seeded start, in the type and on the device of the operator's numbers.

    An estimate from below, exact but for the tolerance unless the two largest singular values nearly agree.

    Parameters
    ----------
    operator : LinearOperator
    shape : (channel, height, width)
        of the images; a channel of 0 stands for one.
    iterations : int
        at most so many.
    tolerance : float
        the iteration ends when the estimate of ‖A‖² changes by less, relatively.

    Returns
    -------
    Tensor, a scalar
    """
    kind, device = numbers_of(operator)
    draw = torch.complex128 if operator.complex_images else torch.float64
    x = torch.randn(1, max(1, shape[0]), *shape[1:], dtype=draw, generator=torch.Generator().manual_seed(0))
    x = x.to(device, kind.to_complex() if operator.complex_images else kind)
    squared = x.new_zeros((), dtype=kind)
    with torch.no_grad():
        for _ in range(iterations):
            x = operator.gram(x / x.norm())
            previous, squared = squared, x.norm()
            if squared == 0 or (squared - previous).abs() <= tolerance * squared:
                break
    return squared.sqrt()


def numbers_of(operator: nn.Module) -> tuple[torch.dtype, torch.device]:
    """The type (that of their real parts, if complex) and the device of the numbers in an operator; of new tensors if
    it has none."""
    like = next(
        (t for t in (*operator.parameters(), *operator.buffers()) if t.is_floating_point() or t.is_complex()),
        torch.empty(0),
    )
    return like.dtype.to_real(), like.device


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast on the device of x: measurements are never taken in 16 bits."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


class Adjoint(LinearOperator):
    """Aᴴ of an operator A.

    Parameters
    ----------
    operator : LinearOperator
    """

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
    """A B of two operators; its norm is the bound ‖A‖·‖B‖.

    Parameters
    ----------
    outer, inner : LinearOperator
        A and B.
    """

    def __init__(self, outer: LinearOperator, inner: LinearOperator):
        super().__init__()
        self.outer, self.inner = outer, inner
        self.multiple, self.complex_images, self.image_shape = inner.multiple, inner.complex_images, inner.image_shape

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))

    def norm(self) -> Tensor:
        """An upper bound of the operator norm: the product of both norms."""
        return self.outer.norm() * self.inner.norm()

    def estimate(self, y: Tensor) -> Tensor:
        """The inner operator's estimate from the outer one's."""
        return self.inner.estimate(self.outer.estimate(y))


class Scaled(LinearOperator):
    """c·A of an operator A.

    Parameters
    ----------
    operator : LinearOperator
    factor : float
        c, finite and not 0.
    """

    def __init__(self, operator: LinearOperator, factor: float):
        super().__init__()
        if not (math.isfinite(factor) and factor):
            raise ValueError(f"Scaled: factor must be a finite number other than 0, got {factor!r}")
        self.operator, self.factor = operator, factor
        self.multiple, self.local = operator.multiple, operator.local
        self.complex_images, self.image_shape = operator.complex_images, operator.image_shape

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.factor * self.operator.adjoint(y)

    def gram(self, x: Tensor) -> Tensor:
        return self.factor**2 * self.operator.gram(x)

    def norm(self) -> Tensor:
        return abs(self.factor) * self.operator.norm()

    def estimate(self, y: Tensor) -> Tensor:
        return self.operator.estimate(y / self.factor)

    def image_size(self, y: Tensor) -> tuple[int, int]:
        return self.operator.image_size(y)

    def crop(self, y: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        return self.operator.crop(y, top, left, height, width)


class Sum(LinearOperator):
    """A + B of two operators on the same images, whose measurements have the same shape.

    If only one of them measures complex numbers of real images, the other one's measurements count as their real parts.

    Parameters
    ----------
    first, second : LinearOperator
        A and B.

    Raises
    ------
    ValueError
        if one measures real images and the other complex ones, or images of different sizes.
    """

    def __init__(self, first: LinearOperator, second: LinearOperator):
        super().__init__()
        take_common_images(self, [first, second])
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        if a.shape != b.shape:
            raise ValueError(f"Sum: measurements must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
        return a + b

    def adjoint(self, y: Tensor) -> Tensor:
        x = self.first.adjoint(y) + self.second.adjoint(y)
        return x.real if x.is_complex() and not self.complex_images else x

    def norm(self) -> Tensor:
        """By power iteration if the size of images is known, otherwise the upper bound ‖A‖ + ‖B‖."""
        if self.image_shape is not None:
            return power_iteration(self, self.image_shape)
        return self.first.norm() + self.second.norm()


def take_common_images(operator: LinearOperator, parts: Sequence[LinearOperator]) -> None:
    """Give an operator the kind and the size of images that all its parts measure.

    Raises
    ------
    ValueError
        if there are no such images.
    """
    name = type(operator).__name__
    kinds = {part.complex_images for part in parts}
    if len(kinds) > 1:
        listed = ", ".join(f"{type(part).__name__} {'complex' if part.complex_images else 'real'}" for part in parts)
        raise ValueError(f"{name}: operators must all measure real images or all complex ones, got {listed}")
    shape: tuple[int, int, int] | None = None
    for part in parts:
        own = part.image_shape
        if shape is not None and own is not None and not (fits(shape, own) or fits(own, shape)):
            raise ValueError(f"{name}: operators must measure images of one size, got {shape} and {own}")
        if own is not None and (shape is None or shape[0] == 0):
            shape = own
    operator.multiple = math.lcm(*(part.multiple for part in parts))
    operator.complex_images, operator.image_shape = kinds.pop(), shape


def fits(shape: tuple[int, ...], wanted: tuple[int, int, int]) -> bool:
    """Whether images of a shape are among those wanted: a channel of 0 stands for any number of them."""
    return shape[1:] == wanted[1:] and wanted[0] in (0, shape[0])
