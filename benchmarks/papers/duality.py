"""The section on the seven runs of the duality paper: configs/papers/duality.yaml."""

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.papers.pictures import save_picture

FILES = ("duality", "duality-sizes")
PENALTIES = ("LogSum", "AdaTikhonov", "AdaProx", "eta-trick")
DROPOUTS = ("VarDrop+LR+AR", "VarDrop+LR", "VarDrop")
RUNS = (*PENALTIES, *DROPOUTS)
COLOURS = dict(zip(RUNS, ("#0072B2", "#56B4E9", "#009E73", "#000000", "#D55E00", "#E69F00", "#CC79A7"), strict=True))
LENGTH = 200
"""Epochs of the paper."""

POINTS, FACTOR, SPREADS = 0.5, 1.6, 2.0
"""Two runs are alike if their errors and nonzeros are within these, the same if within so many spreads over seeds."""


def facts(figures: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the section of docs/papers.md, by name."""
    rows, published = figures["runs"], {row["name"]: row for row in figures["published"]}
    names = [name for name in RUNS if of(rows, name)]
    seeds = {name: len(of(rows, name)) for name in names}
    pairs = [Pair(rows, a, b) for a, b in compared([name for name in names if seeds[name] > 1])]
    training = rows[0]["settings"]["training"]
    reached = {name: (tested(rows, name).mean(), nonzeros(rows, name).mean()) for name in names}
    large = {name: (error.mean(), share.mean()) for name in names for share, error in [larger(sizes, name)]}
    return {
        "batch": training["batch"],
        "epochs": training["epochs"],
        "shorter": LENGTH / training["epochs"],
        "seeds": max(seeds.values()),
        "source": figures["published"][0]["source"],
        "not_run": [shown(name) for name in RUNS if name not in names],
        "one_seed": [shown(name) for name in names if seeds[name] == 1],
        "cut": sizes["cut"],
        "bounds": {"points": POINTS, "factor": FACTOR, "spreads": SPREADS},
        "runs": [run(of(rows, name), larger(sizes, name), published[name]) for name in names],
        "counted": beside(reached, published),
        "by_rate": by_rate(rows, names, published),
        "tiny": tiny(training),
        "large": beside(large, published),
        "alike_published": alike_in_the_paper(published),
        "pairs": [pair.facts(published) for pair in pairs],
        "forms": judged([pair for pair in pairs if pair.names[1] in PENALTIES]),
        "one_gradient": any(set(pair.names) == {"LogSum", "AdaTikhonov"} for pair in pairs),
        "dropouts": judged([pair for pair in pairs if pair.names[1] in DROPOUTS]),
        "by_size": by_size(pairs, sizes),
    }


def draw(figures: dict[str, Any], sizes: dict[str, Any], folder: Path) -> None:
    rows, published = figures["runs"], {row["name"]: row for row in figures["published"]}
    names = [name for name in RUNS if of(rows, name)]
    _draw_curves(rows, names, published, folder / "duality-curves.png")
    _draw_errors(rows, names, published, sizes, folder / "duality-errors.png")


def _draw_curves(rows: list[dict], names: list[str], published: dict, path: Path) -> None:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    epochs = rows[0]["settings"]["training"]["epochs"]
    for axes, quantity, title in zip(
        panels, ("error", "nonzero"), ("validation error (%)", "nonzero weights (share)"), strict=True
    ):
        for name in names:
            values = curve(rows, name, quantity)
            at = np.linspace(0, epochs, values.shape[1] + 1)[1:]
            style = {"color": COLOURS[name], "linestyle": "-" if name in PENALTIES else "--"}
            axes.plot(at, values.T, **style, linewidth=0.6, alpha=0.5)
            axes.plot(at, values.mean(0), **style, linewidth=2, label=shown(name))
            axes.plot(
                epochs * 1.03, published[name][quantity], "o", color=style["color"], fillstyle="none", clip_on=False
            )
        axes.set(title=title, xlabel="epoch", yscale="log", xlim=(0, epochs * 1.03))
        axes.grid(alpha=0.3, which="both")
    panels[0].set(ylim=(1, 12), yticks=(ticks := [1, 1.5, 2, 3, 5, 10]), yticklabels=[f"{tick:g}" for tick in ticks])
    panels[0].minorticks_off()
    panels[1].set(ylim=(0.01, 1.1), yticks=(ticks := [0.01, 0.1, 1]), yticklabels=[f"{tick:g}" for tick in ticks])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
    save_picture(figure, path)


def _draw_errors(rows: list[dict], names: list[str], published: dict, sizes: dict, path: Path) -> None:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    reached = [
        ("all that count as nonzero", lambda name: (nonzeros(rows, name), tested(rows, name))),
        (f"those larger than {sizes['cut']:g}", lambda name: larger(sizes, name)),
    ]
    for axes, (title, of_run) in zip(panels, reached, strict=True):
        for name in names:
            share, error = of_run(name)
            theirs = published[name]
            look = {"color": COLOURS[name], "marker": "o" if name in PENALTIES else "s", "linestyle": "none"}
            axes.plot([share.mean(), theirs["nonzero"]], [error.mean(), theirs["error"]], color="0.8", zorder=0)
            axes.plot(share, error, **look, markersize=3, alpha=0.6)
            axes.plot(share.mean(), error.mean(), **look, markersize=8, label=shown(name))
            axes.plot(theirs["nonzero"], theirs["error"], **look, markersize=8, fillstyle="none")
        axes.set(title=title, xscale="log", xlabel="nonzero weights (share)")
        axes.set(xticks=(ticks := [0.02, 0.05, 0.1, 0.2, 0.5]), xticklabels=[f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("test error (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False)
    save_picture(figure, path)


# What was measured


def of(rows: list[dict], name: str) -> list[dict]:
    """The rows of a run, one for each seed."""
    return [row for row in rows if row["name"] == name]


def curve(rows: list[dict], name: str, quantity: str) -> np.ndarray:
    """The validation error in %, or the share of nonzeros, of the network with its zeros: (seed, epoch)."""
    key, whole = {"error": ("sparse_accuracy", 100), "nonzero": ("sparsity", 1)}[quantity]
    return whole - np.array([row["curves"][key] for row in of(rows, name)], dtype=float)


def tested(rows: list[dict], name: str) -> np.ndarray:
    return np.array([row["test"]["error"] for row in of(rows, name)])


def nonzeros(rows: list[dict], name: str) -> np.ndarray:
    return np.array([1 - row["sparsity"] for row in of(rows, name)])


def larger(sizes: dict, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The share of weights larger than the cut, and the test error with only those, of each seed."""
    found = of(sizes["runs"], name)
    return np.array([row["share"] for row in found]), np.array([row["error"] for row in found])


def shown(name: str) -> str:
    return name.replace("eta", "η")


# How alike two runs are


def compared(names: Sequence[str]) -> list[tuple[str, str]]:
    """The forms of the penalty with each other, and each dropout with the penalty."""
    own = [name for name in PENALTIES if name in names]
    return [*combinations(own, 2), *((own[0], name) for name in DROPOUTS if name in names)]


class Pair:
    """Two runs, and how far apart their curves are in the second half.

    Attributes
    ----------
    points, factor : float
        the mean distance of the validation errors, and the factor of nonzeros that their mean distance of logarithms
        is.
    spreads : tuple of float
        both distances over the standard deviation over seeds.
    """

    def __init__(self, rows: list[dict], first: str, second: str):
        self.names = first, second
        distances, self.spreads = [], ()
        for quantity in ("error", "nonzero"):
            values = [curve(rows, name, quantity) for name in self.names]
            values = [np.log(value) if quantity == "nonzero" else value for value in values]
            values = [value[:, value.shape[1] // 2 :] for value in values]
            distance = float(np.abs(values[0].mean(0) - values[1].mean(0)).mean())
            spread = math.sqrt(float(np.mean([value.var(0, ddof=1) for value in values])))
            distances.append(distance)
            self.spreads += (distance / spread,)
        self.points, self.factor = distances[0], math.exp(distances[1])

    @property
    def verdict(self) -> str:
        if max(self.spreads) <= SPREADS:
            return "the same"
        return "alike" if close(self.points, self.factor) else "different"

    def __str__(self) -> str:
        return f"{shown(self.names[0])} – {shown(self.names[1])}"

    def facts(self, published: dict) -> dict[str, Any]:
        """A row of the table of pairs."""
        points, factor = apart(published, *self.names)
        return {
            "pair": str(self),
            "points": self.points,
            "points_in_spreads": self.spreads[0],
            "factor": self.factor,
            "factor_in_spreads": self.spreads[1],
            "verdict": self.verdict,
            "published": {"points": points, "factor": factor, "alike": close(points, factor)},
        }


def close(points: float, factor: float) -> bool:
    return points <= POINTS and factor <= FACTOR


def apart(published: dict, first: str, second: str) -> tuple[float, float]:
    """The distance of two published errors, and the factor of their nonzeros."""
    a, b = published[first], published[second]
    return abs(a["error"] - b["error"]), max(a["nonzero"], b["nonzero"]) / min(a["nonzero"], b["nonzero"])


def alike_in_the_paper(published: dict) -> list[str]:
    """The largest set of the paper's runs of which any two are alike."""
    for size in range(len(RUNS), 1, -1):
        for group in combinations(RUNS, size):
            if all(close(*apart(published, *pair)) for pair in combinations(group, 2)):
                return [shown(name) for name in group]
    return []


# What the page shows


def run(rows: list[dict], large: tuple[np.ndarray, np.ndarray], published: dict) -> dict[str, Any]:
    """A run of the tables, of its seeds."""
    settings = rows[0]["settings"]
    training = settings["training"]
    share, error = large
    return {
        "run": shown(rows[0]["name"]),
        "strategy": strategy(settings["sparsifier"]),
        "rate": training["learning_rate"],
        "paper_rate": training["learning_rate"] * training["epochs"] / LENGTH,
        "validation": spread([row["after"]["error"] for row in rows]),
        "test": spread([row["test"]["error"] for row in rows]),
        "nonzero": spread([1 - row["sparsity"] for row in rows]),
        "larger": spread(share),
        "larger_error": error.mean(),
        "published": published,
    }


def strategy(sparsifier: dict[str, Any]) -> str:
    """A strategy as it is written in Python, with what matters here."""
    options = sparsifier["init_args"]
    penalty = options.get("penalty", {}).get("class_path", "").rpartition(".")[2]
    strength = options["strength"]
    noise = "parametrisation" in options
    arguments = [
        *([f"LogSum({options['penalty']['init_args']['epsilon']:g})"] if penalty == "LogSum" else []),
        f"strength={f'1/{1 / strength:.0f}' if noise else f'{strength:.0e}'.replace('e-0', 'e-')}",
        *(
            f"{key}={options[key]!r}"
            for key in ("update", "log_eta_weight", "cutoff", "parametrisation")
            if options.get(key)
        ),
    ]
    return f"{sparsifier['class_path'].rpartition('.')[2]}({', '.join(arguments)})"


def spread(values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """Mean and standard deviation over seeds; of one seed there is none."""
    return {"mean": np.mean(values), "deviation": np.std(values, ddof=1) if len(values) > 1 else None}


def beside(reached: dict[str, tuple[float, float]], published: dict) -> dict[str, Any]:
    """Of runs with their (test error, share of nonzeros): how far they are from the published ones."""
    errors = {name: error - published[name]["error"] for name, (error, _) in reached.items()}
    factors = {name: share / published[name]["nonzero"] for name, (_, share) in reached.items()}
    best, worst = (choose(errors, key=errors.__getitem__) for choose in (min, max))
    fewest, most = (choose(factors, key=factors.__getitem__) for choose in (min, max))
    ours = sorted(reached, key=lambda name: reached[name][1])
    theirs = sorted(reached, key=lambda name: published[name]["nonzero"])
    return {
        "best": {"run": shown(best), "points": errors[best]},
        "worst": {"run": shown(worst), "points": errors[worst]},
        "fewest": {"run": shown(fewest), "factor": factors[fewest]},
        "most": {"run": shown(most), "factor": factors[most]},
        "order": [shown(name) for name in ours],
        "published_order": [shown(name) for name in theirs],
        "same_order": ours == theirs,
    }


def by_rate(rows: list[dict], names: list[str], published: dict) -> list[dict[str, float]]:
    """How far the test errors are from the published ones on average, for each of the learning rates."""
    apart: dict[float, list[float]] = {}
    for name in names:
        rate = of(rows, name)[0]["settings"]["training"]["learning_rate"]
        apart.setdefault(rate, []).append(tested(rows, name).mean() - published[name]["error"])
    return [{"rate": rate, "points": float(np.mean(apart[rate]))} for rate in sorted(apart)]


def tiny(training: dict[str, Any]) -> dict[str, float]:
    """The size at which α = .05, and in which last part of a run, here and in the paper, the rate is below it."""
    size, rate = math.sqrt(1 + 1e-3 / 19) - 1, training["learning_rate"]
    return {
        "size": size,
        "part": size / rate,
        "published_part": size / (rate * training["epochs"] / LENGTH),
    }


def judged(pairs: list[Pair]) -> dict[str, Any]:
    """Which pairs are the same, alike and different, and which are the same by their errors alone.

    Of dropouts, whose pairs are with the penalty, also for which of them the claim is shown, and refuted.
    """
    by_error = [str(pair) for pair in pairs if pair.spreads[0] <= SPREADS]
    return {
        "pairs": len(pairs),
        "same": [str(pair) for pair in pairs if pair.verdict == "the same"],
        "alike": [str(pair) for pair in pairs if pair.verdict == "alike"],
        "different": [str(pair) for pair in pairs if pair.verdict == "different"],
        "by_error": by_error,
        "all_by_error": len(by_error) == len(pairs),
        "shown": [shown(pair.names[1]) for pair in pairs if pair.verdict != "different"],
        "refuted": [shown(pair.names[1]) for pair in pairs if pair.verdict == "different"],
    }


def by_size(pairs: list[Pair], sizes: dict) -> dict[str, list[dict[str, Any]]]:
    """Which pairs are alike, by the weights that are larger than the cut."""
    found: dict[str, list[dict[str, Any]]] = {"alike": [], "different": []}
    for pair in pairs:
        (share, error), (other, other_error) = (larger(sizes, name) for name in pair.names)
        factor = max(share.mean() / other.mean(), other.mean() / share.mean())
        points = abs(error.mean() - other_error.mean())
        word = "alike" if close(points, factor) else "different"
        found[word].append({"pair": str(pair), "points": points, "factor": factor})
    return found
