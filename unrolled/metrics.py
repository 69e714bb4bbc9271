"""Image quality: one number per image."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 256


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, peak 1, after clipping the image to [0, 1].

    Of complex images that of their magnitudes.

    Parameters
    ----------
    image, truth : Tensor, (batch, channel, height, width), real or complex

    Returns
    -------
    Tensor, (batch,); inf where both are equal
    """
    _check(image, truth)
    # By rows, so that a large image is never in memory in double precision.
    error = sum(
        (_shown(part).clamp(0, 1) - _shown(true)).square().flatten(1).sum(1)
        for part, true in zip(image.split(ROWS, dim=-2), truth.split(ROWS, dim=-2), strict=True)
    )
    assert isinstance(error, Tensor)
    return -10 * (error / image[0].numel()).log10()


def ssim(image: Tensor, truth: Tensor, window: int = 7) -> Tensor:
    """Structural similarity (Wang et al., 2004), data range 1, after clipping the image to [0, 1].

    Of complex images that of their magnitudes. A uniform window with the sample covariance, averaged over the pixels
    whose window lies inside the image and over channels: what scikit-image's `structural_similarity(…, data_range=1)`
    gives.

    Parameters
    ----------
    image, truth : Tensor, (batch, channel, height, width), real or complex, sides at least the window
    window : int
        side of the window in pixels.

    Returns
    -------
    Tensor, (batch,)
    """
    _check(image, truth)
    if min(image.shape[-2:]) < window:
        raise ValueError(f"ssim: images must be at least {window} pixels wide and high, got {tuple(image.shape)}")
    x, y = _shown(image).clamp(0, 1), _shown(truth)
    mean_x, mean_y = F.avg_pool2d(x, window, 1), F.avg_pool2d(y, window, 1)
    unbiased = window**2 / (window**2 - 1)
    var_x = unbiased * (F.avg_pool2d(x * x, window, 1) - mean_x**2)
    var_y = unbiased * (F.avg_pool2d(y * y, window, 1) - mean_y**2)
    cov = unbiased * (F.avg_pool2d(x * y, window, 1) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.flatten(1).mean(1)


def nmse(image: Tensor, truth: Tensor) -> Tensor:
    """Normalised mean squared error ‖image − truth‖² / ‖truth‖²; no clipping.

    Parameters
    ----------
    image, truth : Tensor, (batch, channel, height, width), real or complex

    Returns
    -------
    Tensor, (batch,)
    """
    _check(image, truth)
    return (image - truth).abs().square().flatten(1).sum(1) / truth.abs().square().flatten(1).sum(1)


def _shown(x: Tensor) -> Tensor:
    """What is seen of an image, in double precision: of a complex one the magnitude."""
    return x.to(torch.complex128).abs() if x.is_complex() else x.double()


def _check(image: Tensor, truth: Tensor) -> None:
    if image.shape != truth.shape or image.ndim != 4:
        raise ValueError(
            f"images must both be (batch, channel, height, width), got {tuple(image.shape)} and {tuple(truth.shape)}"
        )
