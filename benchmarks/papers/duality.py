"""The section on the seven runs of the duality paper: configs/papers/duality.yaml."""

import math
import textwrap
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from unrolled.system.files import replacing

FILES = ("duality", "duality-sizes")
PENALTIES = ("LogSum", "AdaTikhonov", "AdaProx", "eta-trick")
DROPOUTS = ("VarDrop+LR+AR", "VarDrop+LR", "VarDrop")
RUNS = (*PENALTIES, *DROPOUTS)
FORMULAS = {
    "LogSum": "CE + 1e-3 Σ log(\\|w\\| + 2)",
    "AdaTikhonov": "CE + ½ Σ w²(1 − α)/α, α frozen in each step",
    "AdaProx": "CE; after each step w ← αw, where 1e-3 · rate/√v stands in place of 1e-3 in α",
    "eta-trick": "CE + ½ 1e-3 Σ [w²/η + f(η) + 1e-3 log η], log η learned",
    "VarDrop+LR+AR": "CE at w + σε, + KL/60000; log σ learned, noise drawn on outputs",
    "VarDrop+LR": "CE at w(1 + √a ε), + KL/60000; log a learned, noise drawn on outputs",
    "VarDrop": "the same, noise drawn on weights",
}
COLOURS = dict(zip(RUNS, ("#0072B2", "#56B4E9", "#009E73", "#000000", "#D55E00", "#E69F00", "#CC79A7"), strict=True))
POINTS, FACTOR, SPREADS = 0.5, 1.6, 2.0
"""Two runs are alike if their errors and nonzeros are within these, the same if within so many spreads over seeds."""


def section(figures: dict[str, Any], sizes: dict[str, Any]) -> str:
    rows, published = figures["runs"], {row["name"]: row for row in figures["published"]}
    names = [name for name in RUNS if of(rows, name)]
    pairs = [Pair(rows, a, b) for a, b in compared([name for name in names if len(of(rows, name)) > 1])]
    training = rows[0]["settings"]["training"]
    seeds = max(len(of(rows, name)) for name in names)
    missing = [shown(name) for name in RUNS if name not in names]
    not_run = f" Not run, for lack of time: {listed(missing)}." if missing else ""
    source = figures["published"][0]["source"]
    epochs, longer = training["epochs"], 200 / training["epochs"]
    single = [shown(name) for name in names if len(of(rows, name)) == 1]
    not_judged = f"\n\nNot judged, for there is one seed: {listed(single)}." if single else ""
    return f"""## Dropout and penalty

    python -m benchmarks.papers.study --config configs/papers/duality.yaml --folder runs/duality \\
        --json docs/papers/duality.json
    python -m benchmarks.papers.sizes --folder runs/duality --json docs/papers/duality-sizes.json

LeJeune, Javadi and Baraniuk (2021) prove that adaptive dropout and a reweighted penalty are one thing, and train
LeNet-300-100 on MNIST in seven ways to compare how they behave. [The coin](coin.md) has the theory. These are their
seven runs. CE is the mean cross entropy, η = |w|(|w| + 2), and α = η/(η + 1e-3) is the probability with which the
dropout that the log-sum penalty amounts to keeps a weight. A test compares the strategies, weight by weight over steps
of Adam, with these formulas written down by themselves.

{mapping(rows, names)}

Batches of {training["batch"]}, Adam without warm-up, learning rates that fall linearly to 0, a fifth of the training
images held out, no augmentation; {seeds} seeds, which draw weights, noise, batches and the images held out. A weight
counts as zero where α < .05 (for variational dropout, whose α is 1/(1 + a), where log a > 2.944), and all figures are
those of the network in which it *is* zero.

The paper trains for 200 epochs; here it was {epochs:g}, and every learning rate was {longer:g} times the paper's, so
that Adam can move a weight, or the logarithm of its noise, as far as in the paper. With {longer:g} times fewer steps,
noise is averaged over fewer draws. The full length is `configs/papers/duality_200.yaml`.

{results(rows, names, published, sizes)}

Mean ± standard deviation over seeds; errors in %. Published: {source}.{not_run}

![Validation error and nonzeros by epoch](papers/duality-curves.png)

*Every run by epoch: thick the mean, thin the seeds, at the right edge the published test error and nonzeros.*

![Test error against nonzeros](papers/duality-errors.png)

*What was reached: filled the mean, small the seeds, hollow what is published.*

{against(rows, names, published, sizes)}

### Do dropout and penalty behave alike?

How it is judged was fixed before the runs. Two runs are compared by the mean distance of their curves (validation
error, and logarithm of the share of nonzeros, each averaged over seeds) in the second half of the epochs. They are *the
same* if both distances are at most {SPREADS:g} times the standard deviation over seeds, pooled over both runs and these
epochs; *alike* if they are within {POINTS:g} points of error and a factor {FACTOR:g} of nonzeros, which in the
published table holds for any two of {listed(alike_in_the_paper(published))}; else *different*.

{pairs_table(pairs, published)}{not_judged}

{verdict(pairs)}

{by_size(pairs, published, sizes)}
"""


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
    _save(figure, path)


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
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


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


def listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


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


# What the page says


def mapping(rows: list[dict], names: list[str]) -> str:
    lines = ["| run | strategy | learning rate | what is minimised |", "|---|---|---|---|"]
    for name in names:
        settings = of(rows, name)[0]["settings"]
        rate = settings["training"]["learning_rate"]
        paper = rate * settings["training"]["epochs"] / 200
        cells = [shown(name), f"`{strategy(settings)}`", f"{rate:.0e}, the paper's {paper:.0e}", FORMULAS[name]]
        lines.append(f"| {' | '.join(cells)} |".replace("e-0", "e-"))
    return "\n".join(lines)


def strategy(settings: dict[str, Any]) -> str:
    """A strategy as it is written in Python, with what matters here."""
    sparsifier = settings["sparsifier"]
    options = sparsifier["init_args"]
    penalty = options.get("penalty", {}).get("class_path", "").rpartition(".")[2]
    strength = options["strength"]
    noise = "parametrisation" in options
    arguments = [
        *([f"LogSum({options['penalty']['init_args']['epsilon']:g})"] if penalty == "LogSum" else []),
        f"strength={f'1/{1 / strength:.0f}' if noise else f'{strength:.0e}'}",
        *(
            f"{key}={options[key]!r}"
            for key in ("update", "log_eta_weight", "cutoff", "parametrisation")
            if options.get(key)
        ),
    ]
    return f"{sparsifier['class_path'].rpartition('.')[2]}({', '.join(arguments)})"


