"""MNIST: what error each strategy keeps with 1.4 % of LeNet-300-100, and with .35 % of LeNet-5."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from textwrap import fill
from typing import Any

from unrolled.system.files import replacing

FILES = ("mnist_300_100", "mnist_lenet5")
NETWORKS = ("LeNet-300-100", "LeNet-5")
GOALS = ((1.9, 70), (0.75, 280))
"""Test error in %, at most, at a compression of at least: a little beyond sparse variational dropout."""
THEIR_OWN = ("VariationalDropoutFit", "HardConcrete")
"""Penalties that are a strategy's only one."""

INTRODUCTION = """## MNIST: the best of each strategy

    python -m benchmarks.papers.study --config configs/papers/mnist_300_100.yaml --folder runs/mnist_300_100 \\
        --json docs/papers/mnist_300_100.json
    python -m benchmarks.papers.study --config configs/papers/mnist_lenet5.yaml --folder runs/mnist_lenet5 \\
        --json docs/papers/mnist_lenet5.json

Every strategy for single weights gets the same target, a little beyond the highest compression of the published table,
and is trained by Adam on {train:,} images; {held:,} are held out. Training images are shifted at random by up to a
pixel; **most of the published figures are without that**, and so are the rows "no shifts". A row with several seeds has
the mean of the errors and, in brackets, the least and the largest. Seconds are those of a run on shared cores."""


def section(*figures: dict[str, Any]) -> str:
    """The Markdown of this section, of the JSON of both studies."""
    first = figures[0]["runs"][0]
    train, held = (60_000 - _held(first), _held(first))
    parts = [INTRODUCTION.format(train=train, held=held)]
    for network, goal, found in zip(NETWORKS, GOALS, figures, strict=True):
        rows = [_summary(runs) for runs in _by_name(found["runs"])]
        parts += [
            f"### {network}",
            _table(rows, found["published"]),
            _verdict(goal, rows, found["published"]),
            *([_failures(found["failed"])] if found["failed"] else []),
        ]
    return "\n\n".join([*parts, "![test error against compression](papers/mnist.png)"])


def draw(*figures: dict[str, Any], folder: Path) -> None:
    """Error against compression, of these runs and of the published ones."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, network, (error, compression), found in zip(figure.subplots(1, 2), NETWORKS, GOALS, figures, strict=True):
        rows = [_summary(runs) for runs in _by_name(found["runs"])]
        for shifted, marker, name in ((True, "o", "here, images shifted"), (False, "s", "here, no shifts")):
            chosen = [row for row in rows if row["shifted"] is shifted]
            if chosen:
                axes.plot(
                    *zip(*(_place(row) for row in chosen), strict=True), marker, alpha=0.8, markersize=5, label=name
                )
        others = [row for row in found["published"] if row["compression"] > 1]
        axes.plot(*zip(*(_place(row) for row in others), strict=True), "kx", label="published")
        axes.axvline(compression, color="tab:green", lw=0.8, ls=":")
        axes.axhline(error, color="tab:green", lw=0.8, ls=":", label="goal: below, and to the right")
        axes.set(title=network, xlabel="compression: weights / nonzeros", ylabel="test error (%)", xscale="log")
        axes.set_xlim(8, 5 * compression)
        for row in others:
            left, last = row["compression"] < 20, row is max(others, key=lambda row: row["compression"])
            offset = (-4, -12 if last else 5)
            axes.annotate(
                row["name"], _place(row), offset, textcoords="offset points", size=8, ha="left" if left else "right"
            )
        axes.margins(y=0.1)
        heights = _apart([row["error"] for row in rows], 0.045 * (axes.get_ylim()[1] - axes.get_ylim()[0]))
        for row, height in zip(rows, heights, strict=True):
            line = {"arrowstyle": "-", "lw": 0.4, "color": "grey"}
            axes.annotate(row["run"], _place(row), (1.3 * compression, height), size=8, va="center", arrowprops=line)
        axes.xaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200, 500, 1000]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left")
    with replacing(folder / "mnist.png") as temporary:
        figure.savefig(temporary, dpi=100)


def _place(row: dict[str, Any]) -> tuple[float, float]:
    return row["compression"], row["error"]


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights near to the given ones, none closer to another than the gap: for labels."""
    order, found = sorted(range(len(heights)), key=heights.__getitem__), list(heights)
    for before, after in pairwise(order):
        found[after] = max(found[after], found[before] + gap)
    return found


def _held(run: dict[str, Any]) -> int:
    return round(60_000 * run["settings"]["data"]["hold_out"])


