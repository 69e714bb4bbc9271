"""Curves over time, and what is seen of a test image."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from benchmarks.comparison.classical import METHODS, START, called
from benchmarks.comparison.entries import ENTRIES
from benchmarks.comparison.pieces import folder_of
from benchmarks.comparison.rows import Row
from benchmarks.comparison.schedule import CLASSICAL
from benchmarks.papers.pictures import save_picture
from unrolled.figures.kspace_panels import ERRORS
from unrolled.figures.penalty_plots import COLOURS, STYLES

SHOWN = 3
"""Networks in a panel."""

SEEN = 0.998
"""The part of a true image's pixels that are not brighter than white, as it is shown."""


def draw_all(out: Path, folder: Path, titles: dict[str, str], rows: list[Row]) -> dict[str, Path]:
    """Draw the curves, and a panel for each problem, of all that is finished.

    Parameters
    ----------
    out : Path
        the folder of the comparison.
    folder : Path
        of the pictures.
    titles : dict
        of the problems.
    rows : list of dict
        see `rows_of`.

    Returns
    -------
    dict
        the pictures, by "curves" and the names of problems
    """
    folder.mkdir(parents=True, exist_ok=True)
    good = [row for row in rows if "failed" not in row]
    begun = {name: title for name, title in titles.items() if any(row["problem"] == name for row in good)}
    drawn = {}
    if any(row["network"] for row in good):
        drawn["curves"] = folder / "networks-curves.png"
        draw_curves(drawn["curves"], begun, [row for row in good if row["network"]])
    for name in begun:
        found = [row for row in good if row["problem"] == name]
        classical = folder_of(out, name, CLASSICAL)
        best = [row["method"] for row in found if not row["network"]][:1]
        images = {called(method): classical / f"{method}.npy" for method in METHODS if called(method) in best}
        images = {called(START): classical / f"{START}.npy", **images}
        networks = [row["method"] for row in found if row["network"]][:SHOWN]
        images |= {method: folder_of(out, name, method) / "full.npy" for method in networks}
        arrays = {label: np.load(path) for label, path in images.items() if path.exists()}
        if not arrays:
            continue
        truth = np.load(next(path for path in images.values() if path.exists()).with_name("truth.npy"))
        drawn[name] = folder / f"networks-{name}.png"
        draw_panel(drawn[name], truth, arrays, float(truth.max()) if name == "mri" else 1.0)
    return drawn


def draw_curves(path: Path, problems: dict[str, str], rows: list[Row]) -> None:
    """PSNR on held-out images against processor time, a panel for each problem; long runs are dotted.

    Parameters
    ----------
    path : Path
    problems : dict of name and title
    rows : list of dict
        of networks.
    """
    figure = Figure(figsize=(11, 4.2 * -(-len(problems) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(problems) // 2), min(2, len(problems)), squeeze=False).ravel()
    lines = {}
    for axes, (problem, title) in zip(panels, problems.items(), strict=False):
        found = [row for row in rows if row["problem"] == problem and row.get("curve")]
        for row in found:
            look = _look(row["method"])
            lines[row["method"]] = _draw(axes, row["curve"], **look)
            for longer in row["long"]:
                _draw(axes, longer["curve"], **{**look, "linestyle": ":"})
        axes.set(title=title, xlabel="processor time (s)", ylabel="PSNR on held-out images (dB)", xscale="log")
        if found:  # what has hardly begun would press all others together
            ends = sorted(row["curve"][-1][1] for row in found)
            axes.set_ylim(bottom=max(axes.get_ylim()[0], ends[len(ends) // 2] - 5))
        for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            ticks(LogFormatter(minor_thresholds=(1.5, 0.8)))
        axes.grid(alpha=0.3, which="both")
    for axes in panels[len(problems) :]:
        axes.axis("off")
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=5, frameon=False)
    save_picture(figure, path)


def _look(method: str) -> dict[str, Any]:
    index = list(ENTRIES).index(method)
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index // len(COLOURS)]}


def _draw(axes: Axes, curve: list[list[float]], **look: Any) -> Any:
    return axes.plot([point[0] for point in curve], [point[1] for point in curve], marker=".", lw=1.3, **look)[0]


def draw_panel(path: Path, truth: np.ndarray, images: dict[str, np.ndarray], peak: float) -> None:
    """A true image, what methods made of its measurements, and below the errors of these, all on the same scales.

    Parameters
    ----------
    path : Path
    truth : array, (height, width)
    images : dict of label and array
    peak : float
        of PSNR, and the unit of errors.
    """
    tall = truth.shape[0] / truth.shape[1]
    figure = Figure(figsize=(2.6 * (1 + len(images)), 2 * 2.6 * tall + 0.9), layout="constrained")
    panels = figure.subplots(2, 1 + len(images), squeeze=False)
    white = float(np.quantile(truth, SEEN))
    _show(panels[0, 0], truth, "true image", white, "gray")
    scale = ScalarMappable(Normalize(0, 1 / ERRORS), "magma")
    figure.colorbar(scale, cax=panels[1, 0].inset_axes([0.4, 0.05, 0.07, 0.9]), label="error, of a peak of 1")
    panels[1, 0].axis("off")
    for (upper, lower), (label, image) in zip(panels[:, 1:].T, images.items(), strict=True):
        db = 10 * np.log10(peak**2 / np.mean((np.clip(image, 0, peak) - truth) ** 2))
        _show(upper, image, f"{label}\n{db:.2f} dB", white, "gray")
        _show(lower, np.abs(np.clip(image, 0, peak) - truth), f"its error ×{ERRORS}", peak / ERRORS, "magma")
    save_picture(figure, path)


def _show(axes: Axes, image: np.ndarray, title: str, white: float, colors: str) -> None:
    axes.imshow(image, cmap=colors, vmin=0, vmax=white, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])
