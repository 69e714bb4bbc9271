"""Convolution with one kernel, of which every factor-th pixel is kept: what blur and downsampling share."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from unrolled.operators.frequencies import inverse_real_fourier, real_fourier
from unrolled.operators.linear_map import check_images
from unrolled.operators.operator import LinearOperator
from unrolled.system.devices import full_precision

Boundary = Literal["circular", "zero", "reflect", "replicate"]
"""How an image goes on beyond its borders, here of pixels a b c d:

    circular    a b c d | a b c d | a b c d
    zero        0 0 0 0 | a b c d | 0 0 0 0
    reflect         d c b | a b c d | c b a
    replicate   a a a a | a b c d | d d d d
"""

Method = Literal["auto", "fft", "direct"]

PADDING = {"circular": "circular", "zero": "constant", "reflect": "reflect", "replicate": "replicate"}

LARGEST_DIRECT = 11 * 11
"""Numbers in a kernel for which the direct sum is still as fast as Fourier transforms; measured on a CPU, 128 to 256
pixels a side."""


class Filtering(LinearOperator):
    """y[i] = Σ_j k[j] x[factor·i + offset − j], with the kernel's middle in that of every square of factor × factor.

    Parameters
    ----------
    kernel : Tensor, (height, width), real
    drawn : bool
        whether the kernel is made again from a rule, so that it need not travel with weights.
    boundary : str
        one of `Boundary`, or "valid": only what needs no pixels beyond the borders; not with a factor.
    method : str
        "direct" sums, "fft" multiplies Fourier transforms, "auto" takes the faster one.
    factor : int
    height, width : int, optional
        of the images, if all have one size.
    """

    kernel: Tensor
    tensors = ("kernel",)
    checks_itself = True

    def __init__(
        self,
        kernel: Tensor,
        drawn: bool,
        boundary: str,
        method: str,
        factor: int = 1,
        height: int | None = None,
        width: int | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        allowed = (*PADDING, "valid") if factor == 1 else tuple(PADDING)
        if boundary not in allowed:
            raise ValueError(f"{name}: boundary must be one of {', '.join(allowed)}, got {boundary!r}")
        if method not in ("auto", "fft", "direct"):
            raise ValueError(f"{name}: method must be auto, fft or direct, got {method!r}")
        self.boundary, self.method, self.factor, self.multiple = boundary, method, factor, factor
        self.register_buffer("kernel", kernel, persistent=not drawn)
        if (height is None) != (width is None):
            raise ValueError(f"{name}: give both of height and width or none, got {height!r} and {width!r}")
        if height is not None and width is not None:
            self._check_size(height, width)
            self.image_shape = (0, height, width)

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """Pixels that the image is extended by: left, right, top, bottom."""
        if self.boundary == "valid":
            return 0, 0, 0, 0
        (top, bottom), (left, right) = (
            ((size - self.factor) // 2, size - self.factor - (size - self.factor) // 2) for size in self.kernel.shape
        )
        return left, right, top, bottom

    @property
    def sampling_ratio(self) -> float | Tensor:
        return 1 / self.factor**2 if self.image_shape is None else super().sampling_ratio

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        channel, height, width = check_images(self, image_shape)
        self._check_size(height, width)
        less = [size - 1 if self.boundary == "valid" else 0 for size in self.kernel.shape]
        return channel, height // self.factor - less[0], width // self.factor - less[1]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or 0 in x.shape or x.is_complex():
            raise ValueError(
                f"{type(self).__name__}: images must be real, (batch, channel, height, width), "
                f"got {x.dtype} {tuple(x.shape)}"
            )
        self._check_size(*x.shape[2:])
        with full_precision(x):
            extended = x.to(self.kernel.dtype)
            if self.boundary != "valid":
                extended = F.pad(extended, self.margins, PADDING[self.boundary])
            return convolve(extended, self.kernel, self.factor, self._by_fft(x))

    def adjoint(self, y: Tensor) -> Tensor:
        self._check_measurements(y)
        with full_precision(y):
            return self._adjoint(y.to(self.kernel.dtype), self.kernel)

    def _adjoint(self, y: Tensor, kernel: Tensor) -> Tensor:
        extended = convolve_adjoint(y, kernel, self.factor, self._by_fft(y))
        return extended if self.boundary == "valid" else fold(extended, self.margins, self.boundary)

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        """For a circular boundary: without a factor AᴴA is diagonal in the Fourier domain, and with one AAᴴ is.

        Then (AᴴA + ridge)⁻¹ b = (b − Aᴴ(AAᴴ + ridge)⁻¹Ab)/ridge (Zhao and others, 2016).
        """
        if self.boundary != "circular":
            return None
        self._check_size(*b.shape[2:])
        right = b if self.factor == 1 else self(b)
        frequencies = real_fourier(right)
        power = self._power(*b.shape[2:])[:, : frequencies.shape[-1]] / self.factor**2
        x = inverse_real_fourier(frequencies / (power + ridge), right.shape[2:])
        return x if self.factor == 1 else (b - self.adjoint(x)) / ridge

    def norm(self) -> Tensor:
        """‖A‖ for images of the size that was given: in closed form if circular, else by power iteration.

        Without a size it is an upper bound for all sizes, √(‖A‖₁ ‖A‖∞). That is Σ|k| for a circular, zero or valid
        boundary, exact for a circular one and a nonnegative kernel. The other boundaries count pixels near the border
        several times, so there it is larger; with a factor it is about Σ|k|/factor. It was at most 1.8 times the norm
        of all kernels and sizes tried, but for a valid boundary and images little larger than the kernel.
        """
        if self.image_shape is None:
            return self._bound()
        if self.boundary != "circular":
            return super().norm()
        return self._power(*self.image_shape[1:]).max().sqrt() / self.factor

    def _power(self, height: int, width: int) -> Tensor:
        """factor²·AAᴴ of a circular boundary, which is diagonal in the Fourier domain.

        All frequencies that look alike after the downsampling are summed.
        """
        power = torch.fft.fft2(padded(self.kernel, (height, width))).abs().square()
        return reduce(power, "(p h) (q w) -> h w", "sum", p=self.factor, q=self.factor)

    def _bound(self) -> Tensor:
        kernel = self.kernel.abs()
        # The largest sum of a column of |A|; in the smallest images both borders may reach the same pixel.
        sides = [(-(-size // self.factor), 3 * -(-size // self.factor)) for size in kernel.shape]
        with full_precision(kernel):
            columns = [
                self._adjoint(kernel.new_ones(1, 1, height, width), kernel).max()
                for height in sides[0]
                for width in sides[1]
            ]
        return (kernel.sum() * torch.stack(columns).max()).sqrt()

    @abstractmethod
    def estimate(self, y: Tensor) -> Tensor:
        """A first image."""

    def _by_fft(self, x: Tensor) -> bool:
        # On a GPU direct convolutions may be rounded to ten bits (TF32).
        small = self.kernel.numel() <= LARGEST_DIRECT and x.device.type == "cpu"
        return self.method == "fft" or (self.method == "auto" and not small)

    def _check_measurements(self, y: Tensor) -> None:
        if y.ndim != 4 or 0 in y.shape or y.is_complex():
            raise ValueError(
                f"{type(self).__name__}: measurements must be real, (batch, channel, height, width), "
                f"got {y.dtype} {tuple(y.shape)}"
            )
        more = [size - 1 if self.boundary == "valid" else 0 for size in self.kernel.shape]
        self._check_size(y.shape[2] * self.factor + more[0], y.shape[3] * self.factor + more[1])

    def _check_size(self, height: int, width: int) -> None:
        name, (rows, columns) = type(self).__name__, self.kernel.shape
        if self.image_shape is not None and (height, width) != self.image_shape[1:]:
            raise ValueError(f"{name}: is for images of {self.image_shape[1:]} pixels, got {(height, width)}")
        if height < 1 or width < 1 or height % self.factor or width % self.factor:
            raise ValueError(f"{name}: sides of images must be multiples of {self.factor}, got {(height, width)}")
        if height < rows or width < columns:
            raise ValueError(
                f"{name}: the kernel of {rows} × {columns} is larger than the image of {height} × {width}, so every "
                "measurement would depend on what is beyond the borders; use larger images or a smaller kernel"
            )

    def extra_repr(self) -> str:
        height, width = self.kernel.shape
        return f"kernel of {height}×{width}, boundary={self.boundary}, method={self.method}"


def convolve(x: Tensor, kernel: Tensor, stride: int = 1, by_fft: bool = False) -> Tensor:
    """y[i] = Σ_j k[j] x[stride·i + size − 1 − j]: the convolution where the kernel lies inside of x.

    Parameters
    ----------
    x : Tensor, (batch, channel, height, width)
    kernel : Tensor, (rows, columns)
    stride : int
    by_fft : bool

    Returns
    -------
    Tensor, (batch, channel, 1 + (height − rows) // stride, 1 + (width − columns) // stride)
    """
    rows, columns = kernel.shape
    if by_fft:
        size = x.shape[2:]
        whole = inverse_real_fourier(real_fourier(x) * real_fourier(padded(kernel, size)), size)
        return whole[..., rows - 1 :: stride, columns - 1 :: stride]
    if torch.compiler.is_exporting():  # into a program, which takes any number of images
        maps = F.conv2d(x.flatten(0, 1).unsqueeze(1), kernel.flip(0, 1)[None, None], stride=stride)
        return maps.view(*x.shape[:2], *maps.shape[2:])
    # A channel for every image: that is several times faster on a CPU than a batch of images with one channel.
    maps = rearrange(x, "b c h w -> 1 (b c) h w")
    count = maps.shape[1]
    maps = F.conv2d(maps, kernel.flip(0, 1).expand(count, 1, rows, columns), stride=stride, groups=count)
    return rearrange(maps, "1 (b c) h w -> b c h w", b=x.shape[0])


def convolve_adjoint(y: Tensor, kernel: Tensor, stride: int = 1, by_fft: bool = False) -> Tensor:
    """The adjoint of `convolve`, for images as small as have measurements like y."""
    rows, columns = kernel.shape
    if by_fft:
        spread = F.pad(_spread(y, stride), (columns - 1, 0, rows - 1, 0))
        size = spread.shape[2:]
        return inverse_real_fourier(real_fourier(spread) * real_fourier(padded(kernel, size)).conj(), size)
    if torch.compiler.is_exporting():
        maps = F.conv_transpose2d(y.flatten(0, 1).unsqueeze(1), kernel.flip(0, 1)[None, None], stride=stride)
        return maps.view(*y.shape[:2], *maps.shape[2:])
    maps = rearrange(y, "b c h w -> 1 (b c) h w")
    count = maps.shape[1]
    if stride == 1:  # faster on a CPU than the transposed convolution that it is
        kernels = kernel.expand(count, 1, rows, columns)
        maps = F.conv2d(maps, kernels, padding=(rows - 1, columns - 1), groups=count)
    else:
        kernels = kernel.flip(0, 1).expand(count, 1, rows, columns)
        maps = F.conv_transpose2d(maps, kernels, stride=stride, groups=count)
    return rearrange(maps, "1 (b c) h w -> b c h w", b=y.shape[0])


def padded(kernel: Tensor, size: Sequence[int]) -> Tensor:
    """The kernel with zeros below and to its right, of a size; ONNX does not do it within a Fourier transform."""
    rows, columns = kernel.shape
    return F.pad(kernel, (0, size[1] - columns, 0, size[0] - rows))


def _spread(y: Tensor, stride: int) -> Tensor:
    """The pixels of y with stride − 1 zeros in between."""
    if stride == 1:
        return y
    spread = y.new_zeros(*y.shape[:2], *((side - 1) * stride + 1 for side in y.shape[2:]))
    spread[..., ::stride, ::stride] = y
    return spread


def fold(y: Tensor, margins: tuple[int, int, int, int], boundary: str) -> Tensor:
    """The adjoint of extending an image by margins: they are added to the pixels that they were copied from.

    Parameters
    ----------
    y : Tensor, (batch, channel, top + height + bottom, left + width + right)
    margins : (left, right, top, bottom), of which every sum is less than the side of the image
    boundary : str
        one of `Boundary`.

    Returns
    -------
    Tensor, (batch, channel, height, width)
    """
    left, right, top, bottom = margins
    return _fold_rows(_fold_rows(y, top, bottom, boundary).mT, left, right, boundary).mT


def _fold_rows(y: Tensor, above: int, below: int, boundary: str) -> Tensor:
    height = y.shape[-2] - above - below
    first, image, last = y.split([above, height, below], dim=-2)
    if boundary == "zero":
        return image
    if boundary == "circular":
        to = (height - above, 0)
    elif boundary == "reflect":
        first, last, to = first.flip(-2), last.flip(-2), (1, height - 1 - below)
    else:
        first, last, to = first.sum(-2, keepdim=True), last.sum(-2, keepdim=True), (0, height - 1)
    for part, row in zip((first, last), to, strict=True):
        image = image + F.pad(part, (0, 0, row, height - row - part.shape[-2]))
    return image
