"""The phase of complex images, simulated: images of files are magnitudes alone."""

import math

import torch
from torch import Tensor

DEVIATION = math.pi / 2
"""Of the coefficients that are normal, in radians."""


def random_phase(
    batch: int, height: int, width: int, device: torch.device | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Smooth random phases, as magnetic fields and coils leave them on images of magnetic resonance.

    A polynomial of degree 2 over the image, φ(u, v) = c₀ + c₁u + c₂v + c₃u² + c₄uv + c₅v² with u, v from −1 to 1: c₀ is
    uniform over the circle, the others are normal with standard deviation π/2.

    Parameters
    ----------
    batch, height, width : int
    device : torch.device, optional
    generator : torch.Generator, optional
        on that device; by default torch's own random numbers.

    Returns
    -------
    Tensor, (batch, 1, height, width), in radians, not wrapped
    """
    constant = 2 * math.pi * torch.rand(batch, 1, 1, 1, device=device, generator=generator)
    a, b, c, d, e = DEVIATION * torch.randn(5, batch, 1, 1, 1, device=device, generator=generator)
    u = torch.linspace(-1, 1, height, device=device)[:, None]
    v = torch.linspace(-1, 1, width, device=device)
    return constant + a * u + b * v + c * u**2 + d * u * v + e * v**2


def with_phase(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Magnitudes as complex images x·exp(iφ), with a phase for every image, the same in its channels.

    Parameters
    ----------
    images : Tensor, (batch, channel, height, width)
        real; complex images have a phase already and are returned as they are.
    generator : torch.Generator, optional
        on the images' device; by default torch's own random numbers.

    Returns
    -------
    Tensor, (batch, channel, height, width), complex
    """
    if images.is_complex():
        return images
    batch, _, height, width = images.shape
    phase = random_phase(batch, height, width, images.device, generator).to(images.dtype)
    return torch.complex(images * phase.cos(), images * phase.sin())


def with_fixed_phase(image: Tensor, index: int) -> Tensor:
    """An image (channel, height, width) as `with_phase` makes it complex, with the phase of its number in a data set.

    The phase is a function of index and size, the same on every device.
    """
    return with_phase(image.unsqueeze(0).cpu(), torch.Generator().manual_seed(index))[0].to(image.device)
