"""Figures. Needs matplotlib, the extra `plots`."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from unrolled.files import replacing
from unrolled.metrics import psnr

NAMES = {"psnr": "PSNR (dB)"}
"""How figures are called on an axis, where that is not their name."""

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
        db = float(psnr(image[None, None], truth[None, None]))
        _show(axes[0, column], image, f"{label}, {db:.2f} dB", (0, 1))
        _show(axes[1, column], (image.clamp(0, 1) - truth).abs(), f"its error ×{ERRORS}", (0, 1 / ERRORS), "magma")
    if truth is not None:
        _show(axes[0, -1], truth, "true image", (0, 1))
        axes[1, -1].axis("off")
        scale = ScalarMappable(Normalize(0, 1 / ERRORS), "magma")
        figure.colorbar(scale, cax=axes[1, -1].inset_axes([0, 0.05, 0.07, 0.9]), label="error, of a peak of 1")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _show(axes: Axes, image: Tensor, title: str, limits: tuple[float, float], colors: str = "gray") -> None:
    axes.imshow(image.numpy(), cmap=colors, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("grey")


def training_curve(folder: Path, score: str = "psnr") -> Path:
    """Draw the validations and the loss of a run against its steps, and below the sparsity if weights became sparse.

    Damaged lines of metrics are left out, with a warning.

    Parameters
    ----------
    folder : Path
        of a run, with `metrics.jsonl`.
    score : str
        the figure that is drawn, with `start_…` and `sparse_…` of it if there are any.

    Returns
    -------
    Path
        of `curve.png` in that folder
    """
    metrics = folder / "metrics.jsonl"
    needed = ("step", score, "loss")
    lines = [_figures(line, needed) for line in metrics.read_bytes().splitlines()]
    if damaged := [number for number, line in enumerate(lines, 1) if line is None]:
        warnings.warn(f"{metrics}: damaged lines are left out: {damaged}", stacklevel=2)
    whole = [line for line in lines if line]
    names = {*needed, *(name for line in whole for name in line)}
    drawn = {name: [line.get(name, math.nan) for line in whole] for name in names}
    below = "sparsity" in drawn
    figure = Figure(figsize=(7, 5.5 if below else 4), layout="constrained")
    upper, *lower = figure.subplots(1 + below, sharex=True, squeeze=False, height_ratios=[3, 1][: 1 + below])[:, 0]
    _draw_scores(upper, drawn, score)
    for axes in lower:
        axes.plot(drawn["step"], [100 * value for value in drawn["sparsity"]], color="tab:green")
        axes.set_ylabel("zeros (%)")
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.3)
    (lower or [upper])[-1].set_xlabel("step")
    target = folder / "curve.png"
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=120)
    return target


def robustness_curves(path: str | Path, result: dict[str, Any], titles: dict[str, str], network: str) -> None:
    """Draw the tests of `unrolled.robustness.robustness`, each in a panel of its own.

    Parameters
    ----------
    path : str or Path
        of the picture.
    result : dict
        of tests, each with "values", "network" and methods.
    titles : dict
        what is changed in each test.
    network : str
        its name.
    """
    figure = Figure(figsize=(4 * len(result), 3.6), layout="constrained")
    for axes, (test, rows) in zip(figure.subplots(1, len(result), squeeze=False)[0], result.items(), strict=True):
        values = rows["values"]
        named = any(isinstance(value, str) for value in values)
        places = list(range(len(values))) if named else values
        for name, figures in rows.items():
            if name != "values":
                axes.plot(places, figures, "o" if named else "o-", label=network if name == "network" else name)
        if named:
            axes.set_xticks(places, values, rotation=20)
            axes.margins(x=0.2)
        axes.set_xlabel(titles[test])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("PSNR (dB)")
    figure.axes[0].legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw_scores(axes: Axes, drawn: dict[str, list[float]], score: str) -> None:
    styles = {
        score: ("o-", "tab:blue", "network" if f"sparse_{score}" not in drawn else "as it is"),
        f"sparse_{score}": ("s-", "tab:orange", "with its zeros"),
        f"start_{score}": ("--", "grey", "linear start"),
    }
    for name, (style, color, label) in styles.items():
        if name in drawn:
            axes.plot(drawn["step"], drawn[name], style, color=color, markersize=3, label=label)
    axes.set_ylabel(f"validation {NAMES.get(score, score)}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    losses = axes.twinx()
    losses.semilogy(drawn["step"], drawn["loss"], color="tab:red", alpha=0.5)
    losses.set_ylabel("training loss", color="tab:red")


def _figures(line: bytes, needed: tuple[str, ...]) -> dict[str, float] | None:
    """The numbers in a line of metrics; None if it is damaged."""
    try:
        entries = json.loads(line)
        numbers = {name: float(value) for name, value in entries.items() if isinstance(value, (int, float))}
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return None
    return numbers if all(name in numbers for name in needed) else None
