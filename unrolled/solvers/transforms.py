"""Linear maps W in which images are sparse: orthonormal transforms, and the differences of neighbours."""

import math
from abc import ABC, abstractmethod
from functools import cache

import numpy as np
import torch
from torch import Tensor


class Transform(ABC):
    """A linear map W of the last two axes, (…, height, width), real or complex, of any floating point type."""

    norm: float = 1.0
    """‖W‖, or an upper bound of it."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Coefficients of an image."""

    @abstractmethod
    def adjoint(self, coefficients: Tensor) -> Tensor:
        """Wᴴ, which for an orthonormal transform is also its inverse."""


class OrthonormalTransform(Transform):
    """A transform with WᴴW = WWᴴ = 1, on both axes by matrices that are made once per side, in float64."""

    def __init__(self) -> None:
        self._matrices: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    @abstractmethod
    def matrix(self, side: int) -> Tensor:
        """One level of the transform along an axis of so many pixels, (side, side), float64, orthogonal."""

    @abstractmethod
    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        """The coefficients [: rows, : columns] are those of the mean, or of the coarsest scale."""

    def _matrix(self, side: int, like: Tensor) -> Tensor:
        key = (side, like.dtype, like.device)
        if key not in self._matrices:
            self._matrices[key] = self.matrix(side).to(like.device, like.dtype)
        return self._matrices[key]

    def _level(self, x: Tensor) -> Tensor:
        return self._matrix(x.shape[-2], x) @ x @ self._matrix(x.shape[-1], x).T

    def _level_back(self, c: Tensor) -> Tensor:
        return self._matrix(c.shape[-2], c).T @ c @ self._matrix(c.shape[-1], c)


class DCT(OrthonormalTransform):
    """The orthonormal discrete cosine transform (type II). Works on images of any size."""

    def __call__(self, x: Tensor) -> Tensor:
        return self._level(x)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        return self._level_back(coefficients)

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        return 1, 1

    def matrix(self, side: int) -> Tensor:
        frequency = torch.arange(side, dtype=torch.float64)[:, None]
        matrix = torch.cos(math.pi / side * (torch.arange(side, dtype=torch.float64) + 0.5) * frequency)
        matrix *= math.sqrt(2 / side)
        matrix[0] /= math.sqrt(2)
        return matrix


