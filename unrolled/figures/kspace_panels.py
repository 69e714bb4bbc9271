"""Panels of magnetic resonance: mask, k-space, images and their errors."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from unrolled.figures.pictures import MADE_BY
from unrolled.metrics import shown_psnr
from unrolled.system.files import replacing

ERRORS = 5
"""How many times errors are shown larger than they are, on the grey scale of the images."""


def mri_panels(
    path: str | Path, mask: Tensor, spectrum: Tensor, images: dict[str, Tensor], truth: Tensor | None = None
) -> None:
    """Draw a mask, what it sampled, and the images made of it; with the true image also its errors, times 5.

    Parameters
    ----------
    path : str or Path
    mask, spectrum : Tensor, (height, width)
        of 0 and 1, and |k-space|, both with the zero frequency in the middle.
    images : dict of label → Tensor, (height, width)
        on a scale where [0, 1] is black to white; PSNR is in their titles if the truth is known.
    truth : Tensor, (height, width), in [0, 1], optional
    """
    rows, columns = (1, 2 + len(images)) if truth is None else (2, 2 + len(images))
    tallest = max(float(each.shape[0] / each.shape[1]) for each in (mask, *images.values()))
    figure = Figure(figsize=(2.9 * columns, rows * (2.9 * min(2.5, max(0.4, tallest)) + 0.35)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    # Below a hundred-thousandth lies noise, and the brightest is little but DC.
    decades = (spectrum / spectrum.max()).clamp(min=1e-5).log10()
    _show(axes[0, 0], mask, f"mask, {100 * float(mask.mean()):.1f} % sampled", (0, 1))
    _show(axes[0, 1] if truth is None else axes[1, 0], decades, "log |k-space|", (-5, -1))
    for column, (label, image) in enumerate(images.items(), 2 if truth is None else 1):
        if truth is None:
            _show(axes[0, column], image, label, (0, 1))
            continue
        db = float(shown_psnr(image[None, None], truth[None, None]))
        _show(axes[0, column], image, f"{label}, {db:.2f} dB", (0, 1))
        _show(axes[1, column], (image.clamp(0, 1) - truth).abs(), f"its error ×{ERRORS}", (0, 1 / ERRORS), "magma")
    if truth is not None:
        _show(axes[0, -1], truth, "true image", (0, 1))
        axes[1, -1].axis("off")
        scale = ScalarMappable(Normalize(0, 1 / ERRORS), "magma")
        figure.colorbar(scale, cax=axes[1, -1].inset_axes([0, 0.05, 0.07, 0.9]), label="error, of a peak of 1")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": MADE_BY} if temporary.suffix == ".png" else None)


def _show(axes: Axes, image: Tensor, title: str, limits: tuple[float, float], colors: str = "gray") -> None:
    axes.imshow(image.numpy(), cmap=colors, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("grey")