def _by_name(runs: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The runs of each name, one for each seed; those that are dense are none of the comparison."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if "compression" in run:
            found.setdefault(run["name"], []).append(run)
    return list(found.values())


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is said of a run, as the mean of its seeds."""
    settings, errors = runs[0]["settings"], [run["test"]["error"] for run in runs]
    shifted = settings["data"]["shift"] > 0
    return {
        "run": runs[0]["name"],
        "name": _strategy(settings["sparsifier"]) + ("" if shifted else ", no shifts"),
        "shifted": shifted,
        "seeds": len(runs),
        "error": mean(errors),
        "errors": errors,
        "held_out": mean(run["after"]["error"] for run in runs),
        "compression": mean(run["compression"] for run in runs),
        "nonzeros": round(mean(run["report"]["total"]["nonzeros"] for run in runs)),
        "epochs": settings["training"]["epochs"],
        "seconds": mean(run["seconds"] for run in runs),
    }


def _strategy(sparsifier: dict[str, Any]) -> str:
    """Its class, and what it was given, in short."""
    given = dict(sparsifier.get("init_args") or {})
    penalty = given.get("penalty")
    name = sparsifier["class_path"].rpartition(".")[2]
    ways = [given[key] for key in ("update", "parametrisation", "noise") if given.get(key)]
    if isinstance(penalty, dict) and penalty["class_path"].rpartition(".")[2] not in THEIR_OWN:
        numbers = ", ".join(f"{number:g}" for number in (penalty.get("init_args") or {}).values())
        ways.insert(0, penalty["class_path"].rpartition(".")[2] + (f"({numbers})" if numbers else ""))
    return f"{name}, {', '.join(ways)}" if ways else name


def _table(rows: Sequence[dict[str, Any]], published: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| run | strategy | seeds | test error % | held-out error % | compression | nonzeros | epochs | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["held_out"]):
        spread = f" ({min(row['errors']):.2f} to {max(row['errors']):.2f})" if row["seeds"] > 1 else ""
        lines.append(
            f"| {row['run']} | {row['name']} | {row['seeds']} | {row['error']:.2f}{spread} | {row['held_out']:.2f} | "
            f"{row['compression']:.1f}× | {row['nonzeros']:,} | {row['epochs']:g} | {row['seconds']:.0f} |"
        )
    lines += [
        f"| *published* | {row['name']} ({row['source']}) | | {row['error']:.2f} | | {row['compression']:g}× | | | |"
        for row in published
    ]
    return "\n".join(lines)


def _verdict(goal: tuple[float, float], rows: Sequence[dict[str, Any]], published: Sequence[dict[str, Any]]) -> str:
    """Whether the goal was met by what the held-out images would choose, with shifts and without."""
    sentences = [f"The goal is an error of at most {goal[0]:g} % at {goal[1]}× or more."]
    for shifted, words in ((True, "with shifts"), (False, "without shifts")):
        tried = [row for row in rows if row["shifted"] is shifted]
        enough = [row for row in tried if row["compression"] >= goal[1]]
        if not enough:
            sentences.append(f"No run {words} {'reaches that compression' if tried else 'was made'}.")
            continue
        best = min(enough, key=lambda row: row["held_out"])
        reached = "reached" if best["error"] <= goal[0] else f"missed by {best['error'] - goal[0]:.2f} points"
        sentences.append(
            f"Among the runs {words} the held-out images choose {best['run']}: "
            f"{best['error']:.2f} % at {best['compression']:.1f}×; the goal is **{reached}** {words}."
        )
        if best["error"] > goal[0] and (budget := _budget(best, enough)):
            sentences.append(budget)
        worse = [row["name"] for row in published if row["compression"] > 1 and _dominates(best, row)]
        if worse:
            sentences.append(f"It has the lower error and the higher compression than {_listed(worse)}.")
    return fill(" ".join(sentences), 120, break_on_hyphens=False)


def _budget(best: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str | None:
    """What other runs of the same strategy say of the number of epochs; None if there are none."""
    others = [row for row in rows if row["name"] == best["name"] and row["epochs"] != best["epochs"]]
    if not others:
        return None
    other = max(others, key=lambda row: row["epochs"])
    numbers = (
        f"{other['epochs']:g} epochs instead of {best['epochs']:g} give {other['error']:.2f} %, "
        f"{other['held_out']:.2f} % instead of {best['held_out']:.2f} % of the held-out images"
    )
    if other["epochs"] > best["epochs"]:
        return f"More epochs alone did not help: {numbers}."
    return f"More epochs helped, and more of them may: {numbers}."


def _dominates(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return row["error"] < other["error"] and row["compression"] > other["compression"]


def _failures(failed: dict[str, str]) -> str:
    return "These runs failed: " + "; ".join(f"{name} ({reason})" for name, reason in failed.items()) + "."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
