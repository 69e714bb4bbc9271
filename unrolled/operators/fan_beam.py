"""Tomography by rays from a point."""

import math

import torch
from torch import Tensor

from unrolled.operators.radon import Tomography, Window
from unrolled.operators.rays import pixels
from unrolled.system.arraylike import ArrayLike


class FanBeam(Tomography):
    """Line integrals of an image along rays from a source that circles around it, onto a flat or a curved detector.

    Measurements are (batch, channel, angle, detector). At the angle β the source is at source_distance·(−sin β, cos β)
    from the axis, x to the right and y upwards, and the detector on the other side. The axis goes through the pixel
    (height // 2, width // 2); the ray through it falls on the detector `detectors // 2`. A ray at the angle γ from that
    one is the ray of the parallel beam (`Radon`) with θ = β + γ and s = source_distance·sin γ. On a flat detector
    detectors have equal distances, on a curved one (an arc around the source) equal angles.

    `estimate` is filtered back-projection, weighted (Kak and Slaney, "Principles of Computerized Tomographic Imaging",
    1988, section 3.4), in absolute values if the angles go all around. Over a part of a turn rays are weighted by how
    often lines are measured on average (there are no weights for short scans, so edges of the range show), and a
    wedge that was not measured is not made up for.

    Parameters
    ----------
    angles : int, or list of float, Tensor or array (angle,) in [-360, 360]
        so many at equal distances over 360°, from 0; or which, in degrees.
    height, width : int
        of the images.
    source_distance : float
        from the source to the axis, in units of pixel_size; the source lies outside of the image.
    detector_distance : float >= 0
        from the axis to the detector, likewise. At 0, `spacing` is measured at the axis.
    detectors : int, optional
        as many as see the whole image by default. A warning tells if these do not.
    spacing : float > 0, optional
        distance between neighbouring detectors on the detector, likewise; by default a pixel when seen at the axis.
    curved : bool
        an arc around the source instead of a straight line.
    circle : bool
        only the disc inscribed in the image is measured, as if it were 0 outside; estimates are.
    pixel_size : float > 0
        side of a pixel, and with it the unit of line integrals and distances; they count in pixels by default.
    window : str
        of the ramp filter of `estimate`: "ramp" (none), "shepp-logan", "cosine", "hamming" or "hann".

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
    ):
        super().__init__(angles, height, width, circle, pixel_size)
        # Interpolation lets a pixel reach as far as the diagonal of a pixel.
        least = (self.reach + math.sqrt(2)) * pixel_size
        if not (math.isfinite(source_distance) and source_distance > least):
            raise ValueError(
                f"FanBeam: source_distance must be finite and > {least:.4g}, or the source is inside the "
                f"{'disc' if circle else 'image'}, got {source_distance!r}"
            )
        if not (math.isfinite(detector_distance) and detector_distance >= 0):
            raise ValueError(f"FanBeam: detector_distance must be a finite number >= 0, got {detector_distance!r}")
        self.curved, self.radius = curved, source_distance / pixel_size
        at_axis = 1.0
        if spacing is not None:
            self._check_positive("spacing", spacing)
            at_axis = spacing / pixel_size * source_distance / (source_distance + detector_distance)
        widest = math.asin(self.extent / self.radius)
        self._set_detectors(detectors, at_axis, self.radius * (widest if curved else math.tan(widest)))
        opening = at_axis / self.radius
        if curved and self.detectors // 2 * opening >= math.pi / 2:
            raise ValueError(
                f"FanBeam: a curved detector must lie within 90° to both sides, got {self.detectors} detectors at "
                f"{math.degrees(opening):.4g}°"
            )
        self._set_filter(window, opening if curved else 0.0)

    def rays(self) -> tuple[Tensor, Tensor]:
        fan = self._fan()
        return torch.deg2rad(self.angles).unsqueeze(1) + fan, self.radius * fan.sin()

    def seen(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        right, up = pixels(self.height, self.width, angle)
        across = right * angle.cos() + up * angle.sin()
        # Only corners outside of the disc can be as near to the source as this, or behind it.
        ahead = (self.radius + right * angle.sin() - up * angle.cos()).clamp(min=1)
        if self.curved:
            place, squared = self.radius * torch.atan2(across, ahead), ahead.square() + across.square()
        else:
            place, squared = self.radius * across / ahead, ahead.square()
        return place / self.spacing + self.detectors // 2, self.radius**2 / squared

    def obliquity(self) -> Tensor:
        return self._fan().cos()

    def angular_weights(self) -> Tensor:
        arcs = super().angular_weights()
        return arcs / (arcs.sum() / math.pi).clamp(min=1)  # so often is a line measured

    def _fan(self) -> Tensor:
        """Angles between rays and the central ray, (detector,), in radians."""
        place = self._along_detector() / self.radius
        return place if self.curved else place.atan()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {'curved' if self.curved else 'flat'}, source at {self.radius:.6g} pixels"
