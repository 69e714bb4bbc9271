"""Maps of coils: their sensitivities, estimated from the fully sampled middle of k-space."""

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.operators.frequencies import hann, inverse_fourier, sampling_mask
from unrolled.system.arraylike import ArrayLike, as_tensor, refuse_meta
from unrolled.system.devices import in_double
from unrolled.system.scalars import PlainNumbers

LARGEST_CENTER = 33
"""Lines of the middle of k-space that coils are estimated from, at most: their sensitivities are smoother than that."""

SMALLEST_CENTER = 5
"""And at least, unless it is asked for."""

CALIBRATION = 24
"""Lines of the middle that ESPIRiT is calibrated on, at most, unless more are asked for."""

LARGEST_PATCH = 6000
"""Numbers in a patch of all coils, at most: a matrix of so many rows and columns is decomposed, of 0.6 GB."""

MATRICES_AT_ONCE = 2**22
"""Numbers in the pixels' matrices that are decomposed at once."""


@dataclass(frozen=True)
class CoilMaps(PlainNumbers, ABC):
    """A way to estimate the sensitivities of coils from the fully sampled middle of their k-space.

    Parameters
    ----------
    center : int >= 1, optional
        side of the square in the middle, in frequencies, of which all must be sampled; by default as much as is
        sampled, up to some size.
    """

    center: int | None = None

    def __post_init__(self) -> None:
        if self.center is not None and self.center < 1:
            raise ValueError(f"{type(self).__name__}: center must be >= 1, got {self.center!r}")

    @torch.no_grad()
    def estimate(self, y: ArrayLike, mask: ArrayLike | None = None, centered: bool = False) -> Tensor:
        """The maps of one image, or of each image of a batch.

        Parameters
        ----------
        y : Tensor or array, (coil, height, width) or (batch, coil, height, width)
            k-space, with zeros where nothing was sampled, in any units.
        mask : Tensor or array of 0 and 1, (height, width), or (batch, 1, height, width), optional
            what was sampled; by default where y is not 0 in every coil.
        centered : bool
            where the zero frequency and the origin of images lie, see `MaskedFourier`.

        Returns
        -------
        Tensor, (coil, height, width) or (batch, coil, height, width); of several sets (1, set, coil, height, width) or
        (batch, set, coil, height, width)
            complex, on the device and in the precision of y, as `MultiCoilFourier` takes them

        Raises
        ------
        ValueError
            for k-space that is not finite or has another shape than the mask, and if its middle is not sampled, too
            small, or 0.
        """
        name = type(self).__name__
        y = as_tensor(f"{name}: y", y)
        refuse_meta(f"{name}: y", y)
        if y.ndim not in (3, 4) or 0 in y.shape:
            raise ValueError(
                f"{name}: y must be (coil, height, width) or (batch, coil, height, width), got {tuple(y.shape)}"
            )
        if not bool(torch.isfinite(torch.view_as_real(y.resolve_conj()) if y.is_complex() else y).all()):
            raise ValueError(f"{name}: y must be finite, but holds NaN or inf")
        if not bool(y.any()):
            raise _nothing_there()
        batch = y if y.ndim == 4 else y[None]
        seen = (batch != 0).any(1, keepdim=True) if mask is None else mask
        masks = sampling_mask(name, seen, *y.shape[-2:], one_per_image=True).to(y.device)
        if masks.ndim == 4 and len(masks) not in (1, len(batch)):
            raise ValueError(f"{name}: mask must be one, or one for each of {len(batch)} images, got {len(masks)}")
        masks = masks.expand(len(batch), 1, *y.shape[-2:])[:, 0] > 0
        maps = torch.stack([self._of_one(one, own, centered) for one, own in zip(batch, masks, strict=True)])
        kind = torch.promote_types(
            y.dtype if y.is_complex() or y.is_floating_point() else torch.float32, torch.complex64
        )
        maps = maps.to(y.device, kind)
        return maps[0] if y.ndim == 3 and maps.ndim == 4 else maps

    def _of_one(self, y: Tensor, mask: Tensor, centered: bool) -> Tensor:
        """The maps of one image, in double precision, with the zero frequency in the middle until the last step."""
        y = in_double(y).to(torch.complex128)
        if not centered:
            y, mask = torch.fft.fftshift(y, (-2, -1)), torch.fft.fftshift(mask)
        y = y / y.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
        maps = self._of_centered(y, mask.to(y.device))
        return maps if centered else torch.fft.ifftshift(maps, (-2, -1))

    @abstractmethod
    def _of_centered(self, y: Tensor, mask: Tensor) -> Tensor:
        """The maps from k-space (coil, height, width), complex128, at most 1, and its mask, both with DC in the middle;
        the origin of the maps lies in the middle too."""


