"""Linear operators, and what can be made of them: adjoints, products, sums and multiples."""

import math
from collections.abc import Sequence

from torch import Tensor

from unrolled.operators.common_images import take_common_images
from unrolled.operators.largest_singular_value import power_iteration
from unrolled.operators.linear_map import LinearMap


class LinearOperator(LinearMap):
    """A linear measurement operator A, with its exact adjoint Aᴴ.

    Images are (batch, channel, height, width); measurements have the shape that the operator states.

        A(x), A.adjoint(y), A.gram(x) = Aᴴ A x, A.H, A @ B, A + B, 2 * A, A.norm(), A.normalized(), A.estimate(y),
        A.solve(b, ridge) = (AᴴA + ridge)⁻¹ b

    An operator on real images whose measurements are complex is linear over the real numbers: its inner products are
    Re⟨·, ·⟩, so its adjoint is real.
    """

    def alternatives(self, seed: int = 0) -> "dict[str, LinearOperator]":
        """Other operators of the same kind, with about as many measurements, by their names; by default none.

        Parameters
        ----------
        seed : int
            of those that are drawn.
        """
        return {}

    def at_ratio(self, ratio: float, seed: int = 0) -> "LinearOperator | None":
        """An operator of the same kind with another number of measurements per pixel; None if there is no such thing.

        Parameters
        ----------
        ratio : float in (0, 1]
        seed : int
            of what is drawn.
        """
        return None

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

    def normalized(self) -> "LinearOperator":
        """A/‖A‖, the same measurements in other units: networks and their first steps are made for ‖A‖ = 1."""
        return Scaled(self, 1 / float(self.norm()))


def _check_operators(name: str, *parts: object) -> None:
    """Raise ValueError unless all parts are operators."""
    for part in parts:
        if not isinstance(part, LinearOperator):
            raise ValueError(
                f"{name}: must be made of LinearOperators, got a {type(part).__name__}; as_operator makes one of a "
                "matrix or of functions"
            )


class Adjoint(LinearOperator):
    """Aᴴ of an operator A.

    Parameters
    ----------
    operator : LinearOperator
    """

    def __init__(self, operator: LinearOperator):
        super().__init__()
        _check_operators("Adjoint", operator)
        self.operator = operator
        self.complex_images, self.batch = operator.complex_measurements, operator.batch

    @property
    def complex_measurements(self) -> bool:
        return self.operator.complex_images

    @property
    def sampling_ratio(self) -> float | Tensor:
        return 1 / self.operator.sampling_ratio

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
        _check_operators("Composition", outer, inner)
        if inner.complex_measurements and not outer.complex_images:
            raise ValueError(
                f"Composition: {type(outer).__name__} is for real images, and {type(inner).__name__} measures complex "
                "numbers"
            )
        self.outer, self.inner = outer, inner
        self.multiple, self.complex_images, self.image_shape = inner.multiple, inner.complex_images, inner.image_shape
        self.batch = inner.batch or outer.batch
        keeps = isinstance(outer, Adjoint) or inner.picture_measurements  # an adjoint makes images of what is none
        self.picture_measurements = outer.picture_measurements and keeps

    @property
    def complex_measurements(self) -> bool:
        return self.outer.complex_measurements

    @property
    def sampling_ratio(self) -> float | Tensor:
        return self.outer.sampling_ratio * self.inner.sampling_ratio

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return self.outer.measurement_shape(self.inner.measurement_shape(image_shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self._between(self.outer.adjoint(y)))

    def _between(self, z: Tensor) -> Tensor:
        """Of what the outer operator makes of measurements, the part in which those of the inner one lie."""
        return z.real if z.is_complex() and not self.inner.complex_measurements else z

    def norm(self) -> Tensor:
        """An upper bound of the operator norm: the product of both norms."""
        return self.outer.norm() * self.inner.norm()

    def estimate(self, y: Tensor) -> Tensor:
        """The inner operator's estimate from the outer one's."""
        return self.inner.estimate(self._between(self.outer.estimate(y)))

    @property
    def fitted(self) -> bool:
        return self.inner.fitted

    def fit_images(self, images: list[Tensor]) -> None:
        self.inner.fit_images(images)  # what the outer operator measures are no images


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
        _check_operators("Scaled", operator)
        if not (math.isfinite(factor) and factor):
            raise ValueError(f"Scaled: factor must be a finite number other than 0, got {factor!r}")
        self.operator, self.factor = operator, factor
        self.multiple, self.local = operator.multiple, operator.local
        self.complex_images, self.image_shape = operator.complex_images, operator.image_shape
        self.norm_takes_long = operator.norm_takes_long
        self.batch, self.picture_measurements = operator.batch, operator.picture_measurements

    @property
    def complex_measurements(self) -> bool:
        return self.operator.complex_measurements

    @property
    def sampling_ratio(self) -> float | Tensor:
        return self.operator.sampling_ratio

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return self.operator.measurement_shape(image_shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.factor * self.operator.adjoint(y)

    def gram(self, x: Tensor) -> Tensor:
        return self.factor**2 * self.operator.gram(x)

    def norm(self) -> Tensor:
        return abs(self.factor) * self.operator.norm()

    def conditioner(self) -> LinearMap | None:
        return self.operator.conditioner()

    def estimate(self, y: Tensor) -> Tensor:
        return self.operator.estimate(y / self.factor)

    @property
    def fitted(self) -> bool:
        return self.operator.fitted

    def fit_images(self, images: list[Tensor]) -> None:
        self.operator.fit_images(images)

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        return self.operator.solve_exactly(b / self.factor**2, ridge / self.factor**2)

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
        _check_operators("Sum", first, second)
        take_common_images(self, [first, second])
        self.first, self.second = first, second
        self.picture_measurements = first.picture_measurements and second.picture_measurements

    @property
    def complex_measurements(self) -> bool:
        return self.first.complex_measurements or self.second.complex_measurements

    @property
    def sampling_ratio(self) -> float | Tensor:
        return self.first.sampling_ratio

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        a, b = self.first.measurement_shape(image_shape), self.second.measurement_shape(image_shape)
        if a != b:
            raise ValueError(f"Sum: measurements must have one shape, got {a} and {b}")
        return a

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        if a.shape != b.shape:
            raise ValueError(f"Sum: measurements must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
        return a + b

    def adjoint(self, y: Tensor) -> Tensor:
        parts = (self.first, self.second)
        a, b = (part.adjoint(y if part.complex_measurements or not y.is_complex() else y.real) for part in parts)
        x = a + b
        return x.real if x.is_complex() and not self.complex_images else x

    def norm(self) -> Tensor:
        """By power iteration if the size of images is known, otherwise the upper bound ‖A‖ + ‖B‖."""
        if self.image_shape is not None:
            return power_iteration(self, self.image_shape)
        return self.first.norm() + self.second.norm()
