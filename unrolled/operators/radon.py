"""Tomography: what all beams share, and the parallel beam."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from unrolled.operators.linear_map import check_images
from unrolled.operators.operator import LinearOperator
from unrolled.operators.rays import angles_at_once, integrate, pixels, spread
from unrolled.operators.root_ramp import RootRamp
from unrolled.system.arraylike import ArrayLike, as_tensor
from unrolled.system.devices import full_precision

Window = Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"]

WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "ramp": torch.ones_like,
    "shepp-logan": torch.sinc,
    "cosine": lambda frequency: torch.cos(math.pi * frequency),
    "hamming": lambda frequency: 0.54 + 0.46 * torch.cos(2 * math.pi * frequency),
    "hann": lambda frequency: 0.5 + 0.5 * torch.cos(2 * math.pi * frequency),
}
"""By what the ramp filter is multiplied; frequencies in periods per detector, at most ½."""

MISSING = 4
"""A gap between neighbouring angles of more than so many medians is a wedge that was not measured."""

MANY, HALF_TURN = 8, 2.5
"""So many angles within 2π that reach over nearly π are probably radians."""


class Tomography(LinearOperator):
    """Line integrals of an image: what beams of all geometries share.

    A beam sets `detectors` and `spacing` (in pixels, at the axis) by `_set_detectors`, says where its rays are, and
    where pixels are seen.
    """

    angles: Tensor
    disc: Tensor | None
    response: Tensor
    tensors = ("angles",)
    checks_itself = True
    turn: float
    """The angle after which a beam sees the same lines again, in degrees."""

    def __init__(self, angles: int | ArrayLike, height: int, width: int, circle: bool, pixel_size: float):
        super().__init__()
        if height < 1 or width < 1:
            raise ValueError(f"{self._name}: height and width must be >= 1, got {height!r} and {width!r}")
        self._check_positive("pixel_size", pixel_size)
        self.height, self.width, self.circle, self.pixel_size = height, width, circle, pixel_size
        self.image_shape = (0, height, width)
        self.register_buffer("angles", self._degrees(angles), persistent=not isinstance(angles, (int, list, tuple)))
        disc = None
        if circle:
            right, up = pixels(height, width, self.angles)
            disc = (right.square() + up.square() <= (min(height, width) // 2) ** 2).to(self.angles.dtype)
        self.register_buffer("disc", disc, persistent=False)

    @property
    def reach(self) -> float:
        """How far pixels that are measured lie from the axis, at most, in pixels."""
        if self.circle:
            return min(self.height, self.width) // 2
        return math.hypot(self.height // 2, self.width // 2)

    @property
    def extent(self) -> float:
        """Half the diameter of the image, of its disc if it is a circle, in pixels."""
        return (min(self.height, self.width) if self.circle else math.hypot(self.height, self.width)) / 2

    @abstractmethod
    def rays(self) -> tuple[Tensor, Tensor]:
        """Angles, (angle, detector) or (angle, 1), in radians, and offsets, (detector,), in pixels; see `rays.py`."""

    @abstractmethod
    def seen(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """On which detector every pixel is seen, and the weight of its filtered back-projection.

        Parameters
        ----------
        angle : Tensor, (angle, 1, 1), in radians

        Returns
        -------
        position : Tensor, (angle, height, width), counted in detectors
        weight : Tensor, that can be broadcast to it
        """

    @abstractmethod
    def obliquity(self) -> Tensor:
        """Cosine of the angle between rays and the central ray, (detector,) or a scalar."""

    def angular_weights(self) -> Tensor:
        """The part of half a turn that every angle stands for, (angle,), in radians."""
        return _arcs(self.angles, self.turn)

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
            x = x.to(self.angles.dtype)
            angle, offset = self.rays()
            return self.pixel_size * integrate(x if self.disc is None else self.disc * x, angle, offset, self.reach)

    def adjoint(self, y: Tensor) -> Tensor:
        self._check_measurements(y)
        with full_precision(y):
            angle, offset = self.rays()
            y = self.pixel_size * y.to(self.angles.dtype)
            return self._inside(spread(y, angle, offset, self.reach, self.height, self.width))

    def estimate(self, y: Tensor) -> Tensor:
        """Filtered back-projection, in the units of the image: see the class for what it needs to be exact."""
        self._check_measurements(y)
        with full_precision(y):
            y = self.obliquity() / self.pixel_size * y.to(self.angles.dtype)
            return self._inside(self._back_project(self._filtered(y)))

    def conditioner(self) -> LinearOperator:
        return RootRamp(self.detectors)

    def _filtered(self, y: Tensor) -> Tensor:
        """Projections after the ramp filter, which reach beyond the detectors, as far as there are pixels."""
        y, size = F.pad(y, (self.margin, self.margin)), 2 * (len(self.response) - 1)
        return torch.fft.irfft(torch.fft.rfft(y, size) * self.response, size)[..., : y.shape[-1]]

    def _back_project(self, y: Tensor) -> Tensor:
        """Every pixel collects what is at its place on the detector, linearly interpolated, of every angle."""
        batch, channel = y.shape[:2]
        rows = rearrange(y, "batch channel angle detector -> angle (batch channel) 1 detector")
        angles = torch.deg2rad(self.angles)[:, None, None]
        weights = self.angular_weights()[:, None, None]
        images = y.new_zeros(batch * channel, self.height, self.width)
        size = angles_at_once(batch * channel * self.height * self.width)
        for angle, weight, values in zip(angles.split(size), weights.split(size), rows.split(size), strict=True):
            position, nearness = self.seen(angle)
            column = (2 * (position + self.margin) + 1) / values.shape[-1] - 1
            grid = torch.stack((column, torch.zeros_like(column)), 1).permute(0, 2, 3, 1)
            found = F.grid_sample(values, grid, align_corners=False)
            images = images + (found * (weight * nearness).unsqueeze(1)).sum(0)
        return images.unflatten(0, (batch, channel))

    def _inside(self, x: Tensor) -> Tensor:
        return x if self.disc is None else self.disc * x

    def _along_detector(self) -> Tensor:
        """Places of the detectors, (detector,), in pixels at the axis."""
        index = torch.arange(self.detectors, dtype=self.angles.dtype, device=self.angles.device)
        return self.spacing * (index - self.detectors // 2)

    def _set_detectors(self, detectors: int | None, spacing: float, half: float) -> None:
        """Take so many detectors, or as many as see the image.

        Parameters
        ----------
        detectors : int or None
        spacing : float
            in pixels at the axis.
        half : float
            what they should see on each side of the axis, likewise.
        """
        wanted = math.ceil(2 * half / spacing)
        if detectors is not None and detectors < 1:
            raise ValueError(f"{self._name}: detectors must be >= 1, got {detectors!r}")
        self.spacing, self.detectors = spacing, wanted if detectors is None else detectors
        self.margin = max(0, math.ceil(half / spacing) + 1 - (self.detectors - 1) // 2)
        if (self.detectors + 1) * spacing < 2 * half:
            warnings.warn(
                f"{self._name}: {detectors} detectors do not see the whole {'disc' if self.circle else 'image'}, "
                f"{wanted} would: estimates are wrong if there is something outside",
                stacklevel=4,
            )

    def _set_filter(self, window: str, opening: float = 0.0) -> None:
        if window not in WINDOWS:
            raise ValueError(f"{self._name}: window must be one of {', '.join(WINDOWS)}, got {window!r}")
        response = _ramp(self.detectors + 2 * self.margin, opening)
        frequency = torch.fft.rfftfreq(2 * (len(response) - 1), dtype=torch.float64)
        response = response * WINDOWS[window](frequency) / self.spacing
        self.register_buffer("response", response.to(self.angles.dtype), persistent=False)

    def _degrees(self, angles: int | ArrayLike) -> Tensor:
        kind = torch.get_default_dtype()
        if isinstance(angles, int):
            if angles < 1:
                raise ValueError(f"{self._name}: angles must be >= 1, got {angles!r}")
            return (self.turn * torch.arange(angles, dtype=torch.float64) / angles).to(kind)
        given = as_tensor(f"{self._name}: angles", angles).detach()
        if given.ndim != 1 or not given.numel() or given.is_complex() or given.dtype is torch.bool:
            raise ValueError(
                f"{self._name}: angles must be a number of angles or a list of real ones, got {given.dtype} of the "
                f"shape {tuple(given.shape)}"
            )
        given = given.double()
        wrong = ~(given.abs() <= 360)
        if bool(wrong.any()):
            raise ValueError(f"{self._name}: angles must be in [-360, 360] degrees, got {float(given[wrong][0])}")
        if (
            len(given) >= MANY
            and bool(given.abs().max() <= 2 * math.pi)
            and bool(given.max() - given.min() > HALF_TURN)
        ):
            warnings.warn(
                f"{self._name}: angles are degrees, and lie between {float(given.min()):.4g} and "
                f"{float(given.max()):.4g}; if they are radians, give torch.rad2deg of them",
                stacklevel=6,
            )
        return given.to(kind)

    def _check_positive(self, name: str, value: float) -> None:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{self._name}: {name} must be a finite number > 0, got {value!r}")

    def _check_measurements(self, y: Tensor) -> None:
        shape = (len(self.angles), self.detectors)
        if y.ndim != 4 or y.shape[2:] != shape or 0 in y.shape or y.is_complex():
            raise ValueError(
                f"{self._name}: sinograms must be real, (batch, channel, angle, detector) with {shape[0]} angles and "
                f"{shape[1]} detectors, got {tuple(y.shape)}, {y.dtype}"
            )

    @property
    def _name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        return f"{self.height}×{self.width}, {len(self.angles)} angles, {self.detectors} detectors"


class Radon(Tomography):
    """y(θ, s) = ∫ x along the line of angle θ and offset s: tomography by parallel rays.

    Measurements are (batch, channel, angle, detector). Rays and angles are those of scikit-image's `radon`: with x to
    the right and y upwards, s = x·cos θ + y·sin θ. The axis goes through the pixel (height // 2, width // 2) and falls
    on the detector `detectors // 2`. The image is interpolated bilinearly and summed at steps of a pixel along every
    ray; nothing is stored but the angles.

    `estimate` is filtered back-projection (Kak and Slaney, "Principles of Computerized Tomographic Imaging", 1988,
    section 3.3), in absolute values. Each angle counts by the gaps to its neighbours modulo 180°. It approaches the
    image where angles lie closer than a pixel at the rim, from about π/2·side of them; with fewer it has streaks. A
    gap of more than four medians is a wedge that was not measured, and is not made up for.

    Parameters
    ----------
    angles : int, or list of float, Tensor or array (angle,) in [-360, 360]
        so many at equal distances over 180°, from 0; or which, in degrees.
    height, width : int
        of the images.
    detectors : int, optional
        as many as see the whole image by default. A warning tells if these do not.
    spacing : float > 0, optional
        distance between neighbouring detectors, in units of pixel_size; a pixel by default.
    circle : bool
        only the disc inscribed in the image is measured, as if it were 0 outside; estimates are.
    pixel_size : float > 0
        side of a pixel, and with it the unit of line integrals; they count in pixels by default.
    window : str
        of the ramp filter of `estimate`: "ramp" (none), "shepp-logan", "cosine", "hamming" or "hann".

    Raises
    ------
    ValueError
        for no angles, or such that are not finite or not in the range, and for sizes that are not positive.

    Examples
    --------
    >>> operator = Radon(60, 32, 32)
    >>> operator(torch.ones(1, 1, 32, 32)).shape
    torch.Size([1, 1, 60, 46])
    """

    turn = 180.0

    def __init__(
        self,
        angles: int | ArrayLike,
        height: int,
        width: int,
        detectors: int | None = None,
        spacing: float | None = None,
        circle: bool = False,
        pixel_size: float = 1.0,
        window: Window = "ramp",
    ):
        super().__init__(angles, height, width, circle, pixel_size)
        if spacing is not None:
            self._check_positive("spacing", spacing)
        self._set_detectors(detectors, 1.0 if spacing is None else spacing / pixel_size, self.extent)
        self._set_filter(window)

    def rays(self) -> tuple[Tensor, Tensor]:
        return torch.deg2rad(self.angles).unsqueeze(1), self._along_detector()

    def seen(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        right, up = pixels(self.height, self.width, angle)
        place = (right * angle.cos() + up * angle.sin()) / self.spacing + self.detectors // 2
        return place, torch.ones_like(angle)

    def obliquity(self) -> Tensor:
        return torch.ones_like(self.response[0])


def _ramp(detectors: int, opening: float) -> Tensor:
    """The ramp filter, from its samples (Kak and Slaney, eq. 61): its frequencies alone would shift the mean.

    Parameters
    ----------
    detectors : int
    opening : float
        angle between neighbouring detectors, in radians, if they are at equal angles (eq. 100); otherwise 0.

    Returns
    -------
    Tensor, (frequency,), float64; to be divided by the distance of the detectors
    """
    size = max(64, 2 ** math.ceil(math.log2(2 * detectors)))  # so long that the filter does not wrap around
    lag = torch.arange(size, dtype=torch.float64)
    lag = torch.minimum(lag, size - lag)
    taps = torch.where(lag % 2 == 1, -1 / (math.pi * lag).square(), 0.0)
    if opening:
        # Lags of the whole detector and more are never met.
        reach = lag.clamp(1, detectors) * opening
        taps = torch.where(lag < detectors, taps * (reach / reach.sin()).square(), 0.0)
    taps[0] = 0.25
    return torch.fft.rfft(taps).real


def _arcs(angles: Tensor, turn: float) -> Tensor:
    """Half of the gaps to both neighbours, modulo a turn, in radians; a missing wedge counts as a median."""
    order = torch.argsort(angles % turn)
    places = (angles % turn)[order]
    gaps = torch.cat((places[1:], places[:1] + turn)) - places
    median = torch.where(gaps > 1e-4, gaps, torch.nan).nanmedian()  # angles may be there twice
    gaps = torch.where(gaps > MISSING * median, median, gaps)
    return torch.deg2rad(torch.zeros_like(gaps).scatter(0, order, (gaps + gaps.roll(1)) / 2))
