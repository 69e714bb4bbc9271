"""Tomography by rays from a point."""

import math
import warnings

import torch
from torch import Tensor

from unrolled.operators.ramp_filters import Window
from unrolled.operators.rays import Plane
from unrolled.operators.scan_angles import covered_range, short_scan_weights
from unrolled.operators.tomography import Sums, Tomography
from unrolled.system.arraylike import ArrayLike


class FanBeam(Tomography):
    """Line integrals of an image along rays from a source that circles around it, onto a flat or a curved detector.

    Measurements are (batch, channel, angle, detector). At the angle β the source is at source_distance·(−sin β, cos β)
    from the axis, x to the right and y upwards, and the detector on the other side. The axis goes through the pixel
    (height // 2, width // 2); the ray through it falls on the detector `detectors // 2`, if not said otherwise. A ray
    at the angle γ from that one is the ray of the parallel beam (`Radon`) with θ = β + γ and
    s = source_distance·sin γ. On a flat detector detectors have equal distances, on a curved one (an arc around the
    source) equal angles. Lengths have the unit of `pixel_size`, such as mm; images in 1/mm, such as attenuation, then
    have line integrals without a unit.

    `estimate` is filtered back-projection, weighted (Kak and Slaney, "Principles of Computerized Tomographic Imaging",
    1988, section 3.4), in absolute values if the angles go all around, or over half a turn and the fan with
    `short_scan`. Over another part of a turn rays are weighted by how often lines are measured on average, so that the
    edges of the range show, and a wedge that was not measured is not made up for.

    Parameters
    ----------
    angles : int, or list of float, Tensor or array (angle,) in [-360, 360]
        so many at equal distances over `span`, from `first_angle`; or which, in degrees.
    height, width : int
        of the images.
    source_distance : float
        from the source to the axis; the source lies outside of the image.
    detector_distance : float >= 0
        from the axis to the detector. At 0, `spacing` and `detector_offset` are measured at the axis.
    detectors : int, optional
        as many as see the whole image by default. A warning tells if these do not.
    spacing : float > 0, optional
        distance between neighbouring detectors on the detector; by default a pixel when seen at the axis.
    curved : bool
        an arc around the source instead of a straight line.
    circle : bool
        only the disc around the axis inside the image is measured, as if it were 0 outside; estimates are.
    pixel_size : float > 0
        side of a pixel, in the unit of lengths; they count in pixels by default.
    window : str
        of the ramp filter of `estimate`: "ramp" (none), "shepp-logan", "cosine", "hamming" or "hann".
    first_angle, span : float
        the first angle, and how far a number of angles reaches, a whole turn by default; see `Radon`.
    detector_offset : float
        place of the detector `detectors // 2` on the detector, seen from where the ray through the axis falls.
    axis : (float, float), optional
        row and column of the pixel through which the axis goes; see `Radon`.
    sums : str
        "bilinear" or "joseph"; see `Radon`.
    short_scan : bool
        `estimate` weights rays so that every line counts once (Parker's weights), for scans that do not go all around.
        A warning tells if angles cover less than half a turn and the fan.

    Raises
    ------
    ValueError
        for a source inside the image, a curved detector around more than half a turn, for no angles, or such that are
        not finite or not in the range, and for sizes that are not positive.

    Examples
    --------
    >>> operator = FanBeam(90, 32, 32, source_distance=64)
    >>> operator(torch.ones(1, 1, 32, 32)).shape
    torch.Size([1, 1, 90, 49])
    """

    turn = 360.0

    def __init__(
        self,
        angles: int | ArrayLike,
        height: int,
        width: int,
        source_distance: float,
        detector_distance: float = 0.0,
        detectors: int | None = None,
        spacing: float | None = None,
        curved: bool = False,
        circle: bool = False,
        pixel_size: float = 1.0,
        window: Window = "ramp",
        first_angle: float = 0.0,
        span: float | None = None,
        detector_offset: float = 0.0,
        axis: tuple[float, float] | None = None,
        sums: Sums = "bilinear",
        short_scan: bool = False,
    ):
        super().__init__(angles, height, width, circle, pixel_size, first_angle, span, axis, sums)
        # Interpolation lets a pixel reach as far as the diagonal of a pixel.
        least = (self.plane.reach + math.sqrt(2)) * pixel_size
        if not (math.isfinite(source_distance) and source_distance > least):
            raise ValueError(
                f"FanBeam: source_distance must be finite and > {least:.4g}, or the source is inside the "
                f"{'disc' if circle else 'image'}, got {source_distance!r}"
            )
        if not (math.isfinite(detector_distance) and detector_distance >= 0):
            raise ValueError(f"FanBeam: detector_distance must be a finite number >= 0, got {detector_distance!r}")
        self._check_finite("detector_offset", detector_offset)
        self.curved, self.radius, self.short_scan = curved, source_distance / pixel_size, short_scan
        at_axis = 1.0
        if spacing is not None:
            self._check_positive("spacing", spacing)
            at_axis = spacing / pixel_size * source_distance / (source_distance + detector_distance)
        shift = detector_offset / pixel_size * source_distance / (source_distance + detector_distance)
        widest = math.asin(self.extent / self.radius)
        self._set_detectors(detectors, at_axis, shift, self.radius * (widest if curved else math.tan(widest)))
        opening = at_axis / self.radius
        if curved and self.detectors // 2 * opening + abs(shift) / self.radius >= math.pi / 2:
            raise ValueError(
                f"FanBeam: a curved detector must lie within 90° to both sides, got {self.detectors} detectors at "
                f"{math.degrees(opening):.4g}°"
            )
        self._set_filter(window, opening if curved else 0.0)
        if short_scan:
            self._check_range(180 + 2 * math.degrees(widest))

    def lines(self, place: Tensor) -> tuple[Tensor, Tensor]:
        fan = place / self.radius if self.curved else (place / self.radius).atan()
        return fan, self.radius * fan.sin()

    def seen(self, angle: Tensor, plane: Plane) -> tuple[Tensor, Tensor]:
        right, up = plane.places(angle)
        across = right * angle.cos() + up * angle.sin()
        # Only corners outside of the disc can be as near to the source as this, or behind it.
        ahead = (self.radius + right * angle.sin() - up * angle.cos()).clamp(min=1)
        if self.curved:
            place, squared = self.radius * torch.atan2(across, ahead), ahead.square() + across.square()
        else:
            place, squared = self.radius * across / ahead, ahead.square()
        return place, self.radius**2 / squared

    def weighted(self, y: Tensor, fan: Tensor) -> Tensor:
        return short_scan_weights(self.angles, fan) * y if self.short_scan else y

    def angular_weights(self) -> Tensor:
        weights = super().angular_weights()
        if self.short_scan:
            return weights
        return weights / (weights.sum() / math.pi).clamp(min=1)  # so often is a line measured

    def _check_range(self, needed: float) -> None:
        covered = float(covered_range(self.angles)[1])
        if covered < needed - 0.01:
            warnings.warn(
                f"FanBeam: angles cover {covered:.4g}°, and a short scan needs {needed:.4g}°, half a turn and the fan: "
                "estimates are wrong at the rim",
                stacklevel=4,
            )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {'curved' if self.curved else 'flat'}, source at {self.radius:.6g} pixels"
