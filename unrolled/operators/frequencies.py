"""The Fourier plane: transforms with the zero frequency at the corner or in the middle, and masks of frequencies."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unrolled.operators.sampling import SamplingMask
from unrolled.system.arraylike import ArrayLike, as_tensor
from unrolled.system.arrays import read_array


def fourier(x: Tensor, centered: bool = False) -> Tensor:
    """The orthonormal Fourier transform over the last two axes, see `MaskedFourier`."""
    if not centered:
        return torch.fft.fft2(x, norm="ortho")
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, (-2, -1)), norm="ortho"), (-2, -1))


def inverse_fourier(y: Tensor, centered: bool = False) -> Tensor:
    """Its inverse, and its adjoint."""
    if not centered:
        return torch.fft.ifft2(y, norm="ortho")
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(y, (-2, -1)), norm="ortho"), (-2, -1))


def real_fourier(x: Tensor) -> Tensor:
    """The Fourier transform of real images: one half of the plane, or in a program, for other runtimes, all of it."""
    return torch.fft.fft2(x) if torch.compiler.is_exporting() else torch.fft.rfft2(x)


def inverse_real_fourier(frequencies: Tensor, size: Sequence[int]) -> Tensor:
    """Its inverse: images of a size, which half of the frequencies does not tell."""
    if torch.compiler.is_exporting():
        return torch.fft.ifft2(frequencies).real
    return torch.fft.irfft2(frequencies, s=size)


def places_of_frequencies(
    sides: Sequence[int], centered: bool = False, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """How far from zero every row, (height, 1), and column, (width,), of frequencies lies, in parts of the sides."""
    rows, columns = (torch.fft.fftfreq(side, device=device) for side in sides)
    if centered:
        rows, columns = torch.fft.fftshift(rows), torch.fft.fftshift(columns)
    return rows[:, None], columns


def near_zero(sides: Sequence[int], reach: int, centered: bool = False, device: torch.device | None = None) -> Tensor:
    """Which frequencies are at most so far from zero in both directions, (height, width), True or False."""
    rows, columns = (
        (place * side).round().abs() <= reach
        for place, side in zip(places_of_frequencies(sides, centered, device), sides, strict=True)
    )
    return rows & columns


def hann(count: int, reach: int, like: Tensor) -> Tensor:
    """A Hann window around the middle of so many frequencies, 0 beyond its reach, (count,), float64, on a device."""
    distance = (torch.arange(count, dtype=torch.float64, device=like.device) - count // 2).abs()
    return torch.where(distance <= reach, (1 + (math.pi * distance / (reach + 1)).cos()) / 2, 0)


def sampling_mask(
    operator: str,
    mask: SamplingMask | ArrayLike | str | Path,
    height: int | None = None,
    width: int | None = None,
    centered: bool = False,
    *,
    one_per_image: bool = False,
) -> Tensor:
    """The mask as numbers, drawn, read or as given, and checked.

    Parameters
    ----------
    operator : str
        whose argument it is, for messages.
    mask, height, width, centered
        as in `MaskedFourier`.
    one_per_image : bool
        whether it may be (batch, 1, height, width), a mask for each image.

    Returns
    -------
    Tensor, (height, width) or (batch, 1, height, width), of 0 and 1
    """
    if isinstance(mask, SamplingMask):
        if height is None or width is None or height < 1 or width < 1:
            raise ValueError(
                f"{operator}: height and width must be >= 1 for a drawn mask, got {height!r} and {width!r}"
            )
        drawn = mask.draw(height, width)
        return (torch.fft.fftshift(drawn) if centered else drawn).to(torch.get_default_dtype())
    mask = read_array(mask, dimensions=2) if isinstance(mask, (str, Path)) else as_tensor(f"{operator}: mask", mask)
    mask = mask.detach().clone()
    batches = one_per_image and mask.ndim == 4 and mask.shape[1] == 1
    if not (mask.ndim == 2 or batches) or 0 in mask.shape:
        allowed = "(height, width)" + (" or (batch, 1, height, width)" if one_per_image else "")
        raise ValueError(f"{operator}: mask must be {allowed}, got shape {tuple(mask.shape)}")
    for name, given, own in (("height", height, mask.shape[-2]), ("width", width, mask.shape[-1])):
        if given not in (None, own):
            raise ValueError(f"{operator}: {name} must be that of the mask, {own}, got {given!r}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"{operator}: mask must be of 0 and 1, got values such as {_other_value(mask)}")
    empty = ~mask.bool().flatten(-2).any(-1)
    if bool(empty.any()):
        which = f" of image {int(empty.flatten().nonzero()[0])}" if batches else ""
        raise ValueError(f"{operator}: mask must sample something, but is empty{which}")
    return mask.real.to(torch.get_default_dtype())


def check_zero_frequency(operator: str, mask: Tensor, centered: bool) -> None:
    """Warn of a mask that leaves out the zero frequency, and samples all of the place where others have it."""
    places = [(0, 0), (mask.shape[-2] // 2, mask.shape[-1] // 2)]
    here, there = places[::-1] if centered else places
    around = mask.roll((1 - there[0], 1 - there[1]), (-2, -1))[..., :3, :3]
    if bool((around.bool().flatten(-2).all(-1) & (mask[..., here[0], here[1]] == 0)).any()):
        warnings.warn(
            f"{operator}: mask leaves out the zero frequency, which with centered={centered} lies at {list(here)}, and "
            f"samples all around {list(there)}; is it that of a mask with centered={not centered}?",
            stacklevel=5,  # who made the operator
        )


def _other_value(mask: Tensor) -> float:
    return mask[(mask != 0) & (mask != 1)].flatten()[0].item()
