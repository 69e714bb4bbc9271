"""Partial Fourier: one side of k-space was measured, and the other follows from the smooth phase of the image."""

import torch
from torch import Tensor

from unrolled.data.kspace_layout import hann, symmetric_reach
from unrolled.operators import LinearOperator, SampledFourier
from unrolled.operators.krylov import conjugate_gradients

ITERATIONS = 20
"""With one coil the condition number is 2, and so many are more than float32 can tell; with more, they regularise."""


def pocs(y: Tensor, operator: LinearOperator) -> Tensor:
    """The image that explains the measurements best among those with the phase of its low frequencies.

    k-space of an image e^{iφ}r with a real r is Hermitian but for its phase φ, so that half of it tells the rest. The
    phase is that of the image of the frequencies around zero that were measured on both sides, apodised by a Hann
    window. This is what the projections onto convex sets of Haacke and others (J. Magn. Reson. 92, 1991) converge to,
    which replace the phase and the measured frequencies in turn; by conjugate gradients it takes fewer steps, and coils
    and undersampling need nothing more.

    Parameters
    ----------
    y : Tensor, measurements of a batch of images
    operator : SampledFourier
        of complex images.

    Returns
    -------
    Tensor, (batch, channel, height, width), complex

    Raises
    ------
    ValueError
        for another operator, and if the zero frequency was not measured.
    """
    if not isinstance(operator, SampledFourier) or not operator.complex_images:
        raise ValueError(f"pocs: operator must be a Fourier transform of complex images, got {type(operator).__name__}")
    low = operator.adjoint(_window(operator) * y)
    phase = torch.polar(torch.ones_like(low.real), low.angle())
    r = conjugate_gradients(
        lambda r: (phase.conj() * operator.gram(phase * r)).real,
        (phase.conj() * operator.adjoint(y)).real,
        iterations=ITERATIONS,
        tolerance=1e-6,
    )
    return phase * r


def _window(operator: SampledFourier) -> Tensor:
    """A window (height, width) of the frequencies around zero that are sampled on both sides, along both axes."""
    mask = operator.mask.flatten(0, -3).any(0) if operator.mask.ndim > 2 else operator.mask > 0
    mask = mask if operator.centered else torch.fft.fftshift(mask)
    rows, columns = (hann(len(lines), symmetric_reach(lines)) for lines in (mask.any(1), mask.any(0)))
    window = rows[:, None] * columns
    if not bool(window.any()):
        raise ValueError("pocs: the zero frequency must be measured, for the phase is taken from around it")
    return (window if operator.centered else torch.fft.ifftshift(window)).to(operator.mask)
