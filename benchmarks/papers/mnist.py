"""MNIST: what error each strategy keeps with 1.4 % of LeNet-300-100, and with .35 % of LeNet-5."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from benchmarks.papers.pictures import save_picture

FILES = ("mnist_300_100", "mnist_lenet5")
NETWORKS = ("LeNet-300-100", "LeNet-5")
GOALS = ((1.9, 70), (0.75, 280))
"""Test error in %, at most, at a compression of at least: a little beyond sparse variational dropout."""
IMAGES = 60_000
"""To train with, those that are held out among them."""

THEIR_OWN = ("VariationalDropoutFit", "HardConcrete")
"""Penalties that are a strategy's only one."""


def facts(*figures: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the section of docs/papers.md, by name, of the JSON of both studies."""
    held_out = round(IMAGES * figures[0]["runs"][0]["settings"]["data"]["hold_out"])
    networks = []
    for name, goal, found in zip(NETWORKS, GOALS, figures, strict=True):
        rows = summaries(found["runs"])
        networks.append(
            {
                "name": name,
                "goal": {"error": goal[0], "compression": goal[1]},
                "rows": sorted(rows, key=lambda row: row["held_out"]),
                "published": found["published"],
                "kinds": [judged(goal, rows, found["published"], shifted) for shifted in (True, False)],
                "failed": found["failed"],
            }
        )
    return {"images": {"trained": IMAGES - held_out, "held_out": held_out}, "networks": networks}


def draw(*figures: dict[str, Any], folder: Path) -> None:
    """Error against compression, of these runs and of the published ones."""

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, network, (error, compression), found in zip(figure.subplots(1, 2), NETWORKS, GOALS, figures, strict=True):
        rows = summaries(found["runs"])
        for shifted, marker, name in ((True, "o", "here, images shifted"), (False, "s", "here, no shifts")):
            places = [_place(row) for row in rows if row["shifted"] is shifted]
            if places:
                axes.plot(*zip(*places, strict=True), marker, alpha=0.8, markersize=5, label=name)
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
    save_picture(figure, folder / "mnist.png")


def _place(row: dict[str, Any]) -> tuple[float, float]:
    return row["compression"], row["error"]


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights near to the given ones, none closer to another than the gap: for labels."""
    order, found = sorted(range(len(heights)), key=heights.__getitem__), list(heights)
    for before, after in pairwise(order):
        found[after] = max(found[after], found[before] + gap)
    return found


def summaries(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is said of the runs of each name, as the mean of their seeds; dense ones are none of the comparison."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if "compression" in run:
            by_name.setdefault(run["name"], []).append(run)
    return [summary(seeds) for seeds in by_name.values()]


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    settings, errors = runs[0]["settings"], [run["test"]["error"] for run in runs]
    return {
        "run": runs[0]["name"],
        "strategy": strategy(settings["sparsifier"]),
        "shifted": settings["data"]["shift"] > 0,
        "seeds": len(runs),
        "error": mean(errors),
        "least": min(errors),
        "most": max(errors),
        "held_out": mean(run["after"]["error"] for run in runs),
        "compression": mean(run["compression"] for run in runs),
        "nonzeros": round(mean(run["report"]["total"]["nonzeros"] for run in runs)),
        "epochs": settings["training"]["epochs"],
        "seconds": mean(run["seconds"] for run in runs),
    }


def strategy(sparsifier: dict[str, Any]) -> str:
    """Its class, and what it was given, in short."""
    given = dict(sparsifier.get("init_args") or {})
    penalty = given.get("penalty")
    name = sparsifier["class_path"].rpartition(".")[2]
    ways = [given[key] for key in ("update", "parametrisation", "noise") if given.get(key)]
    if isinstance(penalty, dict) and penalty["class_path"].rpartition(".")[2] not in THEIR_OWN:
        numbers = ", ".join(f"{number:g}" for number in (penalty.get("init_args") or {}).values())
        ways.insert(0, penalty["class_path"].rpartition(".")[2] + (f"({numbers})" if numbers else ""))
    return f"{name}, {', '.join(ways)}" if ways else name


def chosen(rows: Iterable[dict[str, Any]], compression: float, shifted: bool) -> dict[str, Any] | None:
    """What the held-out images would choose of the runs that are sparse enough; None if there are none."""
    enough = [row for row in rows if row["shifted"] is shifted and row["compression"] >= compression]
    return min(enough, key=lambda row: row["held_out"], default=None)


def judged(
    goal: tuple[float, float], rows: Sequence[dict[str, Any]], published: Iterable[dict[str, Any]], shifted: bool
) -> dict[str, Any]:
    """Whether the goal was met by what the held-out images would choose, with shifts or without."""
    found = {"shifted": shifted, "tried": any(row["shifted"] is shifted for row in rows)}
    best = chosen(rows, goal[1], shifted)
    if best is None:
        return {**found, "best": None}
    reached = best["error"] <= goal[0]
    enough = [row for row in rows if row["shifted"] is shifted and row["compression"] >= goal[1]]
    return {
        **found,
        "best": best,
        "reached": reached,
        "excess": best["error"] - goal[0],
        "budget": None if reached else budget(best, enough),
        "beaten": [row["name"] for row in published if row["compression"] > 1 and dominates(best, row)],
    }


def budget(best: dict[str, Any], rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The longest other run of the same strategy, and whether it is longer; None if there are none."""
    others = [row for row in rows if row["strategy"] == best["strategy"] and row["epochs"] != best["epochs"]]
    if not others:
        return None
    other = max(others, key=lambda row: row["epochs"])
    return {"other": other, "longer": other["epochs"] > best["epochs"]}


def dominates(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return row["error"] < other["error"] and row["compression"] > other["compression"]
