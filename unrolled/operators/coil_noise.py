"""Noise of several coils, which is not independent from coil to coil."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.operators.noise import Noise, drawn_on
from unrolled.system.arraylike import as_numbers
from unrolled.system.arrays import read_array

COILS = -3
"""The axis of coils in measurements (…, coil, height, width)."""

ROUNDING = 1e-5
"""Part of the largest entry by which a covariance may miss its own transpose, or its eigenvalues 0."""


@dataclass(frozen=True)
class CoilNoise(Noise):
    """y + Lw, LLᴴ = Σ, w white circular complex normal with E|w|² = 1: noise with a covariance of coils.

    Receiver coils see the same thermal noise of the body, so their noise is correlated (Roemer and others, Magn. Reson.
    Med. 16, 1990). Frequencies are independent.

    Parameters
    ----------
    covariance : list of lists of numbers, an array or tensor (coil, coil), or a file of one
        Σ = E n nᴴ, Hermitian and positive semidefinite, real or complex, in the units of |y|².
    """

    covariance: Any

    def __post_init__(self) -> None:
        given = read_array(self.covariance, dimensions=2) if isinstance(self.covariance, str) else self.covariance
        matrix = as_numbers("CoilNoise: covariance", given, torch.float64).to(torch.complex128)
        if isinstance(given, (list, tuple)):  # of which a tensor would have single precision
            matrix = torch.from_numpy(np.array(given, complex))
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.numel():
            raise ValueError(f"CoilNoise: covariance must be (coil, coil), got {tuple(matrix.shape)}")
        if not bool(torch.isfinite(torch.view_as_real(matrix)).all()):
            raise ValueError("CoilNoise: covariance must be finite, but holds NaN or inf")
        tolerance = ROUNDING * float(matrix.abs().max())
        least = float(torch.linalg.eigvalsh(matrix)[0])
        if float((matrix - matrix.mH).abs().max()) > tolerance or least < -tolerance:
            raise ValueError(
                "CoilNoise: covariance must be Hermitian and have no negative eigenvalue, got one whose least is "
                f"{least:.3g}"
            )
        # Plain numbers, of which a recipe is made.
        rows = (matrix if bool(matrix.imag.any()) else matrix.real).tolist()
        object.__setattr__(self, "covariance", tuple(map(tuple, rows)))

    @cached_property
    def _root(self) -> Tensor:
        """Σ^½, which exists where Σ is singular, too."""
        values, vectors = torch.linalg.eigh(torch.tensor(self.covariance, dtype=torch.complex128))
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.mH

    def __call__(self, y: Any, generator: torch.Generator | None = None) -> Tensor:
        y = self._taken(y, is_complex=True)
        coils = len(self.covariance)
        if y.ndim < 3 or y.shape[COILS] != coils:
            raise ValueError(
                f"CoilNoise: measurements must be (…, coil, height, width) of {coils} coils, got {tuple(y.shape)}"
            )
        white = torch.randn(y.shape, dtype=y.dtype, device=drawn_on(y, generator), generator=generator).to(y.device)
        return y + torch.einsum("dc, ...chw -> ...dhw", self._root.to(y.device, y.dtype), white)

    def mean(self, y: Tensor) -> Tensor:
        return y

    def variance(self, y: Tensor) -> Tensor:
        own = torch.tensor(self.covariance, dtype=torch.complex128).diagonal().real
        return own.to(y.device, y.real.dtype).view(-1, 1, 1).expand(y.shape)
