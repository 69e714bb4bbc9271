"""Linear maps W in which images are sparse: orthonormal transforms, and the differences of neighbours."""

import math
from abc import ABC, abstractmethod
from functools import cache

import numpy as np
import torch
from torch import Tensor

from unrolled.solvers.given import as_image
from unrolled.system.scalars import whole_number


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

    def preimage(self, x: Tensor) -> Tensor:
        """Coefficients c with Wᴴc = x, or as nearly as there are any; by default Wx, which is right if WᴴW = 1."""
        return self(x)


class OrthonormalTransform(Transform):
    """A transform with WᴴW = WWᴴ = 1, on both axes by matrices that are made once per side, in float64."""

    def __init__(self) -> None:
        self._matrices: dict[tuple[int, torch.dtype, torch.device], list[Tensor]] = {}

    @abstractmethod
    def matrices(self, side: int) -> list[Tensor]:
        """The levels of the transform along an axis of so many pixels, each (side, side), float64, orthogonal.

        The first acts on the pixels, and each further one on the first coefficients of the one before, as many as its
        own side.
        """

    @abstractmethod
    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        """The coefficients [: rows, : columns] are those of the mean, or of the coarsest scale."""

    def __call__(self, x: Tensor) -> Tensor:
        x = self._checked("x", x)
        return _analyse(x, self._levels(x.shape[-2], x), self._levels(x.shape[-1], x))

    def adjoint(self, coefficients: Tensor) -> Tensor:
        c = self._checked("coefficients", coefficients)
        return _synthesise(c, self._levels(c.shape[-2], c), self._levels(c.shape[-1], c))

    def _checked(self, name: str, image: Tensor) -> Tensor:
        x = as_image(name, image)
        if x.ndim < 2 or 0 in x.shape:
            raise ValueError(
                f"{name}: must be (…, height, width) of at least one pixel, got the shape {tuple(x.shape)}"
            )
        return x

    def _levels(self, side: int, like: Tensor) -> list[Tensor]:
        key = (side, like.dtype, like.device)
        if key not in self._matrices:
            self._matrices[key] = [matrix.to(like.device, like.dtype) for matrix in self.matrices(side)]
        return self._matrices[key]


def _analyse(x: Tensor, rows: list[Tensor], columns: list[Tensor]) -> Tensor:
    c = rows[0] @ x @ columns[0].T
    if len(rows) == 1:
        return c
    corner = c[..., : len(rows[1]), : len(columns[1])]
    return _with_corner(c, _analyse(corner, rows[1:], columns[1:]))


def _synthesise(c: Tensor, rows: list[Tensor], columns: list[Tensor]) -> Tensor:
    if len(rows) > 1:
        corner = c[..., : len(rows[1]), : len(columns[1])]
        c = _with_corner(c, _synthesise(corner, rows[1:], columns[1:]))
    return rows[0].T @ c @ columns[0]


class DCT(OrthonormalTransform):
    """The orthonormal discrete cosine transform (type II). Works on images of any size."""

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        return 1, 1

    def matrices(self, side: int) -> list[Tensor]:
        frequency = torch.arange(side, dtype=torch.float64)[:, None]
        matrix = torch.cos(math.pi / side * (torch.arange(side, dtype=torch.float64) + 0.5) * frequency)
        matrix *= math.sqrt(2 / side)
        matrix[0] /= math.sqrt(2)
        return [matrix]


