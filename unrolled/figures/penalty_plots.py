"""Pictures of penalties. Needs matplotlib, the extra `plots`."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from unrolled.figures.sampled_penalties import Curve, Curves
from unrolled.system.files import replacing

# Okabe and Ito's colours, which colour-blind people can tell apart; line styles help where curves coincide.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)))  # dots are for jumps
GREY = "0.6"


def draw_penalties(path: str | Path, drawn: Sequence[Curves]) -> None:
    """Draw dropout rule, penalty and shrinkage of one or several penalties side by side.

    Raises
    ------
    ValueError
        if the file cannot be written.
    """
    figure = Figure(figsize=(10.5, 3.5), layout="constrained")
    rule, value, shrinkage = figure.subplots(1, 3)
    strength = f"{drawn[0].strength:g}"
    rule.set(title="dropout rule", xlabel="|w|", ylabel=f"keep probability α,  λ = {strength}", ylim=(-0.04, 1.04))
    value.set(title="effective penalty", xlabel="w", ylabel="ρ(w)")
    shrinkage.set(title="shrinkage", xlabel="v", ylabel=f"prox(v, {strength})")
    ends = drawn[0].prox.x[[0, -1]].tolist()
    shrinkage.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=":")
    for index, curves in enumerate(drawn):
        for axes, curve in ((rule, curves.keep_probability), (value, curves.value), (shrinkage, curves.prox)):
            _draw(axes, curve, **_look(index))
    for axes in (rule, value, shrinkage):
        _tidy(axes)
        axes.margins(x=0)
    rule.set_xlim(left=-0.03 * ends[1])
    value.set_ylim(bottom=-0.04 * value.get_ylim()[1])
    if len(drawn) == 1:
        figure.suptitle(drawn[0].label)
    else:
        lines = [Line2D([], [], **_look(index)) for index in range(len(drawn))]
        labels = [curves.label for curves in drawn]
        figure.legend(lines, labels, loc="outside lower center", ncols=min(len(drawn), 4), frameon=False)
    _save(figure, path)


def draw_overview(path: str | Path, drawn: Sequence[Curves], columns: int = 4) -> None:
    """Draw many penalties, each with its three curves over |w| in a panel of its own.

    Raises
    ------
    ValueError
        if the file cannot be written.
    """
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.4 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    limit = min(float(curves.prox.x[-1]) for curves in drawn)
    for axes, curves in zip(panels, drawn, strict=False):
        for index, curve in enumerate((curves.keep_probability, curves.value, curves.prox)):
            _draw(axes, curve, **_look(index))
        axes.set_title(curves.label.replace("(", "\n(", 1), fontsize=9)
        axes.set(xlim=(0, limit), ylim=(-0.03 * limit, limit))
        _tidy(axes)
    for axes in panels[max(0, len(drawn) - columns) : len(drawn)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    names = ["keep probability α", "penalty ρ", "shrinkage prox"]
    lines = [Line2D([], [], **_look(index)) for index in range(3)]
    figure.legend(lines, names, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"over |w|, with strength and step {drawn[0].strength:g}")
    _save(figure, path)


def _look(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index % len(STYLES)], "linewidth": 1.6}


def _draw(axes: Axes, curve: Curve, color: str, **line: Any) -> None:
    """A curve in pieces, so that a jump is no slanted line; a thin dotted line joins its two sides."""
    pieces = curve.pieces()
    for x, y in pieces:
        if len(x) == 1:
            axes.plot(x, y, "o", color=color, markersize=4)
        else:
            axes.plot(x, y, color=color, **line)
    for (x, before), (_, after) in itertools.pairwise(pieces):
        axes.plot([x[-1], x[-1]], [before[-1], after[0]], color=color, linestyle=":", linewidth=0.8)


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: str | Path) -> None:
    """Write a PNG of few colours: lines need no more, and it is a third of the size."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=110)
    with replacing(path) as temporary, Image.open(memory) as picture:
        picture.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(temporary, format="PNG", optimize=True)
