"""Figures. Needs matplotlib, the extra `plots`."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from unrolled.files import replacing


def training_curve(folder: Path) -> Path:
    """Draw the validation PSNR and the loss of a run against its steps.

    Parameters
    ----------
    folder : Path
        of a run, with `metrics.jsonl`.

    Returns
    -------
    Path
        of `curve.png` in that folder
    """
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="validation PSNR (dB)")
    axes.plot(steps, [line["psnr"] for line in lines], "o-", markersize=3, label="network")
    axes.plot(steps, [line["start_psnr"] for line in lines], "--", color="grey", label="linear start")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    losses = axes.twinx()
    losses.semilogy(steps, [line["loss"] for line in lines], color="tab:red", alpha=0.5)
    losses.set_ylabel("training loss", color="tab:red")
    target = folder / "curve.png"
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=120)
    return target