@dataclass(frozen=True)
class LowResolution(CoilMaps):
    """Every coil's image of the middle of k-space, divided by the root of the sum of their squares.

    The middle is a square, by default of 5 to 33 lines, and apodised by a Hann window. This is simple and makes smooth
    maps with Σ|S_c|² = 1, also where there is nothing but noise. They carry the smooth part of the image's phase, so
    that images by these maps are nearly real; that of one coil is its phase alone.
    """

    def _of_centered(self, y: Tensor, mask: Tensor) -> Tensor:
        reach = self._reach(mask)
        low = _low_resolution(y, reach, reach)
        return low / low.abs().square().sum(0).sqrt().clamp(min=torch.finfo(torch.float64).tiny)

    def _reach(self, mask: Tensor) -> int:
        """How far the square around the middle reaches that is sampled, or that was asked for and is sampled."""
        most = min(*mask.shape, LARGEST_CENTER if self.center is None else self.center)
        _check_center(self.center, mask)
        reaches = range((most - 1) // 2, -2, -1)  # of -1 there is nothing to be sampled
        reach = next(reach for reach in reaches if bool(_middle(mask, 2 * reach + 1, 2 * reach + 1).all()))
        least = SMALLEST_CENTER if self.center is None else 2 * ((self.center - 1) // 2) + 1
        if 2 * reach + 1 < least:
            side = max(0, 2 * reach + 1)
            raise _not_sampled(least, (side, side))
        return reach


@dataclass(frozen=True)
class Espirit(CoilMaps):
    """ESPIRiT (Uecker and others, "ESPIRiT — an eigenvalue approach to autocalibrating parallel MRI", 2014).

    Patches of k-space, as large as a kernel and of all coils, lie nearly in a space of few dimensions. The middle of
    k-space shows this space: it is spanned by the singular vectors of the matrix of its patches whose singular values
    are large. To project every patch of k-space onto it, and to average where patches overlap, changes nothing. This
    is a convolution, so in the image it multiplies what the coils see in a pixel by a matrix, which changes nothing
    either: what the coils see is an eigenvector with the eigenvalue 1, and that is their sensitivities. Where there is
    no signal, no eigenvalue is near 1, and the maps are 0; if there is none anywhere, as in the last slices of a
    volume, they are those of `LowResolution`, and a warning tells. Where several points of the object lie in one pixel,
    several eigenvalues are near 1, and as many sets of maps are needed.

    An eigenvector has no phase of its own. It is given the one that makes the image of low resolution real and
    positive, so that images by these maps are nearly real, like those by `LowResolution`.

    Parameters
    ----------
    center : int >= 1, optional
        side of the square in the middle, in frequencies, of which all must be sampled; by default the largest rectangle
        that is sampled, of at most 24×24.
    kernel_size : int >= 2
        side of the patches, in frequencies; the middle must be larger.
    threshold : float in (0, 1)
        singular values below this part of the largest one are taken for noise.
    crop : float in [0, 1)
        the maps are 0 where the eigenvalue is not larger.
    sets : int >= 1
        of maps, no more than there are coils.
    """

    kernel_size: int = 6
    threshold: float = 0.02
    crop: float = 0.95
    sets: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_size < 2:
            raise ValueError(f"Espirit: kernel_size must be >= 2, got {self.kernel_size!r}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"Espirit: threshold must be in (0, 1), got {self.threshold!r}")
        if not 0 <= self.crop < 1:
            raise ValueError(f"Espirit: crop must be in [0, 1), got {self.crop!r}")
        if self.sets < 1:
            raise ValueError(f"Espirit: sets must be >= 1, got {self.sets!r}")

    def _of_centered(self, y: Tensor, mask: Tensor) -> Tensor:
        if self.sets > len(y):
            raise ValueError(f"Espirit: sets must be at most the number of coils, {len(y)}, got {self.sets}")
        if len(y) * self.kernel_size**2 > LARGEST_PATCH:
            raise ValueError(
                f"Espirit: kernel_size must be at most {math.isqrt(LARGEST_PATCH // len(y))} for {len(y)} coils, got "
                f"{self.kernel_size}"
            )
        height, width = self._calibration(mask)
        calibration = _middle(y, height, width)
        if not bool(calibration.any()):
            raise _nothing_there()
        values, maps = _eigenmaps(self._kernels(calibration), y.shape[-2], y.shape[-1], self.sets)
        found = values > self.crop
        if not bool(found[0].any()):
            warnings.warn(
                f"Espirit: no eigenvalue is larger than crop={self.crop}, they reach {float(values.max()):.3g}: there "
                "seems to be nothing but noise; the maps are those of LowResolution",
                stacklevel=4,  # of whoever calls estimate
            )
            smooth = LowResolution(min(height, width))._of_centered(y, mask)
            return smooth if self.sets == 1 else torch.stack([smooth, *[smooth * 0] * (self.sets - 1)])
        low = _low_resolution(y, (height - 1) // 2, (width - 1) // 2)
        phase = (maps.conj() * low).sum(1, keepdim=True).sgn()
        maps = torch.where(found[:, None], maps * torch.where(phase == 0, 1, phase), 0)
        return maps[0] if self.sets == 1 else maps

    def _calibration(self, mask: Tensor) -> tuple[int, int]:
        """Height and width of the middle that is calibrated on."""
        _check_center(self.center, mask)
        if self.center is not None:
            if not bool(_middle(mask, self.center, self.center).all()):
                raise _not_sampled(self.center, _sampled_middle(mask, self.center))
            sides = self.center, self.center
        else:
            sides = _sampled_middle(mask, CALIBRATION)
        if min(sides) <= self.kernel_size:
            raise _not_sampled(self.kernel_size + 1, sides, "take LowResolution or a smaller kernel, or ")
        return sides

    def _kernels(self, calibration: Tensor) -> Tensor:
        """The convolution that projects patches on their space and averages them, K in (Ky)(t) = Σ_δ K(δ) y(t − δ).

        Returns
        -------
        Tensor, (coil, coil, 2·kernel_size − 1, 2·kernel_size − 1), δ from −(kernel_size − 1) on
        """
        coils, side = len(calibration), self.kernel_size
        correlation = calibration.new_zeros((coils * side**2,) * 2)
        for row in range(calibration.shape[1] - side + 1):
            patches = calibration[:, row : row + side].unfold(2, side, 1).permute(2, 0, 1, 3).flatten(1)
            correlation += patches.T @ patches.conj()
        values, vectors = torch.linalg.eigh(correlation)
        signal = vectors[:, values > self.threshold**2 * values[-1]]
        projection = (signal @ signal.mH / side**2).view(coils, side, side, coils, side, side)
        kernels = calibration.new_zeros(coils, coils, 2 * side - 1, 2 * side - 1)
        for row in range(side):
            for column in range(side):  # of the patch that is projected; the other pixel is δ away
                here = projection[:, :, :, :, row, column].permute(0, 3, 1, 2)
                top, left = side - 1 - row, side - 1 - column
                kernels[:, :, top : top + side, left : left + side] += here
        return kernels


def _eigenmaps(kernels: Tensor, height: int, width: int, sets: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues, (set, height, width), and their eigenvectors, (set, coil, height, width), of the
    matrices of pixels by which a convolution in k-space multiplies images, with the origin in the middle."""
    shift = torch.arange(kernels.shape[-1], dtype=torch.float64, device=kernels.device) - kernels.shape[-1] // 2

    def wave(side: int) -> Tensor:
        place = torch.arange(side, dtype=torch.float64, device=kernels.device) - side // 2
        angle = 2 * math.pi / side * torch.outer(place, shift)
        return torch.polar(torch.ones_like(angle), angle)

    columns = torch.einsum("cdux,qx->qcdu", kernels, wave(width))
    values, maps = [], []
    for rows in wave(height).split(max(1, MATRICES_AT_ONCE // columns[..., 0].numel())):
        value, vector = torch.linalg.eigh(torch.einsum("qcdu,ru->rqcd", columns, rows))
        values.append(value[..., -sets:].flip(-1).permute(2, 0, 1))
        maps.append(vector[..., -sets:].flip(-1).permute(3, 2, 0, 1))
    return torch.cat(values, 1), torch.cat(maps, 2)


def _low_resolution(y: Tensor, rows: int, columns: int) -> Tensor:
    """The coils' images of the middle of k-space, apodised, reaching so many lines up and down and to both sides."""
    window = hann(y.shape[-2], rows, y)[:, None] * hann(y.shape[-1], columns, y)
    images = inverse_fourier(window * y, centered=True)
    if not bool(images.any()):
        raise _nothing_there()
    return images


def _middle(x: Tensor, height: int, width: int) -> Tensor:
    """The part of the last two axes around the zero frequency, which lies in the middle."""
    top, left = x.shape[-2] // 2 - height // 2, x.shape[-1] // 2 - width // 2
    return x[..., top : top + height, left : left + width]


def _sampled_middle(mask: Tensor, most: int) -> tuple[int, int]:
    """Height and width of the rectangle in the middle that is sampled: a square that has grown as far as it could."""
    height = width = 0
    grows = True
    while grows:
        grows = False
        for taller, wider in ((1, 0), (0, 1)):
            rows, columns = max(1, height + taller), max(1, width + wider)
            inside = rows <= min(most, mask.shape[0]) and columns <= min(most, mask.shape[1])
            if inside and bool(_middle(mask, rows, columns).all()):
                height, width, grows = rows, columns, True
    return height, width


def _check_center(center: int | None, mask: Tensor) -> None:
    if center is not None and not 1 <= center <= min(mask.shape):
        raise ValueError(f"center: must be in 1 … {min(mask.shape)}, got {center!r}")


def _not_sampled(least: int, found: tuple[int, int], instead: str = "") -> ValueError:
    return ValueError(
        f"maps: the middle of k-space must be sampled to estimate them, {least}×{least} frequencies around zero, "
        f"but only {found[0]}×{found[1]} are; {instead}give maps of your own"
    )


def _nothing_there() -> ValueError:
    return ValueError("maps: the middle of k-space is 0, so that nothing can be estimated from it")
