"""The curve of a training run."""

import json
import math
import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unrolled.system.files import replacing

NAMES = {"psnr": "PSNR (dB)"}
"""How figures are called on an axis, where that is not their name."""


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
    losses.plot(drawn["step"], drawn["loss"], color="tab:red", alpha=0.5)
    if all(loss > 0 for loss in drawn["loss"] if math.isfinite(loss)):  # some losses are logarithms already
        losses.set_yscale("log")
    losses.set_ylabel("training loss", color="tab:red")


def _figures(line: bytes, needed: tuple[str, ...]) -> dict[str, float] | None:
    """The numbers in a line of metrics; None if it is damaged."""
    try:
        entries = json.loads(line)
        numbers = {
            name: math.nan if value is None else float(value)
            for name, value in entries.items()
            if isinstance(value, (int, float, type(None)))
        }
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return None
    return numbers if all(name in numbers for name in needed) else None