class Wavelet(OrthonormalTransform):
    """Daubechies' orthonormal wavelets, periodic, in a pyramid (Daubechies, 1988; Mallat, 1989).

    The coefficients have the shape of the image: the coarse image of the last level in the corner [0, 0], and around
    it the details, from coarse to fine.

    Parameters
    ----------
    moments : int in 1 … 8
        vanishing moments: 1 is Haar's wavelet, 4 (filters of 8 taps, "db4") is usual for images.
    levels : int >= 1
        the sides of images must be multiples of 2^levels.
    """

    def __init__(self, moments: int = 4, levels: int = 4):
        super().__init__()
        if moments not in range(1, 9):
            raise ValueError(f"Wavelet: moments must be in 1 … 8, got {moments!r}")
        if levels < 1:
            raise ValueError(f"Wavelet: levels must be >= 1, got {levels!r}")
        self.moments, self.levels = moments, levels

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x)
        return self._analyse(x, self.levels)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        self._check(coefficients)
        return self._synthesise(coefficients, self.levels)

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        return height >> self.levels, width >> self.levels

    def matrix(self, side: int) -> Tensor:
        low = scaling_filter(self.moments)
        high = low[::-1] * (-1.0) ** np.arange(len(low))
        matrix = np.zeros((side, side))
        for row in range(side // 2):
            places = (2 * row + np.arange(len(low))) % side  # filters longer than the side wrap around, more than once
            np.add.at(matrix[row], places, low)
            np.add.at(matrix[side // 2 + row], places, high)
        return torch.from_numpy(matrix)

    def _analyse(self, x: Tensor, levels: int) -> Tensor:
        c = self._level(x)
        if levels == 1:
            return c
        rows, columns = c.shape[-2] // 2, c.shape[-1] // 2
        return _with_corner(c, self._analyse(c[..., :rows, :columns], levels - 1))

    def _synthesise(self, c: Tensor, levels: int) -> Tensor:
        if levels > 1:
            rows, columns = c.shape[-2] // 2, c.shape[-1] // 2
            c = _with_corner(c, self._synthesise(c[..., :rows, :columns], levels - 1))
        return self._level_back(c)

    def _check(self, x: Tensor) -> None:
        multiple = 2**self.levels
        if x.ndim < 2 or x.shape[-2] % multiple or x.shape[-1] % multiple or 0 in x.shape:
            raise ValueError(
                f"Wavelet: sides must be multiples of 2^levels = {multiple}, got shape {tuple(x.shape)}; fewer levels "
                "need less"
            )


def _with_corner(whole: Tensor, corner: Tensor) -> Tensor:
    """The whole with another corner [0, 0]."""
    rows, columns = corner.shape[-2:]
    return torch.cat([torch.cat([corner, whole[..., :rows, columns:]], -1), whole[..., rows:, :]], -2)


@cache
def scaling_filter(moments: int) -> np.ndarray:
    """Daubechies' low-pass filter with so many vanishing moments, 2·moments taps, of norm 1.

    By spectral factorisation (Daubechies, Ten Lectures on Wavelets, 1992, section 6.1): with minimum phase.
    """
    # |m(ω)|² = cos(ω/2)^2N P(sin²(ω/2)), P(y) = Σ_k C(N−1+k, k) y^k; of each pair of roots z, 1/z the inner one.
    roots = np.roots([math.comb(moments - 1 + k, k) for k in range(moments)][::-1])
    taps = np.poly(-np.ones(moments))
    for y in roots:
        half = 1 - 2 * y  # (z + 1/z)/2
        root = np.sqrt(half**2 - 1 + 0j)
        z = half - root if abs(half - root) < 1 else half + root
        taps = np.convolve(taps, [1, -z])
    taps = taps.real
    return taps * math.sqrt(2) / taps.sum()


class CycleSpinning(Transform):
    """An orthonormal transform of several shifted copies of the image: (…, height, width) ↦ (…, shifts, height, width).

    What it is used for no longer depends on where the grid of wavelets lies (Coifman, Donoho, 1995). WᴴW = 1, but not
    WWᴴ: it has as many times more coefficients than pixels as there are shifts.

    Parameters
    ----------
    transform : OrthonormalTransform
    shifts : int in 1 … 8
    """

    SHIFTS = ((0, 0), (1, 2), (3, 5), (6, 1), (2, 7), (5, 3), (7, 6), (4, 4))
    """Down and across, cyclic: within 8×8, no two in a row or a column."""

    def __init__(self, transform: OrthonormalTransform, shifts: int = 8):
        if not 1 <= shifts <= len(self.SHIFTS):
            raise ValueError(f"CycleSpinning: shifts must be in 1 … {len(self.SHIFTS)}, got {shifts!r}")
        self.transform, self.shifts = transform, self.SHIFTS[:shifts]

    def __call__(self, x: Tensor) -> Tensor:
        shifted = torch.stack([x.roll(shift, (-2, -1)) for shift in self.shifts], -3)
        return self.transform(shifted) / math.sqrt(len(self.shifts))

    def adjoint(self, coefficients: Tensor) -> Tensor:
        images = self.transform.adjoint(coefficients).unbind(-3)
        back = [
            image.roll((-down, -across), (-2, -1)) for image, (down, across) in zip(images, self.shifts, strict=True)
        ]
        return torch.stack(back).sum(0) / math.sqrt(len(self.shifts))

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        """As that of the transform, for every shift."""
        return self.transform.coarsest(height, width)


class FiniteDifferences(Transform):
    """Differences to the next pixel, down and across, (…, height, width) ↦ (…, 2, height, width).

    Beyond the last row and column the image goes on unchanged: the last differences are 0. Not orthonormal: ‖D‖² < 8.
    """

    norm = math.sqrt(8)

    def __call__(self, x: Tensor) -> Tensor:
        down = torch.cat([x[..., 1:, :] - x[..., :-1, :], torch.zeros_like(x[..., :1, :])], -2)
        across = torch.cat([x[..., :, 1:] - x[..., :, :-1], torch.zeros_like(x[..., :, :1])], -1)
        return torch.stack([down, across], -3)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        down, across = coefficients[..., 0, :-1, :], coefficients[..., 1, :, :-1]
        rows, columns = torch.zeros_like(coefficients[..., 0, :1, :]), torch.zeros_like(coefficients[..., 1, :, :1])
        return (
            torch.cat([rows, down], -2)
            - torch.cat([down, rows], -2)
            + torch.cat([columns, across], -1)
            - (torch.cat([across, columns], -1))
        )
