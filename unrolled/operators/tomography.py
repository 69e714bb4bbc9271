"""Tomography: what beams of all geometries share."""

import copy
import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from unrolled.operators.foreign_functions import linked, pulled_back
from unrolled.operators.linear_map import blank, check_images
from unrolled.operators.operator import LinearOperator
from unrolled.operators.ramp_filters import windowed_ramp
from unrolled.operators.ray_matrix import RayMatrix, Scan, back_projection, make_ray_matrix
from unrolled.operators.rays import Plane, angles_at_once, integrate, spread
from unrolled.operators.root_ramp import RootRamp
from unrolled.operators.scan_angles import arcs, stated_angles
from unrolled.system.arraylike import ArrayLike
from unrolled.system.devices import full_precision, in_double
from unrolled.system.scalars import as_number

Sums = Literal["bilinear", "joseph"]

TOLERANCE, MOST = 1e-7, 100
"""How close two estimates of ‖A‖² come, relatively, before power iteration ends; and its steps, at most."""


class Tomography(LinearOperator):
    """Line integrals of an image: what beams of all geometries share.

    A beam sets its detectors by `_set_detectors`, says where their rays are, and where pixels are seen.
    """

    angles: Tensor
    disc: Tensor | None
    response: Tensor
    tensors = ("angles",)
    norm_takes_long = True
    checks_itself = True
    turn: float
    """The angle after which a beam sees the same lines again, in degrees."""

    def __init__(
        self,
        angles: int | ArrayLike,
        height: int,
        width: int,
        circle: bool,
        pixel_size: float,
        first_angle: float,
        span: float | None,
        axis: tuple[float, float] | None,
        sums: Sums,
    ):
        super().__init__()
        if height < 1 or width < 1:
            raise ValueError(f"{self._name}: height and width must be >= 1, got {height!r} and {width!r}")
        if sums not in ("bilinear", "joseph"):
            raise ValueError(f"{self._name}: sums must be bilinear or joseph, got {sums!r}")
        self._check_positive("pixel_size", pixel_size)
        self.height, self.width, self.circle, self.pixel_size = height, width, circle, pixel_size
        self.image_shape = (0, height, width)
        numbers = stated_angles(self._name, angles, first_angle, span, self.turn)
        self.register_buffer("angles", numbers, persistent=not isinstance(angles, (int, list, tuple)))
        row, column = self._axis(axis)
        reach: float = min(height, width) // 2
        if not circle:
            reach = math.hypot(max(row, height - 1 - row), max(column, width - 1 - column))
        self.plane = Plane(height, width, row, column, reach, sums == "joseph")
        disc = None
        if circle:
            right, up = self.plane.places(self.angles)
            disc = (right.square() + up.square() <= reach**2).to(self.angles.dtype)
        self.register_buffer("disc", disc, persistent=False)
        self.extent = (min(height, width) if circle else math.hypot(height, width)) / 2
        """How far from the axis the image reaches, its disc if it is a circle, in pixels."""
        if axis is not None and not circle:
            self.extent = math.hypot(max(row, height - 1 - row) + 0.5, max(column, width - 1 - column) + 0.5)
        self._kept: dict[str, Any] = {}
        self._norm: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def lines(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """The rays to places on the detector.

        Parameters
        ----------
        place : Tensor, (place,), in pixels at the axis, from where the ray through the axis falls

        Returns
        -------
        fan : Tensor, (place,) or (1,)
            the angle between the ray and the one through the axis, in radians.
        offset : Tensor, (place,)
            its distance from the axis, in pixels.
        """

    @abstractmethod
    def seen(self, angle: Tensor, plane: Plane) -> tuple[Tensor, Tensor]:
        """Where on the detector every pixel is seen, and the weight of its filtered back-projection.

        Parameters
        ----------
        angle : Tensor, (angle, 1, 1), in radians
        plane : Plane

        Returns
        -------
        place : Tensor, (angle, height, width), in pixels at the axis
        weight : Tensor, that can be broadcast to it
        """

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return check_images(self, image_shape)[0], len(self.angles), self.detectors

    def forward(self, x: Tensor) -> Tensor:
        fits = x.ndim == 4 and x.shape[2:] == (self.height, self.width) and 0 not in x.shape
        if not fits or x.is_complex():
            raise ValueError(
                f"{self._name}: images must be real, (batch, channel, {self.height}, {self.width}), "
                f"got {tuple(x.shape)}, {x.dtype}"
            )
        with full_precision(x):
            return self.pixel_size * self._integrated(self._inside(x.to(self.angles.dtype)))

    def adjoint(self, y: Tensor) -> Tensor:
        self._check_measurements(y)
        with full_precision(y):
            return self._inside(self._spread(self.pixel_size * y.to(self.angles.dtype)))

    def estimate(self, y: Tensor) -> Tensor:
        """Filtered back-projection, in the units of the image: see the class for what it needs to be exact."""
        self._check_measurements(y)
        with full_precision(y):
            y = self._weighing() * y.to(self.angles.dtype)
            return self._inside(self._back_project(self._filtered(y)))

    def _weighing(self) -> Tensor:
        """By what measurements are multiplied before they are filtered, (angle, detector)."""
        if torch.compiler.is_exporting() and "weighing" in self._kept:
            return self._kept["weighing"]
        fan, _ = self.lines(self._along_detector())
        cosines = (fan.cos() / self.pixel_size).expand(len(self.angles), self.detectors)
        return self.weighted(cosines, fan)

    def _arcs(self) -> Tensor:
        """`angular_weights`, which a program holds: other runtimes do not sort angles."""
        if torch.compiler.is_exporting() and "arcs" in self._kept:
            return self._kept["arcs"]
        return self.angular_weights()

    def weighted(self, y: Tensor, fan: Tensor) -> Tensor:
        """Measurements, each as often as its line is to count if the angles of a scan alone do not say so."""
        return y

    def angular_weights(self) -> Tensor:
        """The part of half a turn that every angle stands for, (angle,), in radians."""
        return arcs(self.angles, self.turn)

    @torch.no_grad()
    def norm(self) -> Tensor:
        """The operator norm ‖A‖, by power iteration from an image of ones; kept until the angles change."""
        if self._norm is None or not self._as_then(self._norm[0]):
            x = blank(self, (1, self.height, self.width)) + 1
            if not self.plane.joseph:  # nearly the same operator is faster
                other = copy.copy(self)
                other.plane = self.plane._replace(joseph=True)
                x, _ = other._largest(x)
            self._norm = self.angles.clone(), self._largest(x)[1]
        return self._norm[1]

    def _largest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image that is measured as the largest for its own size, and the norm."""
        for _ in range(MOST):
            x = x / x.norm()
            following = self.gram(x)
            if x.is_meta:
                break
            squared, inner = in_double(following).norm(), (in_double(x) * in_double(following)).sum()
            # Of ‖A‖² the norm is too small by little more than the inner product by more than the norm.
            if squared - inner <= TOLERANCE * squared:
                break
            x = following
        return x, following.norm().sqrt()

    def _integrated(self, x: Tensor) -> Tensor:
        if (matrix := self.matrix_of_rays(x)) is not None:
            return linked(matrix.integrate, matrix.spread, x)
        return integrate(x, *self._rays(), self.plane)

    def _spread(self, y: Tensor) -> Tensor:
        if (matrix := self.matrix_of_rays(y)) is not None:
            return linked(matrix.spread, matrix.integrate, y)
        return spread(y, *self._rays(), self.plane)

    def matrix_of_rays(self, like: Tensor) -> RayMatrix | None:
        """The rays as a matrix, on CPUs, made when it is first needed; None if they are better summed without."""
        if not self._takes_matrices(like):
            return None
        if "rays" not in self._kept:
            self._kept["rays"] = make_ray_matrix(self._scan(0), self.plane, self._lines_of, self.angles.dtype)
        return self._kept["rays"]

    def _takes_matrices(self, like: Tensor) -> bool:
        if not self.plane.joseph or like.device.type != "cpu":
            return False
        if torch.compiler.is_compiling():  # only a program holds matrices
            return torch.compiler.is_exporting() and {"rays", "collected"} <= self._kept.keys()
        if "angles" not in self._kept or not self._as_then(self._kept["angles"]):
            self._kept = {"angles": self.angles.clone()}
        return True

    def prepare_program(self) -> None:
        if self._takes_matrices(self.angles):
            self.forward(blank(self, (1, self.height, self.width)))
            self._back_project(self.angles.new_zeros(1, 1, len(self.angles), self.detectors + 2 * self.margin))
            self._kept |= {name: kept.padded() for name, kept in self._kept.items() if hasattr(kept, "padded")}
        self._kept |= {"weighing": self._weighing(), "arcs": self.angular_weights()}

    def _scan(self, margin: int) -> Scan:
        number = torch.arange(-margin, self.detectors + margin) - self.detectors // 2
        return Scan(self.angles.tolist(), number, self.shift == 0, self.turn == 180)

    def _as_then(self, angles: Tensor) -> bool:
        same = angles.dtype == self.angles.dtype and angles.device == self.angles.device
        return same and (angles.is_meta or torch.equal(angles, self.angles))

    def _lines_of(self, number: Tensor) -> tuple[Tensor, Tensor]:
        return self.lines(self.spacing * number + self.shift)

    def _along_detector(self) -> Tensor:
        """Places of the detectors, (detector,), in pixels at the axis."""
        index = torch.arange(self.detectors, dtype=self.angles.dtype, device=self.angles.device)
        return self.spacing * (index - self.detectors // 2) + self.shift

    def _rays(self) -> tuple[Tensor, Tensor]:
        """Angles, (angle, detector) or (angle, 1), in radians, and offsets, (detector,), in pixels; see `rays.py`."""
        fan, offset = self.lines(self._along_detector())
        return torch.deg2rad(self.angles).unsqueeze(1) + fan, offset

    def conditioner(self) -> LinearOperator:
        return RootRamp(self.detectors)

    def _filtered(self, y: Tensor) -> Tensor:
        """Projections after the ramp filter, which reach beyond the detectors, as far as there are pixels."""
        y, size = F.pad(y, (self.margin, self.margin)), 2 * (len(self.response) - 1)
        return torch.fft.irfft(torch.fft.rfft(y, size) * self.response, size)[..., : y.shape[-1]]

    def _back_project(self, y: Tensor) -> Tensor:
        """Every pixel collects what is at its place on the detector, linearly interpolated, of every angle."""
        if not self._takes_matrices(y):
            return self._collected(y)
        if "collected" not in self._kept:
            scan, kind = self._scan(self.margin), self.angles.dtype
            self._kept["collected"] = back_projection(scan, self.plane, self._numbers_seen, kind)
        if (matrix := self._kept["collected"]) is None:
            return self._collected(y)
        weights, shape = self._arcs()[:, None], y.shape[2:]

        def adjoint(x: Tensor) -> Tensor:
            return pulled_back(self._collected, x.new_zeros(*x.shape[:2], *shape), x)

        return linked(lambda y: matrix(weights * y), adjoint, y)

    def _collected(self, y: Tensor) -> Tensor:
        batch, channel = y.shape[:2]
        rows = rearrange(y, "batch channel angle detector -> angle (batch channel) 1 detector")
        angles = torch.deg2rad(self.angles)[:, None, None]
        weights = self._arcs()[:, None, None]
        images = y.new_zeros(batch * channel, self.height, self.width)
        size = angles_at_once(batch * channel * self.height * self.width)
        for angle, weight, values in zip(angles.split(size), weights.split(size), rows.split(size), strict=True):
            place, nearness = self.seen(angle, self.plane)
            position = (place - self.shift) / self.spacing + self.detectors // 2
            column = (2 * (position + self.margin) + 1) / values.shape[-1] - 1
            grid = torch.stack((column, torch.zeros_like(column)), 1).permute(0, 2, 3, 1)
            found = F.grid_sample(values, grid, align_corners=False)
            images = images + (found * (weight * nearness).unsqueeze(1)).sum(0)
        return images.unflatten(0, (batch, channel))

    def _numbers_seen(self, angle: Tensor, plane: Plane) -> tuple[Tensor, Tensor]:
        place, nearness = self.seen(angle, plane)
        return (place - self.shift) / self.spacing, nearness

    def _inside(self, x: Tensor) -> Tensor:
        return x if self.disc is None else self.disc * x

    def _set_detectors(self, detectors: int | None, spacing: float, shift: float, extent: float) -> None:
        """Take so many detectors, or as many as see the image.

        Parameters
        ----------
        detectors : int or None
        spacing, shift : float
            the distance between neighbours, and the place of the detector `detectors // 2`, in pixels at the axis.
        extent : float
            what they should see on each side of the axis, likewise.
        """
        half = extent + abs(shift)
        wanted = math.ceil(2 * half / spacing)
        if detectors is not None and detectors < 1:
            raise ValueError(f"{self._name}: detectors must be >= 1, got {detectors!r}")
        if abs(shift) > extent:
            raise ValueError(
                f"{self._name}: detector_offset must put the detector `detectors // 2` where it sees the "
                f"{'disc' if self.circle else 'image'}, up to {extent:.4g} pixels from the axis, got {shift:.4g} there"
            )
        self.spacing, self.shift, self.detectors = spacing, shift, wanted if detectors is None else detectors
        self.margin = max(0, math.ceil(half / spacing) + 1 - (self.detectors - 1) // 2)
        if (self.detectors + 1) * spacing < 2 * half:
            warnings.warn(
                f"{self._name}: {self.detectors} detectors do not see the whole {'disc' if self.circle else 'image'}, "
                f"{wanted} would: estimates are wrong if there is something outside",
                stacklevel=4,
            )

    def _set_filter(self, window: str, opening: float = 0.0) -> None:
        response = windowed_ramp(self._name, window, self.detectors + 2 * self.margin, opening) / self.spacing
        self.register_buffer("response", response.to(self.angles.dtype), persistent=False)

    def _axis(self, axis: Sequence[float] | None) -> tuple[float, float]:
        if axis is None:
            return self.height // 2, self.width // 2
        numbers = [as_number(value) for value in axis] if isinstance(axis, (list, tuple)) else []
        if len(numbers) == 2 and numbers[0] is not None and numbers[1] is not None:
            row, column = numbers[0], numbers[1]
            if -0.5 <= row <= self.height - 0.5 and -0.5 <= column <= self.width - 0.5:
                return row, column
        raise ValueError(
            f"{self._name}: axis must be (row, column) in the image, from -0.5 to {self.height - 0.5} and "
            f"{self.width - 0.5}, got {axis!r}"
        )

    def _check_positive(self, name: str, value: float) -> None:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{self._name}: {name} must be a finite number > 0, got {value!r}")

    def _check_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise ValueError(f"{self._name}: {name} must be a finite number, got {value!r}")

    def _check_measurements(self, y: Tensor) -> None:
        shape = (len(self.angles), self.detectors)
        if y.ndim != 4 or y.shape[2:] != shape or 0 in y.shape or y.is_complex():
            raise ValueError(
                f"{self._name}: sinograms must be real, (batch, channel, angle, detector) with {shape[0]} angles and "
                f"{shape[1]} detectors, got {tuple(y.shape)}, {y.dtype}"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}  # copies make their own matrix when they need it

    @property
    def _name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        return f"{self.height}×{self.width}, {len(self.angles)} angles, {self.detectors} detectors"
