"""Inpainting: some pixels are measured, the others are missing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.operators.filtering import convolve
from unrolled.operators.frequencies import sampling_mask
from unrolled.operators.kernels import GaussianKernel
from unrolled.operators.linear_map import check_images
from unrolled.operators.masked_samples import MaskedSamples
from unrolled.operators.matrix import LARGEST_DRAWN
from unrolled.system.arraylike import ArrayLike
from unrolled.system.claims import announce
from unrolled.system.devices import full_precision

COARSER = 0.01
"""How much weight the next coarser grid has in the first image, against a measured pixel at the place."""


class Inpainting(MaskedSamples):
    """y = m·x: the pixels of an image where a mask is 1, and 0 elsewhere.

    Images are real; measurements have their shape, (batch, channel, height, width).

    Parameters
    ----------
    mask : Tensor or array (height, width) of 0 and 1, or a file of one (`.npy`, `.mat`, `.h5`), optional
        where pixels are measured.
    keep : float in (0, 1], optional
        the part of the pixels that is measured, instead of a mask: so many are drawn, every one equally likely.
    height, width : int, optional
        of the images; needed with keep.
    seed : int
        of the draw, the same on every machine.

    Raises
    ------
    ValueError
        unless exactly one of mask and keep is given; for an empty mask, or one that is not of 0 and 1.

    Examples
    --------
    >>> operator = Inpainting(keep=0.3, height=10, width=20)
    >>> int(operator.mask.sum())
    60
    """

    window: Tensor
    tensors = ("mask",)
    checks_itself = True

    def __init__(
        self,
        mask: ArrayLike | str | Path | None = None,
        keep: float | None = None,
        height: int | None = None,
        width: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        if (mask is None) == (keep is None):
            raise ValueError("Inpainting: give exactly one of mask and keep")
        drawn = mask is None
        if keep is not None:
            if not 0 < keep <= 1:
                raise ValueError(f"Inpainting: keep must be in (0, 1], got {keep!r}")
            if not 0 <= seed < 2**32:
                raise ValueError(f"Inpainting: seed must be in [0, 2^32), got {seed!r}")
            if height is None or width is None or height < 1 or width < 1:
                raise ValueError(f"Inpainting: height and width must be >= 1 with keep, got {height!r} and {width!r}")
            if height * width > LARGEST_DRAWN:
                raise ValueError(f"Inpainting: at most {LARGEST_DRAWN:,} pixels can be drawn, got {height} × {width}")
            mask = _draw(keep, height, width, seed)
        assert mask is not None
        # A drawn mask is made again from its seed, so it need not travel with weights.
        self.register_buffer("mask", sampling_mask("Inpainting", mask, height, width), persistent=not drawn)
        self.image_shape = (0, *self.mask.shape)
        # For the first image; half a pixel, so that measured neighbours count most.
        window = GaussianKernel(0.5, 5).draw().to(self.mask.dtype)
        self.register_buffer("window", window, persistent=False)

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        return check_images(self, image_shape)

    def forward(self, x: Tensor) -> Tensor:
        self._check("images", x)
        with full_precision(x):
            return self.mask * x.to(self.mask.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        self._check("measurements", y)
        with full_precision(y):
            return self.mask * y.to(self.mask.dtype)

    def norm(self) -> Tensor:
        """1."""
        return self.mask.max()

    def sampled(self, y: Tensor) -> Tensor:
        return self.mask * y

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        return b / (self.mask.square() + ridge)

    def estimate(self, y: Tensor) -> Tensor:
        """The measured pixels, and in between the mean of those around: near ones where there are any, else far ones.

        A normalized convolution (Knutsson, Westin, 1993), G∗y / G∗m with a Gaussian G, on grids that are coarser by 2
        each; every grid is filled in from the next coarser one.
        """
        self._check("measurements", y)
        with full_precision(y):
            y = self.mask * y.to(self.mask.dtype)
            return y + (1 - self.mask) * self._fill(y, self.mask.reshape(-1, 1, *self.mask.shape[-2:]))

    def _fill(self, y: Tensor, weight: Tensor) -> Tensor:
        if max(y.shape[2:]) == 1:
            return y / weight
        coarser = [F.avg_pool2d(part, 2, ceil_mode=True) for part in (y, weight)]
        far = F.interpolate(self._fill(coarser[0], coarser[1]), size=y.shape[2:], mode="bilinear")
        near, certainty = (convolve(F.pad(part, (2, 2, 2, 2)), self.window) for part in (y, weight))
        return (near + COARSER * far) / (certainty + COARSER)

    def _check(self, what: str, x: Tensor) -> None:
        sides = self.mask.shape[-2:]
        fits = x.ndim == 4 and 0 not in x.shape and x.shape[2:] == sides and self.batch in (None, len(x))
        if not fits or x.is_complex():
            raise ValueError(
                f"Inpainting: {what} must be real, ({self.batch or 'batch'}, channel, {sides[0]}, {sides[1]}), got "
                f"{x.dtype} {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        height, width = self.mask.shape[-2:]
        return f"{height}×{width}"


def _draw(keep: float, height: int, width: int, seed: int) -> Tensor:
    """A mask with exactly so many pixels, at least one."""
    announce(16 * height * width, 3 * height * width)
    mask = np.zeros(height * width)
    mask[np.random.RandomState(seed).permutation(mask.size)[: max(1, round(keep * mask.size))]] = 1
    return torch.from_numpy(mask.reshape(height, width))
