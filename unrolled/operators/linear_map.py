"""The contract of a linear operator: what each must say of itself, and what follows from that."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from unrolled.operators.intake import IMAGES, TAKEN, numbers_of, taken, with_intake
from unrolled.operators.largest_singular_value import power_iteration
from unrolled.operators.normal_equations import MANY, Accuracy, solve_normal_equations
from unrolled.system.arraylike import as_numbers, is_floating
from unrolled.system.devices import full_precision
from unrolled.system.recipes import Described
from unrolled.system.scalars import plain_number

AS_GIVEN = "_as_given"
"""The attribute in which an operator keeps itself in the form that networks are given; it is no submodule, for it
contains the operator."""


class LinearMap(Described, nn.Module, ABC):
    """What every `LinearOperator` does alone; its algebra is in that class."""

    multiple: int = 1
    """The sides of images must be multiples of this many pixels."""

    image_shape: tuple[int, int, int] | None = None
    """(channel, height, width) of the images, if the operator measures only those; it takes any number of channels
    where channel is 0. None: images of any size."""

    batch: int | None = None
    """How many images are measured at once, each in a way of its own. None: any number of them, all alike."""

    complex_images: bool = False
    """Whether images are complex tensors."""

    picture_measurements: bool = True
    """Whether measurements of four axes or more, (batch, channel, …, height, width), are pictures, of which neighbours
    belong together; those with fewer axes never are."""

    local: bool = False
    """Whether every part of an image whose edges are multiples of `multiple` has measurements of its own. Such an
    operator implements `image_size` and `crop`, and images are then reconstructed in tiles of any size."""

    checks_itself: bool = False
    """Whether its methods refuse shapes and complex numbers that do not fit, and say what would. Otherwise images are
    held against `image_shape` and `complex_images` before a method is called."""

    norm_takes_long: bool = False
    """Whether its norm takes long to find, and all operators of its recipe that hold no tensors of users have it."""

    __array_ufunc__ = None
    """An array times an operator is no array of operators: NumPy leaves the product to the operator, which refuses."""

    tensors: tuple[str, ...] = ()
    """Arguments of the constructor that, given as numbers or a file, are kept under their own name in the
    `state_dict`: weights carry them there instead of in the recipe."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, what in TAKEN.items():
            if inspect.isfunction(method := cls.__dict__.get(name)):
                setattr(cls, name, with_intake(method, what))

    # The map, its adjoint and its range

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """y = A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y, with ⟨A x, y⟩ = ⟨x, Aᴴ y⟩ for all x and y."""

    def gram(self, x: Tensor) -> Tensor:
        """Aᴴ A x."""
        return self.adjoint(self(x))

    @property
    def complex_measurements(self) -> bool:
        """Whether measurements are complex tensors: by default if images are.

        An operator that measures complex numbers of real images says so by `complex_measurements = True`.
        """
        return self.complex_images

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the measurements of one image.

        Parameters
        ----------
        image_shape : (channel, height, width)

        Returns
        -------
        tuple of int, without the batch

        Raises
        ------
        ValueError
            for images that the operator does not measure.

        Notes
        -----
        By default an image of zeros is measured; the operators of this library compute nothing.
        """
        with torch.no_grad():
            return tuple(self(blank(self, tuple(image_shape))).shape[1:])

    @property
    def sampling_ratio(self) -> float | Tensor:
        """Measurements per pixel; of a mask the part that it samples, a scalar or a number for each image, (batch,).

        Networks with a `ratio_range` are told it.

        Raises
        ------
        ValueError
            if the size of images is not known, and the operator does not say it in another way.
        """
        if self.image_shape is None:
            raise ValueError(
                f"{type(self).__name__}: its sampling ratio is not known for images of any size; set image_shape"
            )
        shape = (max(1, self.image_shape[0]), *self.image_shape[1:])
        return math.prod(self.measurement_shape(shape)) / math.prod(shape)

    def take_fit(self, other: "LinearMap") -> None:
        """Take from another operator of its kind what that has found by `fit_images`; by default that is nothing."""

    def conditioner(self) -> "LinearMap | None":
        """A map C of measurements, invertible by its estimate, that makes (CA)ᴴCA more even than AᴴA; None: no such.

        Networks are given Cy and CA, see `unrolled.operators.unit_norm`.
        """
        return None

    def sampled(self, y: Tensor) -> Tensor:
        """y with 0 where the operator measures nothing; by default it measures everywhere."""
        return y

    # What can be asked of it

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

    @property
    def fitted(self) -> bool:
        """Whether `fit_images` has been called, if it does anything."""
        return True

    def fit_images(self, images: list[Tensor]) -> None:
        """Fit what `estimate` takes for granted of images to these; by default that is nothing.

        Parameters
        ----------
        images : list of Tensor, each (channel, height, width) in [0, 1], of any sizes
        """

    def solve(
        self,
        b: Tensor,
        ridge: float | Tensor,
        *,
        start: Tensor | None = None,
        tolerance: float = 1e-6,
        iterations: int | None = None,
    ) -> Tensor:
        """x = (AᴴA + ridge)⁻¹ b = argmin ½‖Ax‖² − Re⟨x, b⟩ + ridge/2 ‖x‖².

        In closed form where the operator has one (see `solve_exactly`), else by conjugate gradients, each image of
        the batch for itself. Derivatives by b, ridge and the operator's parameters and buffers are exact for the
        solution, and take the memory of one solution, however many steps led to it.

        Parameters
        ----------
        b : Tensor or array, (batch, channel, height, width), an image
            such as Aᴴ y, or Aᴴ y + ridge·z for the image nearest to z that explains y.
        ridge : float > 0, or Tensor > 0 that is a scalar or (batch, 1, 1, 1), real
            the values of a tensor are not looked at.
        start : Tensor, like b, optional
            where conjugate gradients begin; by default at 0.
        tolerance : float > 0
            they end when ‖b − (AᴴA + ridge)x‖ <= tolerance·‖b‖ for every image, or is down at rounding.
        iterations : int >= 1, optional
            at most so many steps. By default as many as are needed; if 1000 are not enough, a warning tells so.

        Returns
        -------
        Tensor, like b

        Raises
        ------
        ValueError
            for a ridge or a tolerance that is not positive, or shapes and types that do not fit.
        """
        name = type(self).__name__
        if not torch.compiler.is_compiling():
            tolerance = plain_number(f"{name}: tolerance", tolerance, float)
            iterations = plain_number(f"{name}: iterations", iterations, int | None)
            ridge = plain_number(f"{name}: ridge", ridge, float | Tensor)
            ridge = ridge if isinstance(ridge, (int, float, Tensor)) else as_numbers(f"{name}: ridge", ridge)
        if not tolerance > 0 or (iterations is not None and iterations < 1):
            raise ValueError(
                f"{name}: solve needs a tolerance > 0 and iterations >= 1, got {tolerance!r} and {iterations!r}"
            )
        # Floating-point tensors keep their precision here, where that of the operator is less.
        usual = isinstance(b, Tensor) and is_floating(b) and b.layout is torch.strided
        b = b if usual else taken(self, IMAGES, b)
        _check_solved(self, b)
        start = None if start is None else taken(self, IMAGES, start)
        if start is not None and start.shape != b.shape:
            raise ValueError(f"{name}: start must be like b, {tuple(b.shape)}, got {tuple(start.shape)}")
        with full_precision(b):
            kind = torch.promote_types(b.dtype, numbers_of(self)[0])
            b = b.to(torch.promote_types(kind, torch.complex64) if self.complex_images else kind)
            ridge = _ridge_of(name, ridge, b)
            exact = self.solve_exactly(b, ridge)
            if exact is not None:
                return exact
            steps = MANY if iterations is None else iterations
            accuracy = Accuracy(tolerance, steps, iterations is None)
            return solve_normal_equations(self, b, ridge, start, accuracy)

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        """`solve` in closed form, or None if there is none; what an operator overrides that has one.

        Parameters
        ----------
        b : Tensor, (batch, channel, height, width)
            in the type of images.
        ridge : Tensor, (1, 1, 1, 1) or (batch, 1, 1, 1), real
        """
        return None

    # Parts of images, for local operators

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

    # As a part of a program, and as a module that is moved, written down and made again

    def prepare_program(self) -> None:
        """Compute what a program that never learns holds as constants; called of a copy, for its own numbers."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `.to(torch.float32)` would leave the real part of complex tensors: they follow as pairs of numbers instead.
        def each(tensor: Tensor) -> Tensor:
            if tensor.is_complex():
                return torch.view_as_complex(each(torch.view_as_real(tensor)).contiguous())
            try:
                return fn(tensor)
            except TypeError:
                if tensor.dtype != torch.float64:
                    raise
                return fn(tensor.float())  # MPS has no double precision

        self.__dict__.pop(AS_GIVEN, None)  # it is made again, on the device and in the type of then
        return super()._apply(each, recurse)

    def sharing(self, **buffers: Tensor) -> Self:
        """A copy with other buffers that shares all else, for a single use: values are not looked at."""
        other = object.__new__(type(self))  # copy.copy would do, but compilers cannot follow it
        other.__dict__.update({name: value for name, value in self.__dict__.items() if name != AS_GIVEN})
        other.__dict__["_buffers"] = {**self._buffers, **buffers}
        return other

    def description(self) -> dict[str, Any]:
        """The arguments that make this operator again; tensors and files are left out, the `state_dict` holds them."""
        left_out = self.state_dict().keys() & {*self.tensors}
        return {name: value for name, value in super().description().items() if name not in left_out}