class Wavelet(OrthonormalTransform):
    """Daubechies' orthonormal wavelets, periodic, in a pyramid (Daubechies, 1988; Mallat, 1989).

    The coefficients have the shape of the image: the coarse image of the last level in the corner [0, 0], and around
    it the details, from coarse to fine. Images may have any sides: of an odd number of pixels the last one goes into
    the coarse image, which then has (side + 1)/2, and the others are transformed as ever. Such an image is darker at
    its edge, which further levels know: for any sides, the details of a constant image are 0.

    Parameters
    ----------
    moments : int in 1 … 8
        vanishing moments: 1 is Haar's wavelet, 4 (filters of 8 taps, "db4") is usual for images.
    levels : int >= 1
        each halves the sides of the coarse image, until they are 1.
    """

    def __init__(self, moments: int = 4, levels: int = 4):
        super().__init__()
        moments = whole_number("Wavelet: moments", moments)
        if moments not in range(1, 9):
            raise ValueError(f"Wavelet: moments must be in 1 … 8, got {moments!r}")
        self.moments, self.levels = moments, whole_number("Wavelet: levels", levels)

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        # Halved and rounded up as often as there are levels.
        return -(-height >> self.levels), -(-width >> self.levels)

    def matrices(self, side: int) -> list[Tensor]:
        found, constant = [], np.ones(side)
        for _ in range(self.levels):
            matrix = _wavelet_level(self.moments, constant)
            found.append(torch.from_numpy(matrix))
            constant = (matrix @ constant)[: (len(constant) + 1) // 2]
        return found


def _wavelet_level(moments: int, constant: np.ndarray) -> np.ndarray:
    """One level along an axis on which a constant image has these coefficients: first the coarse half, then details."""
    side = len(constant)
    even, half = side // 2 * 2, (side + 1) // 2
    low = scaling_filter(moments)
    high = low[::-1] * (-1.0) ** np.arange(len(low))
    matrix = np.zeros((side, side))
    for row in range(side // 2):
        places = (2 * row + np.arange(len(low))) % even  # filters longer than the side wrap around, more than once
        np.add.at(matrix[row], places, low)
        np.add.at(matrix[half + row], places, high)
    if side % 2:
        matrix[half - 1, -1] = 1
    if not np.allclose(constant, constant[0], rtol=1e-9, atol=0):
        _move_to_the_coarse_half(matrix, constant)
    return matrix


def _move_to_the_coarse_half(matrix: np.ndarray, constant: np.ndarray) -> None:
    """Rotate the coefficients that see the edge, where constant images are uneven, until these have no details.

    The rotation is in the plane of the coarse coefficients there and of the details: it leaves all else as it is.
    """
    half = (len(matrix) + 1) // 2
    uneven = np.abs(constant / constant[0] - 1) > 1e-9
    seeing = np.abs(matrix[:, uneven]).sum(1) > 0
    edge, rest = np.flatnonzero(seeing[:half]), half + np.flatnonzero(seeing[half:])
    coarse, details = matrix[edge] @ constant, matrix[rest] @ constant
    a, b = float(np.linalg.norm(coarse)), float(np.linalg.norm(details))
    if b <= 1e-12 * a:
        return
    cosine, sine = a / math.hypot(a, b), b / math.hypot(a, b)
    along, across = coarse / a, details / b
    u, v = along @ matrix[edge], across @ matrix[rest]
    matrix[edge] += np.outer(along, (cosine - 1) * u + sine * v)
    matrix[rest] += np.outer(across, (cosine - 1) * v - sine * u)


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
        shifts = whole_number("CycleSpinning: shifts", shifts)
        if shifts > len(self.SHIFTS):
            raise ValueError(f"CycleSpinning: shifts must be in 1 … {len(self.SHIFTS)}, got {shifts!r}")
        self.transform, self.shifts = transform, self.SHIFTS[:shifts]

    def __call__(self, x: Tensor) -> Tensor:
        x = as_image("x", x)
        shifted = torch.stack([x.roll(shift, (-2, -1)) for shift in self.shifts], -3)
        return self.transform(shifted) / math.sqrt(len(self.shifts))

    def adjoint(self, coefficients: Tensor) -> Tensor:
        coefficients = as_image("coefficients", coefficients)
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

    def __init__(self) -> None:
        self._cosines = DCT()

    def __call__(self, x: Tensor) -> Tensor:
        x = as_image("x", x)
        down = torch.cat([x[..., 1:, :] - x[..., :-1, :], torch.zeros_like(x[..., :1, :])], -2)
        across = torch.cat([x[..., :, 1:] - x[..., :, :-1], torch.zeros_like(x[..., :, :1])], -1)
        return torch.stack([down, across], -3)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        coefficients = as_image("coefficients", coefficients)
        down, across = coefficients[..., 0, :-1, :], coefficients[..., 1, :, :-1]
        rows, columns = torch.zeros_like(coefficients[..., 0, :1, :]), torch.zeros_like(coefficients[..., 1, :, :1])
        return (
            torch.cat([rows, down], -2)
            - torch.cat([down, rows], -2)
            + torch.cat([columns, across], -1)
            - torch.cat([across, columns], -1)
        )

    def preimage(self, x: Tensor) -> Tensor:
        """The differences p of least norm with Dᴴp = x − mean(x): D(DᴴD)⁻¹ of that, in the DCT, its eigenbasis."""
        height, width = x.shape[-2:]
        eigenvalues = _squared_differences(height)[:, None] + _squared_differences(width)
        eigenvalues[0, 0] = math.inf  # the mean, of which there are no differences
        return self(self._cosines.adjoint(self._cosines(x) / eigenvalues.to(x.device, x.real.dtype)))


def _squared_differences(side: int) -> Tensor:
    """The eigenvalues of DᴴD along an axis, in the order of the cosines."""
    return 4 * (torch.arange(side, dtype=torch.float64) * (math.pi / (2 * side))).sin().square()
