"""The root of the ramp filter, by which line integrals are measured evenly at all frequencies."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unrolled.operators.operator import LinearOperator
from unrolled.system.devices import full_precision

LARGEST_DETECTORS = 10_000


class RootRamp(LinearOperator):
    """y ↦ R^½ y along the detector, R the ramp filter of filtered back-projection.

    A projection damps the frequency f of an image by |f|^½, so AᴴA is far from a multiple of the identity: steps along
    ∇½‖Ax − y‖² = Aᴴ(Ax − y) move fine structures hardly at all. R^½A is almost isometric but for a factor, and
    (R^½A)ᴴ(R^½A) = AᴴRA: the step is a filtered back-projection of the residual. R is the matrix of the samples of the
    filter (Kak and Slaney, "Principles of Computerized Tomographic Imaging", 1988, eq. 61), which is symmetric and
    positive definite.

    Parameters
    ----------
    detectors : int
    """

    root: Tensor
    inverse: Tensor

    def __init__(self, detectors: int):
        super().__init__()
        if not 1 <= detectors <= LARGEST_DETECTORS:
            raise ValueError(f"RootRamp: detectors must be in 1 … {LARGEST_DETECTORS:,}, got {detectors!r}")
        self.detectors = detectors
        values, vectors = torch.linalg.eigh(_ramp(detectors))
        for name, power in (("root", 0.5), ("inverse", -0.5)):
            matrix = (vectors * values**power) @ vectors.T
            self.register_buffer(name, matrix.to(torch.get_default_dtype()), persistent=False)

    @property
    def sampling_ratio(self) -> float | Tensor:
        return 1.0

    def measurement_shape(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        if len(image_shape) < 2 or image_shape[-1] != self.detectors:
            raise ValueError(f"RootRamp: must be of {self.detectors} detectors, got {tuple(image_shape)}")
        return tuple(image_shape)

    def forward(self, x: Tensor) -> Tensor:
        return self._along_detector(x, self.root)

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)

    def norm(self) -> Tensor:
        return torch.linalg.matrix_norm(self.root, 2)

    def estimate(self, y: Tensor) -> Tensor:
        """R^-½ y, which is exact."""
        return self._along_detector(y, self.inverse)

    def _along_detector(self, y: Tensor, matrix: Tensor) -> Tensor:
        self.measurement_shape(y.shape)
        with full_precision(y):
            return y.to(matrix.dtype) @ matrix


def _ramp(detectors: int) -> Tensor:
    """The filter as a matrix, (detector, detector), float64; detectors are 1 apart."""
    lag = torch.arange(detectors, dtype=torch.float64)
    taps = torch.where(lag % 2 == 1, -1 / (math.pi * lag).square(), 0.0)
    taps[0] = 0.25
    places = torch.arange(detectors)
    return taps[(places[:, None] - places).abs()]
