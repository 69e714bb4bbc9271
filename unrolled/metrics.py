"""Image quality: one number per image."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.system.arraylike import as_tensor, is_floating, refuse_meta
from unrolled.system.devices import in_double
from unrolled.system.scalars import whole_number
from unrolled.system.scales import OUTSIDE, ROUNDING, WHITES, Range, magnitudes

ROWS = 256

Peak = float | tuple[float, float]
"""White, where black is 0; or (black, white)."""

APART = 4.0
"""An image whose mean is this many times white is not of the truth's scale."""


def psnr(image: Any, truth: Any, peak: Peak | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10 log₁₀(peak²/mse), after clipping the image to [0, peak].

    Of complex images that of their magnitudes.

    Parameters
    ----------
    image, truth : Tensor or array, (batch, channel, height, width), real or complex, in the same units
    peak : float or (black, white), optional
        what white is; given a pair, the peak is white − black, and the image is clipped to both. By default what the
        type of the truth states: 1 for floating point, 255 for bytes, 65535 for unsigned 16-bit numbers.

    Returns
    -------
    Tensor, (batch,); inf where both are equal, NaN where the image is not finite

    Raises
    ------
    ValueError
        for shapes or scales that differ, a truth that is not finite or lies outside of the peak, or a type whose white
        is not known.
    """
    image, truth = _pair(image, truth)
    return _psnr(image, truth, _range(image, truth, peak), _shown)


def shown_psnr(image: Tensor, truth: Tensor) -> Tensor:
    """PSNR, peak 1, of what is seen of two images between black, 0, and white, 1: both are clipped, none is refused.

    Parameters
    ----------
    image, truth : Tensor, (batch, channel, height, width), real or complex

    Returns
    -------
    Tensor, (batch,)
    """
    image, truth = _pair(image, truth)
    return _psnr(image, truth, Range(), _clipped)


def _psnr(image: Tensor, truth: Tensor, span: Range, see: Callable[[Tensor, Range], Tensor]) -> Tensor:
    # By rows, so that a large image is never in memory in double precision.
    error = sum(
        (_clipped(part, span) - see(true, span)).square().flatten(1).sum(1)
        for part, true in zip(image.split(ROWS, dim=-2), truth.split(ROWS, dim=-2), strict=True)
    )
    assert isinstance(error, Tensor)
    return -10 * (error / image[0].numel()).log10()


def ssim(image: Any, truth: Any, window: int = 7, peak: Peak | None = None) -> Tensor:
    """Structural similarity (Wang et al., 2004), data range `peak`, after clipping the image to it.

    Of complex images that of their magnitudes. A uniform window with the sample covariance, averaged over the pixels
    whose window lies inside the image and over channels: what scikit-image's `structural_similarity(…, data_range=1)`
    gives.

    Parameters
    ----------
    image, truth : Tensor or array, (batch, channel, height, width), real or complex, sides at least the window
    window : int
        side of the window in pixels.
    peak : float or (black, white), optional
        as in `psnr`.

    Returns
    -------
    Tensor, (batch,); NaN where the image is not finite

    Raises
    ------
    ValueError
        as `psnr`, and for images smaller than the window.
    """
    image, truth = _pair(image, truth)
    window = whole_number("ssim: window", window, 2)
    if min(image.shape[-2:]) < window:
        raise ValueError(f"ssim: images must be at least {window} pixels wide and high, got {tuple(image.shape)}")
    span = _range(image, truth, peak)
    return structural_similarity(_clipped(image, span), _shown(truth, span), window)


def structural_similarity(x: Tensor, y: Tensor, window: int) -> Tensor:
    """`ssim` of images with black at 0 and white at 1, as it stands in an equation: differentiable, nothing clipped.

    Parameters
    ----------
    x, y : Tensor, (batch, channel, height, width), real
    window : int
        at most as large as the sides.

    Returns
    -------
    Tensor, (batch,)
    """
    mean_x, mean_y = F.avg_pool2d(x, window, 1), F.avg_pool2d(y, window, 1)
    unbiased = window**2 / (window**2 - 1)
    var_x = unbiased * (F.avg_pool2d(x * x, window, 1) - mean_x**2)
    var_y = unbiased * (F.avg_pool2d(y * y, window, 1) - mean_y**2)
    cov = unbiased * (F.avg_pool2d(x * y, window, 1) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.flatten(1).mean(1)


def nmse(image: Any, truth: Any) -> Tensor:
    """Normalised mean squared error ‖image − truth‖² / ‖truth‖²; no clipping.

    Parameters
    ----------
    image, truth : Tensor or array, (batch, channel, height, width), real or complex

    Returns
    -------
    Tensor, (batch,); where the truth is 0 everywhere, 0 if the image is and otherwise inf
    """
    image, truth = (_exact(each) for each in _pair(image, truth))
    error = (image - truth).abs().square().flatten(1).sum(1)
    energy = truth.abs().square().flatten(1).sum(1)
    return torch.where((error == 0) & (energy == 0), torch.zeros_like(error), error / energy)


def _exact(x: Tensor) -> Tensor:
    """In floating point, whole numbers in double precision: differences of bytes would wrap around."""
    return x if is_floating(x) else in_double(x)


def _shown(x: Tensor, span: Range) -> Tensor:
    """What is seen of an image, in double precision, with black at 0 and white at 1: of a complex one the magnitude."""
    return span.to_unit(in_double(x).abs() if x.is_complex() else in_double(x))


def _clipped(x: Tensor, span: Range) -> Tensor:
    x = _shown(x, span)
    return torch.where(x.isfinite(), x.clamp(0, 1), torch.nan)


def _pair(image: Any, truth: Any) -> tuple[Tensor, Tensor]:
    image, truth = as_tensor("image", image), as_tensor("truth", truth)
    refuse_meta("image", image)
    refuse_meta("truth", truth)
    if image.shape != truth.shape or image.ndim != 4 or not image.numel():
        raise ValueError(
            f"images must both be (batch, channel, height, width), none of them 0, got {tuple(image.shape)} and "
            f"{tuple(truth.shape)}"
        )
    return image, truth


def _range_of(peak: Any) -> Range:
    numbers = as_tensor("peak", peak)
    refuse_meta("peak", numbers)
    several = numbers.ndim > 1 or numbers.numel() not in (1, 2)
    ends = [] if several or numbers.is_complex() or numbers.dtype == torch.bool else numbers.double().flatten().tolist()
    black, white = ends if len(ends) == 2 else (0.0, *(ends or [0.0]))
    if not -math.inf < black < white < math.inf:
        raise ValueError(f"peak: must be a finite number > 0, or (black, white), got {peak!r}")
    return Range(black, white, True)


def _may_share_a_scale(image: Tensor, truth: Tensor) -> bool:
    """Whether the types leave it open: not if the truth alone is of floating point, or both state another white."""
    if is_floating(truth):
        return is_floating(image)
    return len({WHITES[each.dtype] for each in (image, truth) if each.dtype in WHITES}) < 2


def _range(image: Tensor, truth: Tensor, peak: Any) -> Range:
    """Black and white, in which the truth lies and whose scale the image has."""
    if peak is not None:
        span = _range_of(peak)
    elif not _may_share_a_scale(image, truth):
        raise ValueError(f"image: is of {image.dtype} and truth of {truth.dtype}; give both one scale, or the peak")
    elif is_floating(truth):
        span = Range()
    elif truth.dtype in WHITES:
        span = Range(0.0, WHITES[truth.dtype])
    else:
        raise ValueError(f"truth: is of {truth.dtype}, whose white is not known; give the peak")
    seen, shown = magnitudes(truth.detach()), magnitudes(image.detach())
    low, high = float(seen.min()), float(seen.max())
    margin = ROUNDING * (span.white - span.black)
    if not (span.black - margin <= low and high <= span.white + margin):
        raise ValueError(
            f"truth: must lie in [{span.black:g}, {span.white:g}], got {low:.6g} to {high:.6g}; give the peak, the "
            "number that is white"
        )
    # As a norm the mean needs no copy of a large image.
    mean, largest = float(torch.linalg.vector_norm(_exact(shown), 1)) / shown.numel(), float(shown.max())
    bright = APART * max(abs(span.black), abs(span.white)) < mean < float("inf")
    dark = 0 < largest <= OUTSIDE[1] and span.white > 32 and high > span.white / 8
    if bright or dark:
        raise ValueError(
            f"image: has values about {mean:.3g} where truth reaches {high:.6g} of {span.white:g}; bring both to one "
            "scale"
        )
    return span
