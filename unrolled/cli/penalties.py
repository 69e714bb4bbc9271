"""unrolled penalties [NAME …] [--all]"""

import warnings
from pathlib import Path

from jsonargparse import ArgumentParser

from unrolled.figures.penalty_pages import OVERVIEW, write_page
from unrolled.figures.sampled_penalties import Curves, penalty_curves, telling_reach, write_csv
from unrolled.penalties.names import drawable_penalties, label, parse_penalty, penalty_classes


def run(argv: list[str]) -> int:
    """List the penalties, or draw dropout rule, penalty and shrinkage."""
    parser = ArgumentParser(
        prog="unrolled penalties",
        description="The penalties: without arguments a list; with names a picture of their dropout rules, "
        "values and shrinkage, and a CSV of its curves.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "names", nargs="*", type=str, default=[], help="such as LogSum, or with parameters: 'MCP(gamma=1, b=3)'"
    )
    parser.add_argument("--all", action="store_true", help="each penalty in a picture of its own, and an overview")
    parser.add_argument("--out", type=str, default="pictures", help="the folder to write to")
    parser.add_argument("--strength", type=float, default=1.0, help="of the dropout rule; the step of the shrinkage")
    parser.add_argument("--reach", type=float | None, default=None, help="draw for values up to this")
    parser.add_argument("--page", type=str | None, default=None, help="with --all: also write all formulas, Markdown")
    options = parser.parse_args(argv)
    if options.all and options.names:
        raise ValueError(f"--all draws every penalty: leave out {' '.join(options.names)}, or --all")
    if options.page is not None and not options.all:
        raise ValueError("--page describes every penalty: add --all")
    if not options.all and not options.names:
        return _list()
    known = drawable_penalties()
    penalties = [parse_penalty(name) for name in options.names] or list(known.values())
    reach = telling_reach(penalties, options.strength) if options.reach is None else options.reach
    drawn = [penalty_curves(penalty, options.strength, reach) for penalty in penalties]
    if options.all:
        pictures = {name: [each] for name, each in zip(known, drawn, strict=True)} | {OVERVIEW: drawn}
    else:
        pictures = {"-".join(type(penalty).__name__ for penalty in penalties): drawn}
    _write(Path(options.out), pictures)
    if options.page is not None:
        write_page(options.page, options.out)
        print(f"written: {options.page}")
    return 0


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


def _list() -> int:
    drawable = drawable_penalties()
    for name, cls in penalty_classes().items():
        written = label(drawable[name]) if name in drawable else f"{name}(…)"
        print(f"{written:<28} ρ = {cls.formulas.value}\n{'':<28} {cls.formulas.source}")
    print("\nunrolled penalties NAME … draws them, with parameters as in 'MCP(gamma=1, b=3)'.")
    return 0
