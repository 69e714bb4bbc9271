"""Where a network starts: the first image, made from the measurements without anything learned."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from unrolled.operators import BlockCompressedSensing, LinearOperator
from unrolled.operators.krylov import advance, begin
from unrolled.operators.linear_map import full_precision
from unrolled.operators.operator import Scaled
from unrolled.system.recipes import Described

LAGS = 65
"""Side of the autocorrelation: lags −32 … 32 in both directions, enough for blocks of 33."""


class Start(Described, nn.Module, ABC):
    """x₀ = start(y, operator): the image that the first phase is given."""

    local: ClassVar[bool] = False
    """Whether, with a local operator, the start of a part of an image is that part of the start."""

    def __init__(self) -> None:  # so that starts without arguments have a recipe too
        super().__init__()

    @abstractmethod
    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        """The first image.

        Parameters
        ----------
        y : Tensor, measurements of a batch of images, in the shape that the operator states
        operator : LinearOperator

        Returns
        -------
        Tensor, (batch, channel, height, width), complex if the operator's images are
        """


class AdjointStart(Start):
    """x₀ = Aᴴy."""

    local = True

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        return operator.adjoint(y)


class LinearStart(Start):
    """The linear minimum-mean-square estimate for block compressive sensing, else the operator's own linear estimate.

    The latter is `operator.estimate(y)`: zero filling, x₀ = Aᴴy, for sampled Fourier transforms, filtered
    back-projection for the Radon transform, and Aᴴy for operators that know nothing better.

    For block compressive sensing x₀ = Q y with Q = CΦᵀ(ΦCΦᵀ)⁻¹. C is the second moment of image blocks, taken as
    stationary: E[x_p x_q] = r(p − q). So the 65×65 autocorrelation r of natural images gives Q for any Φ, also one that
    is being learned.

    r starts as an exponential, the classical model of images; `fit` replaces it by that of training images.
    """

    local = True
    autocorrelation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("autocorrelation", _assumed())
        self._cache: _Kept | None = None

    @property
    def fitted(self) -> bool:
        """Whether the autocorrelation is one of images, and not the one that is assumed of them."""
        return not torch.equal(self.autocorrelation.cpu(), _assumed().to(self.autocorrelation.dtype))

    def fit(self, images: list[Tensor]) -> None:
        """Take the autocorrelation of these images.

        Parameters
        ----------
        images : list of Tensor, each (channel, height, width) in [0, 1], of any sizes
        """
        self.autocorrelation.copy_(autocorrelation(images))

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        while isinstance(operator, Scaled):  # the same measurements in other units
            y, operator = y / operator.factor, operator.operator
        if not isinstance(operator, BlockCompressedSensing) or operator.block > LAGS // 2 + 1:
            return operator.estimate(y)
        return operator.apply_per_block(self.estimator(operator).T, y)

    def estimator(self, operator: BlockCompressedSensing) -> Tensor:
        """Q, (block², m), kept until Φ or the autocorrelation changes."""
        phi, r = operator.matrix, self.autocorrelation
        if phi.requires_grad and torch.is_grad_enabled():
            return linear_estimator(phi, r, operator.block)
        kept = self._cache
        if torch.compiler.is_compiling():
            # A compiled graph guards identity only; reading the version counters would break it.
            same = kept is not None and kept.phi is phi and kept.r is r
            return kept.q if kept is not None and same else linear_estimator(phi.detach(), r, operator.block)
        if kept is None or not kept.holds(phi, r):
            # Written to is not yet changed: an average of weights, for one, is written to in every step.
            equal = kept is not None and kept.equals(phi, r)
            q = kept.q if kept is not None and equal else linear_estimator(phi.detach(), r, operator.block)
            self._cache = _Kept(phi, phi._version, phi.detach().clone(), r, r._version, r.clone(), q)
            return q
        return kept.q

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": None}


class ConjugateGradientStart(Start):
    """Some steps of conjugate gradients from 0 on (AᴴA + ridge)x = Aᴴy (Hestenes, Stiefel, 1952).

    With ridge 0 the least-squares image of least norm, as far as so many steps come. Every image of a batch has steps
    of its own, and so has every channel if the operator measures any number of them. Linear in y only where the
    steps have converged; an image that has is left as it is.

    Parameters
    ----------
    iterations : int >= 1
    ridge : float >= 0
        added to AᴴA, whose largest eigenvalue is ‖A‖².
    """

    def __init__(self, iterations: int = 10, ridge: float = 0.0):
        super().__init__()
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
            raise ValueError(f"ConjugateGradientStart: iterations must be a whole number >= 1, got {iterations!r}")
        if not (math.isfinite(ridge) and ridge >= 0):
            raise ValueError(f"ConjugateGradientStart: ridge must be a finite number >= 0, got {ridge!r}")
        self.iterations, self.ridge = iterations, ridge

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        alike = operator.image_shape is None or operator.image_shape[0] == 0
        axes = (2, 3) if alike else (1, 2, 3)

        def matrix(x: Tensor) -> Tensor:
            return operator.gram(x) + self.ridge * x

        with full_precision(y):
            state = begin(matrix, operator.adjoint(y), axes=axes)
            for _ in range(self.iterations):
                state = advance(matrix, state, axes)
            return state.x

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}, ridge={self.ridge}"


def _assumed() -> Tensor:
    lag = torch.arange(LAGS, dtype=torch.float64) - LAGS // 2
    distance = torch.hypot(lag[:, None], lag[None, :])
    # Mean brightness ½, standard deviation ¼, correlation length 20 pixels: rough, but of the right kind.
    return 0.25 + 0.0625 * torch.exp(-distance / 20)


class _Kept(NamedTuple):
    """An estimator, and what it was made of."""

    phi: Tensor
    phi_version: int
    phi_values: Tensor
    r: Tensor
    r_version: int
    r_values: Tensor
    q: Tensor

    def holds(self, phi: Tensor, r: Tensor) -> bool:
        """Whether these are the same tensors, not written to since."""
        return (phi is self.phi and r is self.r) and (phi._version, r._version) == (self.phi_version, self.r_version)

    def equals(self, phi: Tensor, r: Tensor) -> bool:
        """Whether these have the same values, on the same device."""
        pairs = ((phi, self.phi_values), (r, self.r_values))
        return all(a.device == b.device and a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def linear_estimator(phi: Tensor, autocorrelation: Tensor, block: int) -> Tensor:
    """Q = CΦᵀ(ΦCΦᵀ)⁻¹ with C[p, q] = r(p − q) over the pixels of a block.

    Parameters
    ----------
    phi : Tensor, (m, block²)
    autocorrelation : Tensor, (65, 65), r with lag 0 at the centre
    block : int, at most 33

    Returns
    -------
    Tensor, (block², m), of phi's type; computed in float64, differentiable in phi
    """
    with torch.autocast(phi.device.type, enabled=False):
        index = torch.arange(block, device=phi.device)
        lag = index[:, None] - index[None, :] + LAGS // 2
        c = autocorrelation.double()[lag[:, None, :, None], lag[None, :, None, :]].reshape(block**2, block**2)
        phi64 = phi.double()
        cross = phi64 @ c  # ΦC = (CΦᵀ)ᵀ
        moment = cross @ phi64.T
        # A ridge far below the energy of any image direction, so that measured correlations may be rounded.
        ridge = 1e-9 * moment.diagonal().mean() * torch.eye(len(moment), dtype=c.dtype, device=c.device)
        return torch.linalg.solve(moment + ridge, cross).T.to(phi.dtype)


def autocorrelation(images: list[Tensor]) -> Tensor:
    """E[x_p x_{p+d}] over all pixels of all images, for lags d of −32 … 32.

    Parameters
    ----------
    images : list of Tensor, each (channel, height, width)

    Returns
    -------
    Tensor, (65, 65), float64, symmetric; lags that no image is large enough for are taken from the nearest that is

    Raises
    ------
    ValueError
        if there is no image.
    """
    if not images:
        raise ValueError("autocorrelation: needs at least one image")
    total = torch.zeros(LAGS, LAGS, dtype=torch.float64)
    count = torch.zeros(LAGS, LAGS, dtype=torch.float64)
    for image in images:
        x = image.detach().cpu().double()
        size = [side + LAGS for side in x.shape[-2:]]  # zero padding, so that nothing wraps around
        for signal, into in ((x, total), (torch.ones_like(x), count)):
            spectrum = torch.fft.rfft2(signal, s=size)
            correlation = torch.fft.irfft2(spectrum.abs().square(), s=size).sum(0)
            into += correlation.roll((LAGS // 2, LAGS // 2), (0, 1))[:LAGS, :LAGS]
    rows, columns = (_reachable_lags(images, axis) for axis in (-2, -1))
    return (total / count.round().clamp(min=1))[rows[:, None], columns[None, :]]


def _reachable_lags(images: list[Tensor], axis: int) -> Tensor:
    reach = max(image.shape[axis] for image in images) - 1
    return (torch.arange(LAGS) - LAGS // 2).clamp(-reach, reach) + LAGS // 2