def blank(operator: LinearMap, shape: tuple[int, ...]) -> Tensor:
    """A batch of zeros that the operator measures, (batch, channel, height, width); of one image if it may be."""
    kind, device = numbers_of(operator)
    return torch.zeros(
        operator.batch or 1, *shape, dtype=kind.to_complex() if operator.complex_images else kind, device=device
    )


def fits(shape: Sequence[int], wanted: tuple[int, int, int]) -> bool:
    """Whether images of a shape are among those wanted: a channel of 0 stands for any number of them."""
    return tuple(shape[1:]) == wanted[1:] and wanted[0] in (0, shape[0])


def check_images(operator: LinearMap, image_shape: Sequence[int]) -> tuple[int, int, int]:
    """(channel, height, width), if the operator measures images of this shape.

    Raises
    ------
    ValueError
        if it does not.
    """
    shape, wanted = tuple(image_shape), operator.image_shape
    multiple = operator.multiple
    if (
        len(shape) != 3
        or min(shape) < 1
        or any(side % multiple for side in shape[1:])
        or (wanted and not fits(shape, wanted))
    ):
        allowed = f" of {wanted[1]} × {wanted[2]} pixels" if wanted else f" with sides that are multiples of {multiple}"
        channels = f" and {wanted[0]} channels" if wanted and wanted[0] else ""
        raise ValueError(
            f"{type(operator).__name__}: images must be (channel, height, width){allowed}{channels}, got {shape}"
        )
    return shape[0], shape[1], shape[2]


