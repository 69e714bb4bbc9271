"""unrolled penalties [NAME …] [--all]"""

import warnings
from pathlib import Path

from unrolled.cli import command_line
from unrolled.cli.command_line import Flag
from unrolled.figures.penalty_pages import OVERVIEW, write_page
from unrolled.figures.sampled_penalties import Curves, penalty_curves, telling_reach, write_csv
from unrolled.penalties.names import drawable_penalties, label, parse_penalty, penalty_classes


def run(argv: list[str]) -> int:
    """Show the penalties."""
    return command_line.run("penalties", show_penalties, argv)


def show_penalties(
    names: list[str] = [],  # noqa: B006  never changed
    /,
    *,
    all: Flag = False,
    out: str = "pictures",
    strength: float = 1.0,
    reach: float | None = None,
    page: str | None = None,
) -> None:
    """List the penalties, or draw some of them.

    Without names they are listed. With names their dropout rules, values and shrinkages are drawn, and the curves are
    written as CSV.

    Parameters
    ----------
    names : list of str
        penalties to draw: LogSum, or with parameters 'MCP(gamma=1, b=3)'.
    all : bool
        draw every penalty in a picture of its own, and an overview.
    out : str
        the folder to write to.
    strength : float
        strength of the dropout rule, which is the step of the shrinkage.
    reach : float, optional
        draw for values up to this.
    page : str, optional
        with --all, also write all formulas to this file of Markdown.
    """
    if all and names:
        raise ValueError(f"--all draws every penalty: leave out {' '.join(names)}, or --all")
    if page is not None and not all:
        raise ValueError("--page describes every penalty: add --all")
    if not all and not names:
        _list()
        return
    known = drawable_penalties()
    penalties = [parse_penalty(name) for name in names] or list(known.values())
    reach = telling_reach(penalties, strength) if reach is None else reach
    drawn = [penalty_curves(penalty, strength, reach) for penalty in penalties]
    if all:
        pictures = {name: [each] for name, each in zip(known, drawn, strict=True)} | {OVERVIEW: drawn}
    else:
        pictures = {"-".join(type(penalty).__name__ for penalty in penalties): drawn}
    _write(Path(out), pictures)
    if page is not None:
        write_page(page, out)
        print(f"written: {page}")


def _write(folder: Path, pictures: dict[str, list[Curves]]) -> None:
    for name, drawn in pictures.items():
        if name != OVERVIEW:
            write_csv(folder / f"{name}.csv", drawn)
    written = f"{folder}/*.csv" if OVERVIEW in pictures else f"{folder}/{next(iter(pictures))}.csv"
    try:
        from unrolled.figures.penalty_plots import draw_overview, draw_penalties
    except ImportError:
        warnings.warn("pictures need matplotlib: pip install 'unrolled[plots]'", stacklevel=2)
    else:
        for name, drawn in pictures.items():
            (draw_overview if name == OVERVIEW else draw_penalties)(folder / f"{name}.png", drawn)
        written += f", {written.removesuffix('csv')}png"
    print(f"written: {written}")


def _list() -> None:
    drawable = drawable_penalties()
    for name, cls in penalty_classes().items():
        written = label(drawable[name]) if name in drawable else f"{name}(…)"
        print(f"{written:<28} ρ = {cls.formulas.value}\n{'':<28} {cls.formulas.source}")
    print("\nunrolled penalties NAME … draws them, with parameters as in 'MCP(gamma=1, b=3)'.")
