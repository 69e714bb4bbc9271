"""Partial Fourier: one side of k-space was measured, and the other follows from the smooth phase of the image."""

import torch
from torch import Tensor

from unrolled.data.kspace_layout import symmetric_reach
from unrolled.operators import LinearOperator, SampledFourier
from unrolled.operators.frequencies import hann
from unrolled.operators.krylov import conjugate_gradients


def partial_fourier(y: Tensor, operator: LinearOperator, strength: float = 0.1, iterations: int = 10) -> Tensor:
    """The image that explains the measurements, with little that has not the phase of its low frequencies.

    k-space of an image e^{iφ}r with a real r is Hermitian but for its phase φ, so that half of it tells the rest.
    x̂ = argmin ‖Ax − y‖² + strength ‖Im e^{−iφ}x‖² by conjugate gradients (Bydder, Robson, MRM 53, 2005), for coils and
    undersampling too. The phase is that of the image of the frequencies around zero that were measured on
    both sides, apodised by a Hann window. Where the true phase is not that smooth, as between water and fat, the other
    side is filled in wrongly: then zero-filling is better.

    Parameters
    ----------
    y : Tensor, measurements of a batch of images
    operator : SampledFourier
        of complex images.
    strength : float > 0
        for ‖A‖ = 1.
    iterations : int

    Returns
    -------
    Tensor, (batch, channel, height, width), complex

    Raises
    ------
    ValueError
        for another operator, and if the zero frequency was not measured.
    """
    if not isinstance(operator, SampledFourier) or not operator.complex_images:
        raise ValueError(
            f"partial_fourier: operator must be a Fourier transform of complex images, got {type(operator).__name__}"
        )
    low = operator.adjoint(_window(operator) * y)
    phase = torch.polar(torch.ones_like(low.real), low.angle())

    def normal(x: Tensor) -> Tensor:
        return operator.gram(x) + strength * 1j * phase * (phase.conj() * x).imag

    return conjugate_gradients(normal, operator.adjoint(y), iterations=iterations, tolerance=1e-6)


def _window(operator: SampledFourier) -> Tensor:
    """A window (height, width) of the frequencies around zero that are sampled on both sides, along both axes."""
    height, width = operator.mask.shape[-2:]
    mask = (operator.mask > 0).view(-1, height, width).all(0)  # of masks of each image what all have
    mask = mask if operator.centered else torch.fft.fftshift(mask)
    rows, columns = (hann(len(lines), symmetric_reach(lines), mask) for lines in (mask.any(1), mask.any(0)))
    window = rows[:, None] * columns
    if not bool(window.any()):
        raise ValueError("partial_fourier: the zero frequency must be measured, for the phase is taken from around it")
    return (window if operator.centered else torch.fft.ifftshift(window)).to(operator.mask)