def results(rows: list[dict], names: list[str], published: dict, sizes: dict) -> str:
    lines = [
        f"| run | validation error | test error | nonzero | larger than {sizes['cut']:g} | test error with those | "
        "published: test error | nonzero |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        validation = np.array([row["after"]["error"] for row in of(rows, name)])
        share, error = larger(sizes, name)
        cells = [
            shown(name),
            *(spread(values, 2) for values in (validation, tested(rows, name))),
            *(spread(values, 4) for values in (nonzeros(rows, name), share)),
            f"{error.mean():.2f}",
            f"{published[name]['error']:.2f}",
            f"{published[name]['nonzero']:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: np.ndarray, digits: int) -> str:
    """Mean ± standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f} (one seed)"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def against(rows: list[dict], names: list[str], published: dict, sizes: dict) -> str:
    """What was reached beside what is published."""
    counted = {name: (tested(rows, name).mean(), nonzeros(rows, name).mean()) for name in names}
    cut = {name: (larger(sizes, name)[1].mean(), larger(sizes, name)[0].mean()) for name in names}
    training = rows[0]["settings"]["training"]
    size = math.sqrt(1 + 1e-3 / 19) - 1  # where α = .05
    late, theirs = size / training["learning_rate"], size / (training["learning_rate"] * training["epochs"] / 200)
    tiny = (
        "Many of those that count are tiny: a weight without use goes to and fro around 0 by about the learning rate, "
        f"and α < .05 means |w| < {size:.1e} for the log-sum penalty. With the rate of LogSum, AdaTikhonov and AdaProx "
        f"that size is reached in the last {100 * late:.0f} % of the run here, in the last {100 * theirs:.0f} % in the "
        f"paper. So the table also has the weights larger than {sizes['cut']:g}, and the test error with only those."
    )
    paragraphs = [
        f"{_beside(counted, published)} {_by_rate(rows, names, published)}",
        f"{tiny} {_beside(cut, published)}",
    ]
    return "\n\n".join(map(filled, paragraphs))


def _by_rate(rows: list[dict], names: list[str], published: dict) -> str:
    """How far the test errors are from the published ones, for each of the learning rates."""
    apart: dict[float, list[float]] = {}
    for name in names:
        rate = of(rows, name)[0]["settings"]["training"]["learning_rate"]
        apart.setdefault(rate, []).append(tested(rows, name).mean() - published[name]["error"])
    parts = [f"{np.mean(apart[rate]):+.2f} points with the learning rate {rate:g}" for rate in sorted(apart)]
    return f"On average the errors differ by {listed(parts)}."


def _beside(reached: dict[str, tuple[float, float]], published: dict) -> str:
    """Of runs with their (test error, share of nonzeros): how far they are from the published ones."""
    errors = {name: error - published[name]["error"] for name, (error, _) in reached.items()}
    factors = {name: share / published[name]["nonzero"] for name, (_, share) in reached.items()}
    low, high = min(factors, key=factors.__getitem__), max(factors, key=factors.__getitem__)
    best, worst = min(errors, key=errors.__getitem__), max(errors, key=errors.__getitem__)
    ours = sorted(reached, key=lambda name: reached[name][1])
    theirs = sorted(reached, key=lambda name: published[name]["nonzero"])
    theirs_shown = "that of the paper" if ours == theirs else f"the paper's {listed([*map(shown, theirs)])}"
    return (
        f"Test errors differ from the published ones by {errors[best]:+.2f} points ({shown(best)}) to "
        f"{errors[worst]:+.2f} ({shown(worst)}); nonzeros are {factors[low]:.2f} ({shown(low)}) to {factors[high]:.2f} "
        f"times as many ({shown(high)}). From few nonzeros to many the order is {listed([*map(shown, ours)])}; it is "
        f"{theirs_shown}."
    ).replace("it is the paper's", "in the paper")


def pairs_table(pairs: list[Pair], published: dict) -> str:
    lines = [
        "| pair | error, points | in spreads | nonzeros, factor | in spreads | verdict | published: points, factor |",
        "|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        points, factor = apart(published, *pair.names)
        cells = [
            str(pair),
            f"{pair.points:.2f}",
            f"{pair.spreads[0]:.1f}",
            f"{pair.factor:.2f}",
            f"{pair.spreads[1]:.1f}",
            pair.verdict,
            f"{points:.2f}, {factor:.2f}: {'alike' if close(points, factor) else 'different'}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(pairs: list[Pair]) -> str:
    """What follows for the claim."""
    forms = [pair for pair in pairs if pair.names[1] in PENALTIES]
    dropouts = [pair for pair in pairs if pair.names[1] in DROPOUTS]
    said = f"**The forms of the penalty.** {_by_verdict(forms)}"
    if any(set(pair.names) == {"LogSum", "AdaTikhonov"} for pair in forms):
        said += " (LogSum and AdaTikhonov have one gradient, λ sign(w)/(|w| + 2), but for weights of α < 1e-3.)"
    parts = [
        f"is {word} for {listed(chosen)}"
        for word, chosen in (
            ("shown", [shown(pair.names[1]) for pair in dropouts if pair.verdict != "different"]),
            ("refuted", [shown(pair.names[1]) for pair in dropouts if pair.verdict == "different"]),
        )
        if chosen
    ]
    claim = (
        f"**Dropout and penalty.** {_by_verdict(dropouts)} So, of the ways to learn the noise, the claim that dropout "
        f"and penalty behave alike {' and '.join(parts)}."
    )
    return f"{filled(said)}\n\n{filled(claim)}"


def _by_verdict(pairs: list[Pair]) -> str:
    """Which pairs are the same, alike and different; and which are the same by their errors alone."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        found.setdefault(pair.verdict, []).append(str(pair))
    by_error = [str(pair) for pair in pairs if pair.spreads[0] <= SPREADS]
    some = "all" if len(by_error) == len(pairs) else listed(by_error) if by_error else "none"
    sentences = [
        f"{word.capitalize()}: {listed(found[word])}." for word in ("the same", "alike", "different") if word in found
    ]
    return " ".join([*sentences, f"The same by the error alone: {some}."])


def by_size(pairs: list[Pair], published: dict, sizes: dict) -> str:
    """The same question, by the weights that are larger than the cut."""
    words: dict[str, list[str]] = {"alike": [], "different": []}
    for pair in pairs:
        (share, error), (other, other_error) = (larger(sizes, name) for name in pair.names)
        factor = max(share.mean() / other.mean(), other.mean() / share.mean())
        points = abs(error.mean() - other_error.mean())
        word = "alike" if close(points, factor) else "different"
        words[word].append(f"{pair} ({points:.2f} points, {factor:.2f})")
    found = " ".join(f"{word.capitalize()}: {listed(pairs)}." for word, pairs in words.items() if pairs)
    return filled(
        "**By size.** That tiny weights count was seen afterwards. With the same bounds on the test error and the "
        f"share of weights larger than {sizes['cut']:g} at the end: {found}"
    )


def filled(text: str) -> str:
    """A paragraph, in lines."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)
