"""Downsampling: a filter against aliasing, and every factor-th pixel of what it gives."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.operators.filtering import Boundary, Filtering, Method
from unrolled.operators.kernels import ANTIALIASING, LARGEST_SIDE, Kernel, antialiasing, read_kernel
from unrolled.system.arraylike import ArrayLike
from unrolled.system.devices import full_precision


class Downsampling(Filtering):
    """Every square of factor × factor pixels becomes one, a mean of pixels around the middle of the square.

    Images are real, with sides that are multiples of the factor; measurements are (batch, channel, height / factor,
    width / factor). Kernels are convolved, so mirrored; their middle lies on the middle of the square, or half a pixel
    right of and below it where one has a middle pixel and the other has not. Away from the borders, bicubic and
    bilinear agree with the antialiased resizing of Pillow and of `torch.nn.functional.interpolate`.

    Parameters
    ----------
    factor : int in 1 … 1024
    kernel : str, Kernel, Tensor or array (height, width), or a file of one (`.npy`, `.mat`, `.h5`)
        "bicubic" (Keys' cubic, a = −½), "bilinear", "box" (the mean of the square) or "gaussian" (a standard deviation
        of half a factor), all stretched by the factor; or a kernel of your own, whose sum must not be 0.
    boundary : str
        how the image goes on beyond its borders: "circular", "zero", "reflect" (around the outermost pixel, which is
        not repeated) or "replicate".
    method : str
        as in `Blur`.
    height, width : int, optional
        of the images, if all have one size: `norm` is then a value of theirs, and not only a bound.

    Raises
    ------
    ValueError
        for an unknown name, and whenever `Blur` does.

    Examples
    --------
    >>> operator = Downsampling(2, kernel="box")
    >>> operator(torch.tensor([[0.0, 2, 5, 5], [4, 6, 5, 5]])[None, None])
    tensor([[[[3., 5.]]]])
    """

    def __init__(
        self,
        factor: int,
        kernel: Kernel | ArrayLike | str | Path = "bicubic",
        boundary: Boundary = "replicate",
        method: Method = "auto",
        height: int | None = None,
        width: int | None = None,
    ):
        if not 1 <= factor <= LARGEST_SIDE // 4:
            raise ValueError(f"Downsampling: factor must be in 1 … {LARGEST_SIDE // 4}, got {factor!r}")
        named = isinstance(kernel, str) and kernel in ANTIALIASING
        if isinstance(kernel, str) and named:
            numbers = antialiasing(kernel, factor).to(torch.get_default_dtype())
        elif isinstance(kernel, str) and not Path(kernel).suffix:
            names = ", ".join(ANTIALIASING)
            raise ValueError(f"Downsampling: kernel must be one of {names}, or numbers, got {kernel!r}")
        else:
            numbers = read_kernel("Downsampling", kernel)
        if not bool(numbers.sum().abs() > 1e-6 * numbers.abs().sum()):
            raise ValueError("Downsampling: kernel must have a sum other than 0, or no image could be made of it")
        # A kernel that is smaller than the square, say one pixel, is put into it.
        before = [max(0, factor - size) // 2 for size in numbers.shape]
        after = [max(0, factor - size) - first for size, first in zip(numbers.shape, before, strict=True)]
        numbers = F.pad(numbers, (before[1], after[1], before[0], after[0]))
        super().__init__(numbers, named or isinstance(kernel, Kernel), boundary, method, factor, height, width)

    def estimate(self, y: Tensor) -> Tensor:
        """Bicubic interpolation of y / Σk, so that an image of one brightness comes back as it was."""
        self._check_measurements(y)
        with full_precision(y):
            y = y.to(self.kernel.dtype) / self.kernel.sum()
            return F.interpolate(y, scale_factor=self.factor, mode="bicubic")

    def description(self) -> dict[str, Any]:
        kernel = self.arguments["kernel"]
        named = isinstance(kernel, str) and kernel in ANTIALIASING
        return {**super().description(), "kernel": kernel} if named else super().description()

    def extra_repr(self) -> str:
        return f"factor={self.factor}, {super().extra_repr()}"
