"""Kernels of convolutions: drawn from a few numbers, given, or read from a file."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unrolled.operators.matrix import check_matrix, read_matrix
from unrolled.system.arraylike import ArrayLike, as_numbers
from unrolled.system.scalars import PlainNumbers

ANTIALIASING = ("bicubic", "bilinear", "box", "gaussian")
"""Names of the kernels that `antialiasing` draws."""

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
"""Endings of files of kernels that are pictures."""

MOMENTS = 1000
"""Of a path that is drawn."""

LARGEST_SIDE = 4096
"""Of a kernel that is drawn, in pixels: what a recipe may ask for is bounded."""


@dataclass(frozen=True)
class Kernel(PlainNumbers, ABC):
    """A rule that draws a kernel, nonnegative and of sum 1."""

    @abstractmethod
    def draw(self) -> Tensor:
        """The kernel, (height, width), float64."""

    def _check(self, name: str, value: float, low: float, high: float) -> None:
        """Raise ValueError unless low < value <= high."""
        if not low < value <= high:
            raise ValueError(f"{type(self).__name__}: {name} must be in ({low}, {high}], got {value!r}")

    def _check_size(self, size: int) -> None:
        if not 1 <= size <= LARGEST_SIDE:
            raise ValueError(f"{type(self).__name__}: size must be in 1 … {LARGEST_SIDE}, got {size!r}")


@dataclass(frozen=True)
class GaussianKernel(Kernel):
    """exp(−r²/2σ²), sampled at pixels around the middle of a square.

    Parameters
    ----------
    sigma : float in (0, 512]
        standard deviation σ, in pixels.
    size : int in 1 … 4096, optional
        side of the square, in pixels; by default odd, and just more than 3σ to every side.

    Examples
    --------
    >>> GaussianKernel(sigma=1.0).draw().shape
    torch.Size([7, 7])
    """

    sigma: float = 1.0
    size: int | None = None

    def __post_init__(self) -> None:
        self._check("sigma", self.sigma, 0, LARGEST_SIDE // 8)
        if self.size is not None:
            self._check_size(self.size)

    def draw(self) -> Tensor:
        size = 2 * math.ceil(3 * self.sigma) + 1 if self.size is None else self.size
        return _square(torch.exp(-((_around_middle(size) / self.sigma) ** 2) / 2))


@dataclass(frozen=True)
class BoxKernel(Kernel):
    """The mean over a square.

    Parameters
    ----------
    size : int in 1 … 4096
        side of the square, in pixels.
    """

    size: int = 3

    def __post_init__(self) -> None:
        self._check_size(self.size)

    def draw(self) -> Tensor:
        return _square(torch.ones(self.size, dtype=torch.float64))


@dataclass(frozen=True)
class MotionKernel(Kernel):
    """The camera moves straight and evenly: the part of the path that lies in every pixel.

    The path is a segment through the middle of the middle pixel.

    Parameters
    ----------
    length : float in (0, 4096]
        of the path, in pixels.
    angle : float
        in degrees, counterclockwise from the direction of rows.

    Examples
    --------
    >>> MotionKernel(length=4, angle=0).draw()
    tensor([[0.1250, 0.2500, 0.2500, 0.2500, 0.1250]], dtype=torch.float64)
    """

    length: float = 9.0
    angle: float = 0.0

    def __post_init__(self) -> None:
        self._check("length", self.length, 0, LARGEST_SIDE)
        if not math.isfinite(self.angle):
            raise ValueError(f"MotionKernel: angle must be a finite number, got {self.angle!r}")

    def draw(self) -> Tensor:
        turn = math.radians(self.angle)
        # Of the end of the path; rounded, so that a right angle has no second column.
        down, right = (round(-math.sin(turn) * self.length / 2, 9), round(math.cos(turn) * self.length / 2, 9))
        rows, columns = (max(0, math.ceil(abs(reach) - 0.5)) for reach in (down, right))
        # The path from −1 to 1, cut where it crosses the borders of pixels.
        cuts = [torch.tensor([-1.0, 1.0], dtype=torch.float64)]
        cuts += [
            (torch.arange(-side, side, dtype=torch.float64) + 0.5) / reach
            for side, reach in ((rows, down), (columns, right))
            if side
        ]
        places = torch.cat(cuts).sort().values
        middles = (places[1:] + places[:-1]) / 2
        kernel = torch.zeros(2 * rows + 1, 2 * columns + 1, dtype=torch.float64)
        at = tuple((middles * reach).round().long() + side for reach, side in ((down, rows), (right, columns)))
        kernel.index_put_(at, places.diff() / 2, accumulate=True)
        return kernel


@dataclass(frozen=True)
class ShakeKernel(Kernel):
    """A hand shakes the camera: the part of the time that a random path spends at every pixel.

    The path is p(t) = Σₖ aₖ k^(−r) cos(πkt) for t from 0 to 1, k = 1 … 32, with Gaussian aₖ in both directions: it is
    smooth, slows down where it turns, and looks like those that were measured of hand-held cameras (Levin and others,
    CVPR 2009). It is scaled to the length that is asked for and moved so that its mean lies in the middle.

    Parameters
    ----------
    length : float in (0, 4096]
        the longer side of the box around the path, in pixels.
    shaking : float in [0, 1]
        how rough the path is, r = 3 − 1.5·shaking. 0: it turns once or twice; 1: it trembles.
    seed : int in [0, 2³²)
        of the path, the same on every machine.

    Examples
    --------
    >>> kernel = ShakeKernel(length=9, seed=3).draw()
    >>> kernel.shape[0] <= 13 and kernel.shape[1] <= 13, round(float(kernel.sum()), 6)
    (True, 1.0)
    """

    length: float = 13.0
    shaking: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        self._check("length", self.length, 0, LARGEST_SIDE)
        if not 0 <= self.shaking <= 1:
            raise ValueError(f"ShakeKernel: shaking must be in [0, 1], got {self.shaking!r}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"ShakeKernel: seed must be in [0, 2^32), got {self.seed!r}")

    def draw(self) -> Tensor:
        path = torch.from_numpy(self._path())
        path = path * (self.length / float((path.amax(0) - path.amin(0)).max()))
        path = path - path.mean(0)
        # Every moment falls on the four pixels around it, the nearer the more.
        reach = int(path.abs().max().ceil())
        kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
        corner = path.floor()
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            place = corner + torch.tensor([down, right])
            weight = (1 - (path - place).abs()).clamp(min=0).prod(1)
            inside = weight > 0
            rows, columns = (place[inside].long() + reach).unbind(1)
            kernel.index_put_((rows, columns), weight[inside], accumulate=True)
        return kernel / kernel.sum()

    def _path(self) -> np.ndarray:
        """The places at `MOMENTS` moments, (moment, 2), in any units."""
        k, t = np.arange(1, 33), (np.arange(MOMENTS) + 0.5) / MOMENTS
        amplitudes = (
            np.random.RandomState(self.seed).standard_normal((32, 2)) * (k ** (1.5 * self.shaking - 3))[:, None]
        )
        path: np.ndarray = np.cos(np.pi * t[:, None] * k) @ amplitudes
        return path


def antialiasing(name: str, factor: int) -> Tensor:
    """The kernel to filter with before every factor-th pixel is kept.

    Its middle is that of a square of factor × factor pixels; so its size is odd if the factor is, and even otherwise.

    Parameters
    ----------
    name : str
        bicubic: Keys' cubic with a = −½ (Keys, 1981, eq. 15); bilinear: a triangle; both stretched by the factor.
        box: the mean over the square. gaussian: a standard deviation of half a factor, cut at three of them.
    factor : int

    Returns
    -------
    Tensor, (size, size), float64, of sum 1
    """
    odd = factor % 2
    if name == "bicubic":
        z = _around_middle(4 * factor - odd).abs() / factor
        return _square(torch.where(z < 1, 1.5 * z**3 - 2.5 * z**2 + 1, -0.5 * z**3 + 2.5 * z**2 - 4 * z + 2))
    if name == "bilinear":
        return _square(1 - _around_middle(2 * factor - odd).abs() / factor)
    if name == "box":
        return BoxKernel(factor).draw()
    return GaussianKernel(factor / 2, 2 * math.ceil(1.5 * factor) + odd).draw()


def read_kernel(operator: str, kernel: Kernel | ArrayLike | str | Path) -> Tensor:
    """The kernel as numbers, drawn, read or as given, and checked.

    Parameters
    ----------
    operator : str
        whose argument it is, for messages.
    kernel : Kernel, Tensor or array (height, width), or a file of one (`.npy`, `.mat`, `.h5`), or of a picture
        which is brought to the sum 1.

    Returns
    -------
    Tensor, (height, width), of the default type

    Raises
    ------
    ValueError
        unless it is a real, finite matrix that is not 0 everywhere.
    """
    given = kernel
    if isinstance(kernel, Kernel):
        kernel = kernel.draw()
    elif isinstance(kernel, (str, Path)):
        kernel = _picture(operator, kernel) if str(kernel).lower().endswith(PICTURES) else read_matrix(kernel)
    kernel = as_numbers(f"{operator}: kernel", kernel)
    if kernel.is_complex():
        raise ValueError(f"{operator}: kernel must be real, got {kernel.dtype}")
    check_matrix(kernel, f"{operator}: kernel")
    if not bool(kernel.any()):
        raise ValueError(f"{operator}: kernel must not be 0 everywhere")
    return kernel.detach().clone() if kernel is given else kernel.detach()


def _picture(operator: str, path: str | Path) -> Tensor:
    """The brightness of a picture as a kernel of the sum 1."""
    try:
        with Image.open(path) as picture:
            bright = torch.from_numpy(np.asarray(picture.convert("F"), dtype=np.float64).copy())
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{operator}: kernel cannot be read from {path}: {error}") from error
    if max(bright.shape) > LARGEST_SIDE or not bool(bright.any()):
        raise ValueError(
            f"{operator}: kernel must be a picture of at most {LARGEST_SIDE} pixels a side that is not black, got "
            f"{path} of {bright.shape[0]} × {bright.shape[1]}"
        )
    return bright / bright.sum()


def _around_middle(size: int) -> Tensor:
    """The places of so many pixels, 0 being their middle."""
    return torch.arange(size, dtype=torch.float64) - (size - 1) / 2


def _square(profile: Tensor) -> Tensor:
    """The separable kernel with this profile along both axes, of sum 1."""
    profile = profile / profile.sum()
    return profile[:, None] * profile
