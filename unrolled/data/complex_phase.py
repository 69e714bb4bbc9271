"""The phase of complex images, simulated: images of files are magnitudes alone."""

import math
from typing import Any

import torch
from torch import Tensor

from unrolled.system.arraylike import as_tensor

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


def with_phase(images: Any, generator: torch.Generator | None = None) -> Tensor:
    """Magnitudes as complex images x·exp(iφ), with a phase for every image, the same in its channels.

    Parameters
    ----------
    images : Tensor or array, (batch, channel, height, width)
        real; complex images have a phase already and are returned as they are.
    generator : torch.Generator, optional
        on the images' device; by default torch's own random numbers.

    Returns
    -------
    Tensor, (batch, channel, height, width), complex
    """
    images = as_tensor("images", images)
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"images: must be (batch, channel, height, width), none of them 0, got {tuple(images.shape)}")
    if images.is_complex():
        return images
    if images.dtype not in (torch.float32, torch.float64):
        images = images.float()
    batch, _, height, width = images.shape
    phase = random_phase(batch, height, width, images.device, generator).to(images.dtype)
    return torch.complex(images * phase.cos(), images * phase.sin())


def with_fixed_phase(image: Any, index: int) -> Tensor:
    """An image (channel, height, width) as `with_phase` makes it complex, with the phase of its number in a data set.

    The phase is a function of index and size, the same on every device.
    """
    image = as_tensor("image", image)
    if image.ndim != 3 or not image.numel():
        raise ValueError(f"image: must be (channel, height, width), none of them 0, got {tuple(image.shape)}")
    return with_phase(image.unsqueeze(0).cpu(), torch.Generator().manual_seed(index))[0].to(image.device)