def _check_solved(operator: LinearMap, b: Tensor) -> None:
    name = type(operator).__name__
    if 0 in b.shape or b.ndim < 2 or (b.is_complex() and not operator.complex_images):
        real = "" if operator.complex_images else "real, "
        raise ValueError(f"{name}: images must be {real}(batch, …), not empty, got {b.dtype} {tuple(b.shape)}")
    if operator.batch not in (None, len(b)):
        raise ValueError(f"{name}: measures batches of {operator.batch} images, got {len(b)}")
    if operator.checks_itself or operator.image_shape is not None:
        if b.ndim != 4:
            raise ValueError(f"{name}: images must be (batch, channel, height, width), got {tuple(b.shape)}")
        check_images(operator, b.shape[1:])


def _ridge_of(name: str, ridge: float | Tensor, b: Tensor) -> Tensor:
    """The ridge as a tensor of as many axes as b."""
    kind = b.real.dtype
    ones = (1,) * (b.ndim - 1)
    if not isinstance(ridge, Tensor):
        if not (math.isfinite(ridge) and ridge > 0):
            raise ValueError(f"{name}: ridge must be a finite number > 0, got {ridge!r}")
        return torch.full((1, *ones), ridge, dtype=kind, device=b.device)
    if ridge.is_complex() or (ridge.numel() != 1 and tuple(ridge.shape) != (len(b), *ones)):
        raise ValueError(
            f"{name}: ridge must be real, a scalar or of the shape {(len(b), *ones)}, got {ridge.dtype} "
            f"{tuple(ridge.shape)}"
        )
    return ridge.to(kind).reshape(-1, *ones)
