"""Magnetic resonance: sampled Fourier transforms, of one coil or of several."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from unrolled.operators.coils import Coils, check_maps, largest_gain
from unrolled.operators.frequencies import check_zero_frequency, fourier, inverse_fourier, sampling_mask
from unrolled.operators.linear_map import check_images
from unrolled.operators.masked_samples import MaskedSamples
from unrolled.operators.operator import LinearOperator
from unrolled.operators.sampling import RadialMask, SamplingMask, UniformMask
from unrolled.system.arraylike import ArrayLike, as_numbers
from unrolled.system.arrays import read_array
from unrolled.system.devices import full_precision

UNIT_MAPS = 1e-5
"""Up to which the sum of squares of maps may differ from 1 by rounding."""


class SampledFourier(MaskedSamples):
    """What sampled Fourier transforms share: a mask of frequencies, and images that are real or complex."""

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
        sampled = sampling_mask(type(self).__name__, mask, height, width, centered, one_per_image=True)
        check_zero_frequency(type(self).__name__, sampled, centered)
        self.complex_images, self.centered = complex_images, centered
        self.image_shape = (0, sampled.shape[-2], sampled.shape[-1])
        self.batch = len(sampled) if sampled.ndim == 4 and len(sampled) > 1 else None
        # A drawn mask is made again from its rule, so it need not travel with weights.
        self.register_buffer("mask", sampled, persistent=not isinstance(mask, SamplingMask))

    @property
    def ratio(self) -> float:
        """The part of the frequencies that is sampled."""
        return float(self.mask.mean())

    @abstractmethod
    def of_images(self, which: slice) -> "SampledFourier":
        """The operator of some images of a batch, at least one: with their masks and their maps.

        Parameters
        ----------
        which : slice
        """

    def sampled(self, y: Tensor) -> Tensor:
        self._check_measurements(y)
        return self._frequencies() * y

    def _frequencies(self) -> Tensor:
        """The mask, to be multiplied with measurements."""
        return self.mask

    def _check_images(self, x: Tensor) -> None:
        _check_shape(self, "images", x, self._images())
        if x.is_complex() and not self.complex_images:
            raise ValueError(f"{type(self).__name__}: images must be real, or make it with complex_images=True")

    def _check_measurements(self, y: Tensor) -> None:
        _check_shape(self, "measurements", y, self._images())

    def _images(self) -> tuple[str | int, ...]:
        """The shape of a batch of images; a name where any number will do."""
        assert self.image_shape is not None
        channels, height, width = self.image_shape
        return self.batch or "batch", channels or "channel", height, width

    def _as_images(self, x: Tensor) -> Tensor:
        """Of the inverse transform that part in which images lie."""
        return x if self.complex_images else x.real

    def _options(self) -> dict[str, bool]:
        return {"complex_images": self.complex_images, "centered": self.centered}

    def extra_repr(self) -> str:
        height, width = self.mask.shape[-2:]
        masks = f"{self.batch} images of " if self.batch else ""
        return f"{masks}{height}×{width}, {'complex' if self.complex_images else 'real'} images"


class MaskedFourier(SampledFourier):
    """y = M F x: the orthonormal Fourier transform of an image where a mask samples it, and 0 elsewhere.

    Measurements are (batch, channel, height, width), complex: the whole Fourier plane ("k-space"), with zeros where
    nothing was sampled.

    Parameters
    ----------
    mask : SamplingMask, Tensor or array (height, width) of 0 and 1, or a file of one (`.npy`, `.mat`, `.h5`)
        with the zero frequency (DC) at [0, 0], unless centered. Of shape (batch, 1, height, width): one for each image
        of a batch, and then only batches of so many images are measured.
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
        self._check_measurements(y)
        with full_precision(y):
            return self._as_images(inverse_fourier(self.mask * y, self.centered))

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        return self._as_images(inverse_fourier(fourier(b, self.centered) / (self._power() + ridge), self.centered))

    def alternatives(self, seed: int = 0) -> dict[str, LinearOperator]:
        """The same mask turned by a right angle (mirrored, if it is no square), and drawn ones of the same ratio."""
        height, width = self.mask.shape[-2:]
        turned = self.mask.mT if height == width else self.mask.flip(-2).roll(1, -2)
        return {
            "turned": self._with_mask(turned.contiguous()),
            "radial": self._with_mask(RadialMask(self.ratio)),
            "uniform": self._with_mask(UniformMask(self.ratio, seed)),
        }

    def at_ratio(self, ratio: float, seed: int = 0) -> LinearOperator:
        """With a radial mask."""
        return self._with_mask(RadialMask(ratio))

    def of_images(self, which: slice) -> "MaskedFourier":
        return self._with_mask(_some(self.mask, which, 2))

    def _with_mask(self, mask: SamplingMask | Tensor) -> "MaskedFourier":
        height, width = self.mask.shape[-2:]
        return MaskedFourier(mask, height, width, **self._options()).to(self.mask)

    def norm(self) -> Tensor:
        """1, or √½ if the images are real and no frequency is sampled together with its negative."""
        return self._power().max().sqrt()

    def _power(self) -> Tensor:
        """AᴴA, diagonal in the Fourier domain; of real images also every frequency's negative is known."""
        power, axes = self.mask.square(), (-2, -1)
        if self.complex_images:
            return power
        mask = torch.fft.ifftshift(power, axes) if self.centered else power
        both = (mask + mask.flip(axes).roll((1, 1), axes)) / 2
        return torch.fft.fftshift(both, axes) if self.centered else both


