"""Measurements as users hand them over, of images in any units, as those of images with white at 1."""

from typing import Any

import torch
from torch import Tensor

from unrolled.operators.operator import LinearOperator
from unrolled.operators.units import image_scale, over
from unrolled.system.arraylike import as_numbers, as_tensor, is_floating
from unrolled.system.scales import Scale, as_scale

SEEMS_UNIT = (1 / 16, 4.0)
"""Between these lies the brightest pixel of what measurements of images in [0, 1] give as first estimate."""


def measurements_to_unit(
    y: Any, operator: LinearOperator, device: torch.device, scale: Scale | None = None
) -> tuple[Tensor, Tensor]:
    """Measurements of images with white at 1, float32 or complex64, and what white is in each image, (batch,).

    Parameters
    ----------
    y, operator, scale
        as in `unrolled.reconstruct`.
    device : torch.device
        where they are brought.

    Raises
    ------
    ValueError
        if they are no finite numbers of floating point, or complex where the operator has real ones; without a scale if
        they are of an image that is far from [0, 1].
    """
    y = as_tensor("measurements", y)
    if y.ndim == 0 or not is_floating(y) or not y.numel():
        raise ValueError(
            f"measurements: must be real or complex numbers of floating point, got {y.dtype} {tuple(y.shape)}"
        )
    if not bool(torch.isfinite(y).all()):
        raise ValueError(f"measurements: must be finite, but {int((~torch.isfinite(y)).sum())} are NaN or inf")
    if y.is_complex() and not operator.complex_measurements:
        raise ValueError(f"measurements: must be real for {type(operator).__name__}, got {y.dtype}")
    y = y.to(device)
    white = _white_of(y, operator, scale)
    return as_numbers("measurements", y / over(white, y), torch.float32), white


def _white_of(y: Tensor, operator: LinearOperator, scale: Scale | None) -> Tensor:
    """What white is in each image that measurements are of, (batch,)."""
    white = scale if isinstance(scale, str) else as_scale("measurements", scale)
    if white not in (None, "max") and not isinstance(white, float):
        raise ValueError(f"measurements: scale must be a number or 'max', got {scale!r}")
    if isinstance(white, float):
        return torch.full((len(y),), white, dtype=y.real.dtype, device=y.device)
    brightest = image_scale(y, operator)
    if scale == "max":
        return brightest
    shows = y.flatten(1).any(1)
    for bright in brightest[shows].tolist():
        if not SEEMS_UNIT[0] <= bright <= SEEMS_UNIT[1]:
            raise ValueError(
                f"measurements: seem to be of an image whose brightest pixel is about {bright:.3g}, where white is 1; "
                "give scale: the number that is white, or 'max'"
            )
    return torch.ones_like(brightest)
