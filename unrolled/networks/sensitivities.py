"""A network that estimates the maps of the coils from the fully sampled middle of k-space."""

import torch
from torch import Tensor, nn

from unrolled.networks.priors.prior import Prior
from unrolled.operators import MultiCoilFourier
from unrolled.operators.frequencies import inverse_fourier
from unrolled.system.devices import full_precision


class SensitivityNetwork(nn.Module):
    """S_c = z_c/√Σ_d|z_d|² with z_c = prior(F⁻¹ m y_c), m the fully sampled middle of k-space.

    Sriram and others, MICCAI 2020, section 3.2. With the identity as the prior these are the maps of self-calibration:
    the coils' images of low resolution, divided by the root of the sum of their squares. The sum of |S_c|² over the
    coils is 1 in every pixel.

    Parameters
    ----------
    prior : Prior
        for complex images of one channel; every coil's image is one.
    """

    def __init__(self, prior: Prior):
        super().__init__()
        self.prior = prior

    def forward(self, y: Tensor, operator: MultiCoilFourier) -> Tensor:
        """The maps, (batch, coil, height, width), complex, never in 16 bits: they become part of the operator.

        Parameters
        ----------
        y : Tensor, (batch, channel, coil, height, width), complex
            measurements; of several channels, which all coils see alike, the first one tells the maps.
        operator : MultiCoilFourier
            of which the mask is used, and not the maps.
        """
        middle = sampled_middle(operator.mask, operator.centered)
        middle = middle.unsqueeze(1) if middle.ndim == 4 else middle
        with full_precision(y):
            images: Tensor = self.prior(inverse_fourier(middle * operator.sampled(y), operator.centered)[:, 0])
            energy = (images.real.square() + images.imag.square()).sum(1, keepdim=True)
            return images * energy.clamp(min=torch.finfo(energy.dtype).tiny).rsqrt()


def sampled_middle(mask: Tensor, centered: bool) -> Tensor:
    """The fully sampled middle of a mask: columns, rows and a square around the zero frequency that have no gap.

    Of each there are as many lines before the zero frequency as from it on. Of n columns among w the first one is that
    of fastMRI, (w − n + 1) // 2 from the left. Where there is no such middle, it is the column of the zero frequency.

    Parameters
    ----------
    mask : Tensor, (height, width) or (batch, 1, height, width), of 0 and 1
    centered : bool
        see `MaskedFourier`.

    Returns
    -------
    Tensor, like mask
    """
    axes = (-2, -1)
    missing = (mask if centered else torch.fft.fftshift(mask, axes)) == 0
    height, width = mask.shape[-2:]
    rows = torch.arange(height, device=mask.device)[:, None]
    columns = torch.arange(width, device=mask.device)
    from_row, from_column = _distance(rows, height), _distance(columns, width)

    def without_gap(distance: Tensor) -> Tensor:
        """How many lines on either side are sampled before the first that is not."""
        return torch.where(missing, distance, max(height, width)).amin(axes, keepdim=True)

    across, along, square = (without_gap(d) for d in (from_column, from_row, torch.maximum(from_row, from_column)))
    middle = _among(columns, width, 2 * across) | _among(rows, height, 2 * along)
    middle = middle | (_among(columns, width, 2 * square) & _among(rows, height, 2 * square))
    nothing = (across + along + square) == 0
    middle = middle | (nothing & (columns == width // 2))
    return (middle if centered else torch.fft.ifftshift(middle, axes)).to(mask.dtype)


def _distance(places: Tensor, count: int) -> Tensor:
    """Of lines on either side of the zero frequency, 0 for itself and the one before it."""
    middle = count // 2
    return torch.where(places < middle, middle - 1 - places, places - middle)


def _among(places: Tensor, count: int, some: Tensor) -> Tensor:
    """Whether lines are among some of all that there are, those in the middle."""
    first = (count - some + 1).div(2, rounding_mode="floor")
    return (places >= first) & (places < first + some)
