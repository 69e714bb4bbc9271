"""Hounsfield units and the attenuation of X-rays, both ways."""

import math
from typing import Any

import torch
from torch import Tensor

from unrolled.data.unit_images import as_single
from unrolled.system.arraylike import as_tensor
from unrolled.system.scales import AIR, LEAST_HU, magnitudes

WATER_PER_MM = 0.02
"""Attenuation of water for X-rays of about 65 keV, the mean energy of a tube at 120 kV, in 1/mm."""


def hu_to_attenuation(hu: Any, water: float = WATER_PER_MM) -> Tensor:
    """μ = μ_water·(1 + HU/1000), the linear attenuation coefficient, which is what line integrals are of.

    Parameters
    ----------
    hu : Tensor or array of any shape and of any real numbers
        in Hounsfield units: air is -1000, where μ is taken for 0, water is 0.
    water : float > 0
        μ_water, in whatever units of 1/length the result is to have; by default 0.02 per mm.

    Returns
    -------
    Tensor, of the same shape, in floating point

    Raises
    ------
    ValueError
        for a μ_water that is not positive, and numbers that cannot be Hounsfield units: NaN, or far below air.
    """
    _check_water(water)
    numbers = _real("hu", hu)
    _check_least("hu", float(magnitudes(numbers).min()), LEAST_HU, f"air has {AIR:g} Hounsfield units")
    return water * (1 - numbers / AIR)


def attenuation_to_hu(attenuation: Any, water: float = WATER_PER_MM) -> Tensor:
    """HU = 1000·(μ/μ_water − 1), the way back.

    Parameters
    ----------
    attenuation : Tensor or array of any shape and of any real numbers
        μ, in units of 1/length.
    water : float > 0
        μ_water, in the same units; by default 0.02 per mm.

    Returns
    -------
    Tensor, of the same shape, in floating point

    Raises
    ------
    ValueError
        for a μ_water that is not positive, NaN, or an attenuation far below 0.
    """
    _check_water(water)
    numbers = _real("attenuation", attenuation)
    least = water * (1 - LEAST_HU / AIR)
    _check_least("attenuation", float(magnitudes(numbers).min()), least, "air does not attenuate")
    return -AIR * (numbers / water - 1)


def _check_water(water: float) -> None:
    if not (math.isfinite(water) and water > 0):
        raise ValueError(f"water: its attenuation must be a finite number > 0, got {water!r}")


def _real(what: str, numbers: Any) -> Tensor:
    tensor = as_tensor(what, numbers)
    if tensor.is_complex() or not tensor.numel():
        raise ValueError(f"{what}: must be real numbers, at least one, got {tensor.dtype} {tuple(tensor.shape)}")
    return as_single(tensor) if tensor.dtype is not torch.float64 else tensor


def _check_least(what: str, found: float, least: float, why: str) -> None:
    if not found >= least:  # NaN too
        raise ValueError(f"{what}: reaches down to {found:.6g}, and {why}; at least {least:.6g} is taken")