class MultiCoilFourier(SampledFourier):
    """y_c = M F S_c x for every coil c with its sensitivity S_c (Pruessmann and others, "SENSE", 1999).

    Measurements are (batch, channel, coil, height, width), complex.

    Where an object is larger than the field of view, several of its points lie in one pixel, and no single
    sensitivity explains what the coils see there. Several sets of maps do (Uecker and others, "ESPIRiT", 2014,
    "soft SENSE"): y_c = M F Σₛ Sₛ,c xₛ. The channels of the image are then its parts xₛ, one for each set, and the
    measurements have one channel.

    Parameters
    ----------
    maps : Coils, Tensor or array (coil, height, width), or a file of one
        sensitivities, complex or real. Of shape (batch, coil, height, width): those of each image of a batch, and then
        only batches of so many images are measured. Of shape (batch, set, coil, height, width): several sets, of each
        image of a batch; with a batch of 1 they hold for every image.
    mask, height, width, complex_images, centered
        as in `MaskedFourier`.

    Raises
    ------
    ValueError
        for maps that are not finite, are 0 everywhere for an image, or do not fit the mask.
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
            maps = read_array(maps, dimensions=(3, 4, 5)) if isinstance(maps, (str, Path)) else maps
            maps = as_numbers("MultiCoilFourier: maps", maps)
            check_maps(maps)
            if isinstance(mask, SamplingMask) and height is None and width is None:
                height, width = maps.shape[-2:]
        super().__init__(mask, height, width, complex_images, centered)
        height, width = self.mask.shape[-2:]
        if isinstance(maps, Coils):
            maps = maps.draw(height, width)
        if maps.shape[-2:] != (height, width):
            raise ValueError(
                f"MultiCoilFourier: maps must be (coil, {height}, {width}) like the mask, got {tuple(maps.shape)}"
            )
        if maps.ndim > 3 and len(maps) > 1:
            if self.batch not in (None, len(maps)):
                raise ValueError(
                    f"MultiCoilFourier: maps of {len(maps)} images, and masks of {self.batch}; give as many of both, "
                    "or one for all"
                )
            self.batch = len(maps)
        if maps.ndim == 5:
            self.image_shape = (maps.shape[1], height, width)
        self.register_buffer("maps", maps.to(self.mask.dtype.to_complex()), persistent=not drawn)

    @property
    def sets(self) -> int | None:
        """How many sets of maps there are, if the image has a channel for each; None: every channel is an image."""
        return self.maps.shape[1] if self.maps.ndim == 5 else None

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        channels = check_images(self, image_shape)[0]
        return 1 if self.sets else channels, *self.maps.shape[-3:]

    def forward(self, x: Tensor) -> Tensor:
        self._check_images(x)
        with full_precision(x):
            return self._frequencies() * fourier(self._seen(x), self.centered)

    def adjoint(self, y: Tensor) -> Tensor:
        self._check_measurements(y)
        with full_precision(y):
            return self._united(inverse_fourier(self._frequencies() * y, self.centered))

    def gram(self, x: Tensor) -> Tensor:
        self._check_images(x)
        with full_precision(x):
            # What each coil sees is filtered. Centring moves it in a circle before and back after, which changes no
            # filter, so that the mask is all that has to be moved.
            power = self._frequencies().square()
            power = torch.fft.ifftshift(power, (-2, -1)) if self.centered else power
            return self._united(inverse_fourier(power * fourier(self._seen(x))))

    def of_images(self, which: slice) -> "MultiCoilFourier":
        return self._with(_some(self.maps, which, 3), _some(self.mask, which, 2))

    def with_maps(self, maps: Tensor) -> Self:
        """The same operator with other maps, for the time of a step: values are not looked at, all else is shared.

        Parameters
        ----------
        maps : Tensor, as in the constructor
            complex, on the operator's device; gradients pass through them.
        """
        other = self.sharing(maps=maps)
        other.batch = len(maps) if maps.ndim > 3 and len(maps) > 1 else self.batch
        return other

    def with_unit_maps(self) -> "tuple[MultiCoilFourier, Tensor]":
        """The operator with maps that make no image larger, and what they were divided by.

        Maps have no natural units; solvers and networks are made for these: the root of the sum of the squares of the
        coils is at most 1.

        Returns
        -------
        MultiCoilFourier, Tensor
            one number, (1,), or one for the maps of each image, (batch,)
        """
        size = largest_gain(self.maps)
        if bool(((size - 1).abs() < UNIT_MAPS).all()):
            return self, torch.ones_like(size)
        return self._with(self.maps / size.view(-1, *[1] * (self.maps.ndim - 1)), self.mask), size

    def _with(self, maps: Tensor, mask: Tensor) -> "MultiCoilFourier":
        return MultiCoilFourier(maps, mask, **self._options()).to(self.mask)

    def _seen(self, x: Tensor) -> Tensor:
        """What the coils see of images, with an axis for them."""
        # ONNX reshapes complex numbers, but has no form of unsqueeze of them.
        seen = self._sensitivities() * x.reshape(-1, x.shape[1], 1, *x.shape[2:])
        return seen.sum(1, keepdim=True) if self.sets else seen

    def _united(self, images: Tensor) -> Tensor:
        """The adjoint of what the coils see."""
        return self._as_images((self._sensitivities().conj() * images).sum(2))

    def _sensitivities(self) -> Tensor:
        """The maps, to be multiplied with images (batch, channel, 1, height, width)."""
        return self.maps.unsqueeze(1) if self.maps.ndim == 4 else self.maps

    def _frequencies(self) -> Tensor:
        return self.mask.unsqueeze(1) if self.mask.ndim == 4 else self.mask

    def _check_measurements(self, y: Tensor) -> None:
        batch, channels, _, _ = self._images()
        _check_shape(self, "measurements", y, (batch, 1 if self.sets else channels, *self.maps.shape[-3:]))

    def extra_repr(self) -> str:
        sets = f"{self.sets} sets of " if self.sets else ""
        return f"{sets}{self.maps.shape[-3]} coils, {super().extra_repr()}"


def _some(tensor: Tensor, which: slice, shared: int) -> Tensor:
    """The parts of some images of a batch, unless a tensor of no more axes than are shared belongs to all."""
    return tensor if tensor.ndim <= shared or len(tensor) == 1 else tensor[which]


def _check_shape(operator: LinearOperator, what: str, x: Tensor, shape: tuple[str | int, ...]) -> None:
    fits = x.ndim == len(shape) and all(isinstance(b, str) or a == b for a, b in zip(x.shape, shape, strict=True))
    if not fits or 0 in x.shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{type(operator).__name__}: {what} must be ({wanted}), got {tuple(x.shape)}")
