"""Figures. Needs matplotlib, the extra `plots`."""

import json
import warnings
from pathlib import Path

from matplotlib.figure import Figure

from unrolled.files import replacing

FIGURES = ("step", "psnr", "start_psnr", "loss")


def training_curve(folder: Path) -> Path:
    """Draw the validation PSNR and the loss of a run against its steps.

    Damaged lines of metrics are left out, with a warning.

    Parameters
    ----------
    folder : Path
        of a run, with `metrics.jsonl`.

    Returns
    -------
    Path
        of `curve.png` in that folder
    """
    metrics = folder / "metrics.jsonl"
    lines = [_figures(line) for line in metrics.read_bytes().splitlines()]
    if damaged := [number for number, line in enumerate(lines, 1) if line is None]:
        warnings.warn(f"{metrics}: damaged lines are left out: {damaged}", stacklevel=2)
    steps, scores, starts, loss = ([line[index] for line in lines if line] for index in range(len(FIGURES)))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="validation PSNR (dB)")
    axes.plot(steps, scores, "o-", markersize=3, label="network")
    axes.plot(steps, starts, "--", color="grey", label="linear start")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    losses = axes.twinx()
    losses.semilogy(steps, loss, color="tab:red", alpha=0.5)
    losses.set_ylabel("training loss", color="tab:red")
    target = folder / "curve.png"
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=120)
    return target


def _figures(line: bytes) -> list[float] | None:
    """What is drawn of a line of metrics; None if it is damaged."""
    try:
        entries = json.loads(line)
        return [float(entries[name]) for name in FIGURES]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
