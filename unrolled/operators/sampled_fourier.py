"""Magnetic resonance: sampled Fourier transforms, of one coil or of several."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unrolled.operators.linear_map import check_images
from unrolled.operators.operator import LinearOperator
from unrolled.operators.sampling import RadialMask, SamplingMask, UniformMask, whole_sides
from unrolled.system.arraylike import ArrayLike, as_numbers, as_tensor
from unrolled.system.arrays import read_array
from unrolled.system.devices import full_precision
from unrolled.system.scalars import PlainNumbers

UNIT_MAPS = 1e-5
"""Up to which the sum of squares of maps may differ from 1 by rounding."""


class SampledFourier(LinearOperator):
    """What sampled Fourier transforms share: a mask of frequencies, and images that are real or complex."""

    mask: Tensor
    complex_measurements = True
    checks_itself = True

    def __init__(
        self,
        mask: SamplingMask | ArrayLike | str | Path,
        height: int | None,
        width: int | None,
        complex_images: bool,
        centered: bool,
    ):
        super().__init__()
        sampled = sampling_mask(type(self).__name__, mask, height, width, centered)
        _check_zero_frequency(type(self).__name__, sampled, centered)
        self.complex_images, self.centered = complex_images, centered
        self.image_shape = (0, sampled.shape[0], sampled.shape[1])
        # A drawn mask is made again from its rule, so it need not travel with weights.
        self.register_buffer("mask", sampled, persistent=not isinstance(mask, SamplingMask))

    @property
    def ratio(self) -> float:
        """The part of the frequencies that is sampled."""
        return float(self.mask.mean())

    def sampled(self, y: Tensor) -> Tensor:
        return self.mask * y

    def _check_images(self, x: Tensor) -> None:
        _check_shape(self, "images", x, ("batch", "channel", *self.mask.shape))
        if x.is_complex() and not self.complex_images:
            raise ValueError(f"{type(self).__name__}: images must be real, or make it with complex_images=True")

    def _as_images(self, x: Tensor) -> Tensor:
        """Of the inverse transform that part in which images lie."""
        return x if self.complex_images else x.real


class MaskedFourier(SampledFourier):
    """y = M F x: the orthonormal Fourier transform of an image where a mask samples it, and 0 elsewhere.

    Measurements are (batch, channel, height, width), complex: the whole Fourier plane ("k-space"), with zeros where
    nothing was sampled.

    Parameters
    ----------
    mask : SamplingMask, Tensor or array (height, width) of 0 and 1, or a file of one (`.npy`, `.mat`, `.h5`)
        with the zero frequency (DC) at [0, 0], unless centered.
    height, width : int
        of the images; needed for masks that are drawn.
    complex_images : bool
        images are complex tensors; otherwise real, and the adjoint is the real part of the inverse transform.
    centered : bool
        DC lies in the middle, at [height // 2, width // 2], of the measurements and of a mask that is a tensor or a
        file; and the origin of images lies in their middle. This is fastMRI's layout:
        F = fftshift ∘ fft2 ∘ ifftshift.

    Raises
    ------
    ValueError
        for an empty mask, one that is not of 0 and 1 or has another size.

    Examples
    --------
    >>> from unrolled.operators import RadialMask
    >>> operator = MaskedFourier(RadialMask(0.2), 256, 256)
    >>> round(operator.ratio, 2)
    0.21
    """

    tensors = ("mask",)

    def __init__(
        self,
        mask: SamplingMask | ArrayLike | str | Path,
        height: int | None = None,
        width: int | None = None,
        complex_images: bool = False,
        centered: bool = False,
    ):
        super().__init__(mask, height, width, complex_images, centered)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return check_images(self, image_shape)

    def forward(self, x: Tensor) -> Tensor:
        self._check_images(x)
        with full_precision(x):
            return self.mask * fourier(x if x.is_complex() else x.to(self.mask.dtype), self.centered)

    def adjoint(self, y: Tensor) -> Tensor:
        _check_shape(self, "measurements", y, ("batch", "channel", *self.mask.shape))
        with full_precision(y):
            return self._as_images(inverse_fourier(self.mask * y, self.centered))

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        return self._as_images(inverse_fourier(fourier(b, self.centered) / (self._power() + ridge), self.centered))

    def alternatives(self, seed: int = 0) -> dict[str, LinearOperator]:
        """The same mask turned by a right angle (mirrored, if it is no square), and drawn ones of the same ratio."""
        turned = self.mask.T if self.mask.shape[0] == self.mask.shape[1] else self.mask.flip(0).roll(1, 0)
        return {
            "turned": self._with_mask(turned.contiguous()),
            "radial": self._with_mask(RadialMask(self.ratio)),
            "uniform": self._with_mask(UniformMask(self.ratio, seed)),
        }

    def at_ratio(self, ratio: float, seed: int = 0) -> LinearOperator:
        """With a radial mask."""
        return self._with_mask(RadialMask(ratio))

    def _with_mask(self, mask: SamplingMask | Tensor) -> "MaskedFourier":
        height, width = self.mask.shape
        return MaskedFourier(mask, height, width, self.complex_images, self.centered).to(self.mask.device)

    def norm(self) -> Tensor:
        """1, or √½ if the images are real and no frequency is sampled together with its negative."""
        return self._power().max().sqrt()

    def _power(self) -> Tensor:
        """AᴴA, diagonal in the Fourier domain; of real images also every frequency's negative is known."""
        power = self.mask.square()
        if self.complex_images:
            return power
        mask = torch.fft.ifftshift(power) if self.centered else power
        both = (mask + mask.flip(0, 1).roll((1, 1), (0, 1))) / 2
        return torch.fft.fftshift(both) if self.centered else both

    def extra_repr(self) -> str:
        height, width = self.mask.shape
        return f"{height}×{width}, {'complex' if self.complex_images else 'real'} images"


class MultiCoilFourier(SampledFourier):
    """y_c = M F S_c x for every coil c with its sensitivity S_c (Pruessmann and others, "SENSE", 1999).

    Measurements are (batch, channel, coil, height, width), complex.

    Parameters
    ----------
    maps : Coils, Tensor or array (coil, height, width), or a file of one
        sensitivities, complex or real.
    mask, height, width, complex_images, centered
        as in `MaskedFourier`.

    Raises
    ------
    ValueError
        for maps that are not finite, are 0 everywhere, or do not fit the mask.
    """

    maps: Tensor
    tensors = ("mask", "maps")

    def __init__(
        self,
        maps: "Coils | ArrayLike | str | Path",
        mask: SamplingMask | ArrayLike | str | Path,
        height: int | None = None,
        width: int | None = None,
        complex_images: bool = True,
        centered: bool = False,
    ):
        drawn = isinstance(maps, Coils)
        if not isinstance(maps, Coils):
            maps = read_array(maps, dimensions=3) if isinstance(maps, (str, Path)) else maps
            maps = as_numbers("MultiCoilFourier: maps", maps)
            check_maps(maps)
            if isinstance(mask, SamplingMask) and height is None and width is None:
                height, width = maps.shape[1:]
        super().__init__(mask, height, width, complex_images, centered)
        height, width = self.mask.shape
        if isinstance(maps, Coils):
            maps = maps.draw(height, width)
        if maps.shape[1:] != self.mask.shape:
            raise ValueError(
                f"MultiCoilFourier: maps must be (coil, {height}, {width}) like the mask, got {tuple(maps.shape)}"
            )
        self.register_buffer("maps", maps.to(self.mask.dtype.to_complex()), persistent=not drawn)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return check_images(self, image_shape)[0], *self.maps.shape

    def forward(self, x: Tensor) -> Tensor:
        self._check_images(x)
        with full_precision(x):
            return self.mask * fourier(self.maps * x.unsqueeze(2), self.centered)

    def adjoint(self, y: Tensor) -> Tensor:
        _check_shape(self, "measurements", y, ("batch", "channel", *self.maps.shape))
        with full_precision(y):
            return self._as_images((self.maps.conj() * inverse_fourier(self.mask * y, self.centered)).sum(2))

    def with_unit_maps(self) -> "tuple[MultiCoilFourier, float]":
        """The operator with maps whose root of the sum of squares is at most 1, and the number they were divided by.

        Maps have no natural units; solvers and networks are made for these.
        """
        size = float(self.maps.abs().square().sum(0).max().sqrt())
        if abs(size - 1) < UNIT_MAPS:
            return self, 1.0
        kind = {"complex_images": self.complex_images, "centered": self.centered}
        return MultiCoilFourier(self.maps / size, self.mask, **kind).to(self.mask.device), size

    def extra_repr(self) -> str:
        coils, height, width = self.maps.shape
        return f"{coils} coils, {height}×{width}, {'complex' if self.complex_images else 'real'} images"


@dataclass(frozen=True)
class Coils(PlainNumbers):
    """Simulated coils on a circle around the image, facing inward: sensitivities that fall with the distance.

    Their phase is the angle at which a pixel is seen from the coil. They are scaled so that Σ|S_c|² = 1 everywhere.

    Parameters
    ----------
    coils : int >= 1
    radius : float > 1
        of the circle, in halves of the side of the image; at 1.5 the corners are inside.
    """

    coils: int = 8
    radius: float = 1.5

    def __post_init__(self) -> None:
        if self.coils < 1:
            raise ValueError(f"Coils: coils must be >= 1, got {self.coils!r}")
        if not (math.isfinite(self.radius) and self.radius > 1):
            raise ValueError(f"Coils: radius must be a finite number > 1, got {self.radius!r}")

    def draw(self, height: int, width: int) -> Tensor:
        """The sensitivities, (coil, height, width), complex128."""
        height, width = whole_sides("Coils", height, width)
        angle = 2 * math.pi * torch.arange(self.coils, dtype=torch.float64)[:, None, None] / self.coils
        rows = torch.linspace(-1, 1, height, dtype=torch.float64)[None, :, None] - self.radius * angle.sin()
        columns = torch.linspace(-1, 1, width, dtype=torch.float64)[None, None, :] - self.radius * angle.cos()
        # A pixel at the place of a coil (corners, if the radius is small) is seen as if half a pixel away.
        distance = torch.hypot(rows, columns).clamp(min=1 / max(height, width))
        maps = torch.polar(1 / distance, torch.atan2(rows, columns) - angle)
        return maps / maps.abs().square().sum(0).sqrt()


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


def sampling_mask(
    operator: str,
    mask: SamplingMask | ArrayLike | str | Path,
    height: int | None = None,
    width: int | None = None,
    centered: bool = False,
) -> Tensor:
    """The mask as numbers, drawn, read or as given, and checked.

    Parameters
    ----------
    operator : str
        whose argument it is, for messages.
    mask, height, width, centered
        as in `MaskedFourier`.

    Returns
    -------
    Tensor, (height, width), of 0 and 1
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
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"{operator}: mask must be (height, width), got shape {tuple(mask.shape)}")
    for name, given, own in (("height", height, mask.shape[0]), ("width", width, mask.shape[1])):
        if given not in (None, own):
            raise ValueError(f"{operator}: {name} must be that of the mask, {own}, got {given!r}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"{operator}: mask must be of 0 and 1, got values such as {_other_value(mask)}")
    if not bool(mask.any()):
        raise ValueError(f"{operator}: mask must sample something, but is empty")
    return mask.real.to(torch.get_default_dtype())


def _check_zero_frequency(operator: str, mask: Tensor, centered: bool) -> None:
    """Warn of a mask that leaves out the zero frequency, and samples all of the place where others have it."""
    places = [(0, 0), (mask.shape[0] // 2, mask.shape[1] // 2)]
    here, there = places[::-1] if centered else places
    around = mask.roll((1 - there[0], 1 - there[1]), (0, 1))[:3, :3]
    if not mask[here] and bool(around.all()):
        warnings.warn(
            f"{operator}: mask leaves out the zero frequency, which with centered={centered} lies at {list(here)}, and "
            f"samples all around {list(there)}; is it that of a mask with centered={not centered}?",
            stacklevel=5,  # who made the operator
        )


def check_maps(maps: Tensor) -> None:
    """Raise ValueError unless these are sensitivities (coil, height, width), finite and not 0 everywhere."""
    if maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(f"maps: must be (coil, height, width), got shape {tuple(maps.shape)}")
    if not bool(torch.isfinite(torch.view_as_real(maps) if maps.is_complex() else maps).all()):
        raise ValueError("maps: must be finite, but hold NaN or inf")
    if not bool(maps.any()):
        raise ValueError("maps: are 0 everywhere, so nothing would be measured")


def _other_value(mask: Tensor) -> float:
    return mask[(mask != 0) & (mask != 1)].flatten()[0].item()


def _check_shape(operator: LinearOperator, what: str, x: Tensor, shape: tuple[str | int, ...]) -> None:
    fits = x.ndim == len(shape) and all(isinstance(b, str) or a == b for a, b in zip(x.shape, shape, strict=True))
    if not fits or 0 in x.shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{type(operator).__name__}: {what} must be ({wanted}), got {tuple(x.shape)}")
