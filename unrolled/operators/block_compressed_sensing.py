"""Block compressive sensing: every block of an image is measured by the same small matrix."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from unrolled.operators.linear_map import LinearMap, check_images
from unrolled.operators.matrix import (
    Spectrum,
    check_matrix,
    matrix_hash,
    orthonormal_gaussian,
    read_matrix,
    solve_with_ridge,
    spectrum_of,
)
from unrolled.operators.operator import LinearOperator
from unrolled.operators.stationary import LAGS, KeptEstimator, assumed_autocorrelation, autocorrelation
from unrolled.system.arraylike import ArrayLike, as_numbers
from unrolled.system.devices import full_precision

# Measurements per block of 33×33 = 1089 pixels for each ratio, as the literature on Set11 counts them: it rounds the
# small ratios down and the others to the nearest.
PROTOCOL_COUNTS = {0.01: 10, 0.04: 43, 0.10: 109, 0.25: 272, 0.30: 327, 0.40: 436, 0.50: 545}


class BlockCompressedSensing(LinearOperator):
    """y = Φ x for every block of the image, with rows of Φ that are orthonormal unless it is given or learned.

    Images are (batch, channel, height, width) with sides that are multiples of the block; measurements are
    (batch, channel, m, rows of blocks, columns of blocks). Pixels of a block are in row-major order.

    `estimate` is the linear minimum-mean-square estimate x = Q y with Q = CΦᵀ(ΦCΦᵀ)⁻¹. C is the second moment of image
    blocks, taken as stationary: E[x_p x_q] = r(p − q). So the 65×65 autocorrelation r of natural images gives Q for any
    Φ, also one that is being learned. r starts as an exponential; `fit_images` replaces it by that of images.

    Parameters
    ----------
    ratio : float in (0, 1], optional
        measurements per pixel. For blocks of 33 the counts are those of the Set11 protocol (25 %: m = 272).
    measurements : int, optional
        measurements per block, m, instead of a ratio.
    block : int
        side of a block, in pixels.
    seed : int
        of the Gaussian matrix, the same on every machine.
    matrix : Tensor or array (m, block²), or a file of one (`.npy`, `.mat`, `.h5`), optional
        your own Φ, instead of ratio or measurements.
    learned : bool
        whether Φ is a parameter that is trained with the network. Results with a learned Φ belong in another table
        than those with a fixed one.

    Raises
    ------
    ValueError
        unless exactly one of ratio, measurements and matrix is given and in its range.
    """

    matrix: Tensor
    autocorrelation: Tensor
    tensors = ("matrix",)
    local = True
    picture_measurements = False  # but of every block a few numbers
    checks_itself = True

    def __init__(
        self,
        ratio: float | None = None,
        measurements: int | None = None,
        block: int = 33,
        seed: int = 0,
        matrix: ArrayLike | str | Path | None = None,
        learned: bool = False,
    ):
        super().__init__()
        if block < 1:
            raise ValueError(f"BlockCompressedSensing: block must be >= 1, got {block!r}")
        if not 0 <= seed < 2**32:
            raise ValueError(f"BlockCompressedSensing: seed must be in [0, 2^32), got {seed!r}")
        if sum(choice is not None for choice in (ratio, measurements, matrix)) != 1:
            raise ValueError("BlockCompressedSensing: give exactly one of ratio, measurements and matrix")
        self.block, self.learned, self.multiple = block, learned, block
        self.drawn = matrix is None
        if matrix is None:
            m = measurements_of(ratio, block) if measurements is None else measurements
            if not 1 <= m <= block**2:
                raise ValueError(f"BlockCompressedSensing: measurements must be in 1 … {block**2}, got {m!r}")
            matrix = orthonormal_gaussian(m, block**2, seed)
        elif isinstance(matrix, (str, Path)):
            matrix = read_matrix(matrix)
        matrix = as_numbers("BlockCompressedSensing: matrix", matrix)
        check_matrix(matrix)
        if matrix.is_complex() or matrix.shape[1] != block**2 or matrix.shape[0] > block**2:
            raise ValueError(
                f"BlockCompressedSensing: matrix must be real, (at most {block**2}, {block**2}) for blocks of {block}, "
                f"got {matrix.dtype} {tuple(matrix.shape)}"
            )
        if learned:
            self.matrix = nn.Parameter(matrix.detach().clone())
        else:
            # A drawn matrix is made again from its seed, so it need not travel with weights.
            self.register_buffer("matrix", matrix, persistent=not self.drawn)
        self.register_buffer("autocorrelation", assumed_autocorrelation())
        self._estimator = KeptEstimator()
        self.spectrum: Spectrum | None = None

    @property
    def measurements(self) -> int:
        """Measurements per block, m."""
        return self.matrix.shape[0]

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        channel, height, width = check_images(self, image_shape)
        return channel, self.measurements, height // self.block, width // self.block

    @property
    def sampling_ratio(self) -> float | Tensor:
        return self.measurements / self.block**2

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[2] % self.block or x.shape[3] % self.block or 0 in x.shape or x.is_complex():
            raise ValueError(
                "BlockCompressedSensing: images must be real, (batch, channel, height, width) with sides that are "
                f"multiples of {self.block}, got {x.dtype} {tuple(x.shape)}"
            )
        with full_precision(x):
            blocks = rearrange(
                x.to(self.matrix.dtype), "b c (rows p) (cols q) -> b c rows cols (p q)", p=self.block, q=self.block
            )
            return rearrange(blocks @ self.matrix.t(), "b c rows cols m -> b c m rows cols")

    def adjoint(self, y: Tensor) -> Tensor:
        return self.apply_per_block(self.matrix, y)

    def estimate(self, y: Tensor) -> Tensor:
        """The linear minimum-mean-square estimate; Φᵀy for blocks of more than 33 × 33 pixels."""
        if self.block > LAGS // 2 + 1:
            return self.adjoint(y)
        return self.apply_per_block(self._estimator(self.matrix, self.autocorrelation, self.block).T, y)

    @property
    def fitted(self) -> bool:
        assumed = assumed_autocorrelation().to(self.autocorrelation)
        return not torch.equal(self.autocorrelation, assumed)

    def fit_images(self, images: list[Tensor]) -> None:
        """Take the autocorrelation of these images; see `LinearMap.fit_images`. Of black images nothing is learned."""
        found = autocorrelation(images)
        if bool(found.any()):
            self.autocorrelation.copy_(found)

    def take_fit(self, other: LinearMap) -> None:
        if isinstance(other, BlockCompressedSensing):
            self.autocorrelation.copy_(other.autocorrelation)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        # Weights from before operators had an autocorrelation of their own leave it as it is.
        found = state_dict.setdefault(f"{prefix}autocorrelation", self.autocorrelation)
        if found.shape == self.autocorrelation.shape and not found.is_meta and not found[LAGS // 2, LAGS // 2] > 0:
            raise ValueError("autocorrelation must be > 0 at lag 0: no estimate is made of images without brightness")
        super()._load_from_state_dict(state_dict, prefix, *others)

    def apply_per_block(self, matrix: Tensor, y: Tensor) -> Tensor:
        """The image whose blocks are matrixᵀ y: with Φ the adjoint, with another matrix a linear estimate.

        Parameters
        ----------
        matrix : Tensor, (m, block²)
        y : Tensor, (batch, channel, m, rows, columns)

        Returns
        -------
        Tensor, (batch, channel, rows·block, columns·block)
        """
        self._check_measurements(y)
        with full_precision(y):
            blocks = rearrange(y.to(matrix.dtype), "b c m rows cols -> b c rows cols m") @ matrix
            return rearrange(blocks, "b c rows cols (p q) -> b c (rows p) (cols q)", p=self.block, q=self.block)

    def _check_measurements(self, y: Tensor) -> None:
        if y.ndim != 5 or y.shape[2] != self.measurements or 0 in y.shape or y.is_complex():
            raise ValueError(
                f"BlockCompressedSensing: measurements must be real, (batch, channel, {self.measurements}, rows, "
                f"columns), got {y.dtype} {tuple(y.shape)}"
            )

    def alternatives(self, seed: int = 0) -> dict[str, LinearOperator]:
        """Two other drawn matrices."""
        return {f"matrix {number}": self._redrawn(seed + number, measurements=self.measurements) for number in (1, 2)}

    def at_ratio(self, ratio: float, seed: int = 0) -> LinearOperator:
        return self._redrawn(seed, ratio=ratio)

    def _redrawn(self, seed: int, **size: Any) -> "BlockCompressedSensing":
        """A drawn matrix, and what is known of images, which does not depend on it."""
        other = BlockCompressedSensing(block=self.block, seed=seed, **size).to(self.matrix.device)
        other.take_fit(self)
        return other

    def image_size(self, y: Tensor) -> tuple[int, int]:
        self._check_measurements(y)
        return self.block * y.shape[3], self.block * y.shape[4]

    def crop(self, y: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        if any(length % self.block for length in (top, left, height, width)):
            raise ValueError(
                f"BlockCompressedSensing: top, left, height and width must be multiples of {self.block}, "
                f"got {(top, left, height, width)}"
            )
        first, rows, columns = top // self.block, height // self.block, width // self.block
        return y[..., first : first + rows, left // self.block : left // self.block + columns]

    def solve_exactly(self, b: Tensor, ridge: Tensor) -> Tensor | None:
        sides = {"p": self.block, "q": self.block, "rows": b.shape[2] // self.block, "cols": b.shape[3] // self.block}
        blocks = rearrange(b, "b c (rows p) (cols q) -> b (p q) (c rows cols)", **sides)
        x = solve_with_ridge(self.matrix.to(b.dtype), blocks, ridge.flatten(1)[..., None], self.spectrum)
        return rearrange(x, "b (p q) (c rows cols) -> b c (rows p) (cols q)", **sides)

    def prepare_program(self) -> None:
        self.spectrum = spectrum_of(self.matrix)

    def norm(self) -> Tensor:
        """1 of rows that are orthonormal, as they are drawn."""
        if self.drawn and not self.learned:
            return self.matrix.new_ones(())
        return torch.linalg.matrix_norm(self.matrix, ord=2)

    def hash(self) -> str:
        """A short hash of Φ, to tell whether weights belong to it."""
        return matrix_hash(self.matrix)

    def description(self) -> dict[str, Any]:
        if self.drawn and not self.learned:
            return super().description()
        return {"block": self.block, "learned": self.learned}  # the matrix is in the state_dict

    def extra_repr(self) -> str:
        kind = "learned" if self.learned else "fixed"
        return f"block={self.block}, measurements={self.measurements} ({kind} matrix)"


def measurements_of(ratio: float | None, block: int = 33) -> int:
    """Measurements per block for a sampling ratio: the counts of the protocol for blocks of 33, else the nearest."""
    if ratio is None or not (math.isfinite(ratio) and 0 < ratio <= 1):
        raise ValueError(f"BlockCompressedSensing: ratio must be in (0, 1], got {ratio!r}")
    if block == 33 and round(ratio, 6) in PROTOCOL_COUNTS:
        return PROTOCOL_COUNTS[round(ratio, 6)]
    return max(1, round(ratio * block**2))
