"""The best linear estimate of images whose second moments are the same everywhere."""

from typing import NamedTuple

import torch
from torch import Tensor

from unrolled.system.devices import full_precision, in_double

LAGS = 65
"""Side of the autocorrelation: lags −32 … 32 in both directions, enough for blocks of 33."""


def assumed_autocorrelation() -> Tensor:
    """An exponential, the classical model of images: rough, but of the right kind.

    Its mean brightness is ½, the standard deviation ¼, and the correlation length 20 pixels.

    Returns
    -------
    Tensor, (65, 65), float64, lag 0 at the centre
    """
    lag = torch.arange(LAGS, dtype=torch.float64) - LAGS // 2
    distance = torch.hypot(lag[:, None], lag[None, :])
    return 0.25 + 0.0625 * torch.exp(-distance / 20)


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
    with full_precision(phi):
        phi64, spread = in_double(phi), in_double(autocorrelation)
        index = torch.arange(block, device=phi64.device)
        lag = index[:, None] - index[None, :] + LAGS // 2
        c = spread[lag[:, None, :, None], lag[None, :, None, :]].reshape(block**2, block**2)
        cross = phi64 @ c  # ΦC = (CΦᵀ)ᵀ
        moment = cross @ phi64.T
        # A ridge far below the energy of any image direction, so that measured correlations may be rounded.
        ridge = 1e-9 * moment.diagonal().mean() * torch.eye(len(moment), dtype=c.dtype, device=c.device)
        return torch.linalg.solve(moment + ridge, cross).T.to(phi.device, phi.dtype)


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


class _Kept(NamedTuple):
    """An estimator, and what it was made of."""

    phi: Tensor
    r: Tensor
    versions: tuple[int, int]
    values: tuple[Tensor, Tensor]
    q: Tensor


class KeptEstimator:
    """`linear_estimator`, kept until the matrix or the autocorrelation changes.

    Making it takes longer than many networks do, and every estimate needs it. Copies of this object are empty.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def __call__(self, phi: Tensor, r: Tensor, block: int) -> Tensor:
        """As `linear_estimator`; without a derivative unless phi is being trained."""
        if phi.requires_grad and torch.is_grad_enabled():
            return linear_estimator(phi, r, block)
        kept = self._kept
        if kept is not None and kept.phi is phi and kept.r is r:
            # A compiled graph guards identity only; reading the version counters would break it.
            if torch.compiler.is_compiling() or kept.versions == (phi._version, r._version):
                return kept.q
        elif torch.compiler.is_compiling():
            return linear_estimator(phi.detach(), r, block)
        # Written to is not yet changed: processes that train together, for one, write buffers in every step.
        q = kept.q if kept is not None and _same(kept.values, (phi, r)) else linear_estimator(phi.detach(), r, block)
        self._kept = _Kept(phi, r, (phi._version, r._version), (phi.detach().clone(), r.clone()), q)
        return q

    def __reduce__(self) -> tuple[type["KeptEstimator"], tuple[()]]:
        return KeptEstimator, ()


def _same(before: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor]) -> bool:
    """Whether tensors have the same values, in the same type and on the same device."""
    pairs = zip(before, now, strict=True)
    return all(a.device == b.device and a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
