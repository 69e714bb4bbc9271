"""All networks on four problems, each with the same processor time, beside classical methods: a page of figures.

    python -m benchmarks.comparison --t91 T91 --bsd400 BSD400 --set11 Set11 --complex TRAIN.h5 TEST.h5 \\
        --ct TRAIN.h5 TEST.h5 --kernels Levin09.mat --jobs 2 --long 40 --json docs/comparison.json

A problem whose data are not given is left out. Every training is a process with one thread, and its time is that of the
processor, which does not depend on what else the machine does: so several may run at a time. Of every network the time
of a step is measured, and learning rates are tried, before it is trained for the whole time; rates, strengths of
classical methods and weights are chosen on held-out training images, and test images are looked at once.

It can be interrupted at any moment: with the same `--out` it goes on. With `--json docs/comparison.json` the figures of
all that is finished go to that file, and from there into docs/networks.md.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import command
from benchmarks.comparison import entries, schedule
from benchmarks.comparison.page import FIGURES, PAGE, page, statement, titles
from benchmarks.comparison.pictures import draw_all
from benchmarks.comparison.problems import NEEDED
from benchmarks.comparison.rows import best_held_out, rows_of, table
from unrolled.system.files import replacing, write_json

FIXED = ("minutes", "iterations", "most")
"""Settings that all figures of a comparison share."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is missing, print the tables, and write what is asked for; returns the exit status."""
    parser = command.parser(__doc__)
    for name, help in (("t91", "T91"), ("bsd400", "BSD400"), ("set11", "Set11"), ("kernels", "Levin's kernels")):
        parser.add_argument(f"--{name}", default=None, metavar="PATH", help=f"where {help} lies")
    for name, help in (("complex", "complex images of magnetic resonance"), ("ct", "slices in Hounsfield units")):
        parser.add_argument(f"--{name}", nargs=2, default=(None, None), metavar=("TRAIN", "TEST"), help=help)
    parser.add_argument("--problems", nargs="+", choices=list(NEEDED), default=list(NEEDED))
    parser.add_argument(
        "--networks", nargs="+", choices=list(entries.ENTRIES), default=list(entries.ENTRIES), metavar="NETWORK"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of the processor, for each training")
    parser.add_argument("--long", type=float, default=None, metavar="MINUTES", help="train the best two for so long")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, each with one thread")
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"), help="where everything lies")
    parser.add_argument(
        "--figures",
        type=Path,
        default=None,
        help="where pictures go; by default into --out. The page shows those in docs",
    )
    parser.add_argument("--iterations", type=int, default=100, help="of the classical methods")
    parser.add_argument("--most", type=int, default=100, metavar="IMAGES", help="at most so many test images are seen")
    parser.add_argument("--retry", action="store_true", help="try again what has failed")
    options = parser.parse_args(argv)
    given = {name: getattr(options, name) for name in ("t91", "bsd400", "set11", "kernels")}
    for name in ("complex", "ct"):
        given |= {
            f"{name}_{split}": path for split, path in zip(("train", "test"), getattr(options, name), strict=True)
        }
    paths = {name: str(Path(path).resolve()) for name, path in given.items() if path is not None}
    problems = [name for name in options.problems if all(need in paths for need in NEEDED[name])]
    for name in options.problems:
        if name not in problems:
            lacking = ", ".join(need for need in NEEDED[name] if need not in paths)
            print(f"{name} is left out: it needs the data {lacking}")
    out = options.out.resolve()
    settle(out, {"paths": paths, **{name: getattr(options, name) for name in FIXED}})
    forget_failures(out, "*" if options.retry else "prepare")
    plan = schedule.Schedule(out, options.minutes, options.jobs)
    try:
        plan.run([(name, schedule.CLASSICAL, ["prepare"]) for name in problems])
        problems = [name for name in problems if schedule.is_prepared(out, name)]
        plan.run(schedule.chains(problems, options.networks))
        if options.long is not None:
            piece = f"long-{options.long:g}"
            plan.run([(name, best, [piece]) for name in problems for best in best_held_out(out, name)[:2]])
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
        return 130
    rows = rows_of(out)
    drawn = draw_all(out, (options.figures or out / "figures").resolve(), titles(), rows)
    for name, title in titles().items():
        if found := [row for row in rows if row["problem"] == name]:
            print(f"\n{title}\n{table(found)}\n{statement(found, options.minutes)}")
    if options.json is not None:
        docs = PAGE.parent
        shown = {name: str(path.relative_to(docs)) for name, path in drawn.items() if path.is_relative_to(docs)}
        budget = {"minutes": options.minutes, "long": options.long}
        command.write(options.json, {**budget, "rows": rows, "figures": shown})
        if options.json.resolve() == FIGURES:
            text = page(json.loads(FIGURES.read_text()), PAGE.read_text())
            with replacing(PAGE) as temporary:
                temporary.write_text(text)
            print(f"wrote {PAGE}")
    return 0


def settle(out: Path, settings: dict) -> None:
    """Keep the settings of a comparison in its folder.

    Raises
    ------
    ValueError
        if the comparison in the folder has others, of those that all figures depend on.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "settings.json"
    if file.exists():
        before = json.loads(file.read_text())
        for name in FIXED:
            if before[name] != settings[name]:
                raise ValueError(
                    f"{name}: must be {before[name]:g} as before in {out}, got {settings[name]:g}; or choose another "
                    "--out"
                )
        settings = {**settings, "paths": before["paths"] | settings["paths"]}
    write_json(file, settings)


def forget_failures(out: Path, names: str) -> None:
    """Remove what says that pieces of such names have failed."""
    for file in out.glob(f"*/*/{names}.json"):
        if "failed" in json.loads(file.read_text()):
            file.unlink()


if __name__ == "__main__":
    sys.exit(main())
