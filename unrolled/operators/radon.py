"""Tomography by parallel rays."""

import torch
from torch import Tensor

from unrolled.operators.ramp_filters import Window
from unrolled.operators.rays import Plane
from unrolled.operators.tomography import Sums, Tomography
from unrolled.system.arraylike import ArrayLike


class Radon(Tomography):
    """y(θ, s) = ∫ x along the line of angle θ and offset s: tomography by parallel rays.

    Measurements are (batch, channel, angle, detector). Rays and angles are those of scikit-image's `radon`: with x to
    the right and y upwards, s = x·cos θ + y·sin θ. The axis goes through the pixel (height // 2, width // 2) and falls
    on the detector `detectors // 2`, if not said otherwise. Lengths have the unit of `pixel_size`, such as mm; images
    in 1/mm, such as attenuation, then have line integrals without a unit.

    `estimate` is filtered back-projection (Kak and Slaney, "Principles of Computerized Tomographic Imaging", 1988,
    section 3.3), in absolute values. Each angle counts by the gaps to its neighbours modulo 180°. It approaches the
    image where angles lie closer than a pixel at the rim, from about π/2·side of them; with fewer it has streaks. A
    gap of more than four medians is a wedge that was not measured, and is not made up for.

    Parameters
    ----------
    angles : int, or list of float, Tensor or array (angle,) in [-360, 360]
        so many at equal distances over `span`, from `first_angle`; or which, in degrees.
    height, width : int
        of the images.
    detectors : int, optional
        as many as see the whole image by default. A warning tells if these do not.
    spacing : float > 0, optional
        distance between neighbouring detectors; a pixel by default.
    circle : bool
        only the disc around the axis inside the image is measured, as if it were 0 outside; estimates are.
    pixel_size : float > 0
        side of a pixel, in the unit of lengths; they count in pixels by default.
    window : str
        of the ramp filter of `estimate`: "ramp" (none), "shepp-logan", "cosine", "hamming" or "hann".
    first_angle : float in [-360, 360]
        the first angle, in degrees; what is added to each, if they are a list.
    span : float in [-360, 360], not 0, optional
        how far a number of angles reaches, without its end, in degrees; half a turn by default. A scanner that turns
        the other way has a negative one.
    detector_offset : float
        place of the detector `detectors // 2`, seen from where the axis falls on the detector.
    axis : (float, float), optional
        row and column of the pixel through which the axis goes, also between pixels: (h − 1) / 2, (w − 1) / 2 is the
        middle of the image.
    sums : str
        "bilinear": along every ray the image is interpolated bilinearly and summed at steps of a pixel, as scikit-image
        does it; nothing is stored. "joseph": interpolated linearly where the ray crosses rows or columns of pixels,
        whichever it crosses more of, which ASTRA calls linear; on CPUs as a sparse matrix that is made when it is first
        needed, and much faster.

    Raises
    ------
    ValueError
        for no angles, or such that are not finite or not in the range, for sizes that are not positive, and for an axis
        outside of the image.

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
        first_angle: float = 0.0,
        span: float | None = None,
        detector_offset: float = 0.0,
        axis: tuple[float, float] | None = None,
        sums: Sums = "bilinear",
    ):
        super().__init__(angles, height, width, circle, pixel_size, first_angle, span, axis, sums)
        if spacing is not None:
            self._check_positive("spacing", spacing)
        self._check_finite("detector_offset", detector_offset)
        shift = detector_offset / pixel_size
        self._set_detectors(detectors, 1.0 if spacing is None else spacing / pixel_size, shift, self.extent)
        self._set_filter(window)

    def lines(self, place: Tensor) -> tuple[Tensor, Tensor]:
        return place.new_zeros(1), place

    def seen(self, angle: Tensor, plane: Plane) -> tuple[Tensor, Tensor]:
        right, up = plane.places(angle)
        return right * angle.cos() + up * angle.sin(), torch.ones_like(angle)
