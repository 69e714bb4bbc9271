"""The panels that `unrolled kspace` and `unrolled reconstruct` write beside a picture of magnetic resonance."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

PANELS = "mri"
"""What the file of the panels is called beside its picture."""


def panels_beside(out: Path) -> Path:
    """The file of the panels of a picture."""
    return out.with_name(f"{out.stem}-{PANELS}.png")


def write_panels(
    out: Path, mask: Tensor, y: Tensor, centered: bool, images: dict[str, Tensor], truth: Tensor | None
) -> None:
    """Mask, k-space (coil, height, width), images and errors beside the picture; without matplotlib only a warning."""
    try:
        from unrolled.figures.kspace_panels import mri_panels
    except ImportError:
        warnings.warn("the panels need matplotlib: pip install 'unrolled[plots]'", stacklevel=2)
        return
    panels = panels_beside(out)
    spectrum = y.abs().square().sum(0).sqrt()
    if not centered:
        mask, spectrum = torch.fft.fftshift(mask), torch.fft.fftshift(spectrum)
    mri_panels(panels, mask, spectrum, images, truth)
    print(f"wrote {panels}")
