"""The theory of variable splitting, measured: one hidden layer, a sparse teacher, population and sampled gradients.

python -m benchmarks.papers.theory --json docs/papers/theory.json

Takes two or three minutes on one core, and draws its pictures beside the JSON.
"""

import itertools
import json
import math
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks import command
from benchmarks.papers import one_layer, theory_runs
from benchmarks.papers.one_layer import GRADIENTS
from benchmarks.papers.theory_runs import BETA, MULTIPLES, NONZEROS, PENALTIES, STRENGTH, D, K
from unrolled.penalties import L1, Weighted
from unrolled.system.files import replacing
from unrolled.training.runs.surroundings import environment

FILES = ("theory",)
COLORS = {"l1": "tab:blue", "TL1": "tab:green", "l0": "tab:red", "u = 0": "tab:gray"}
KNOWN = {
    ("ReLU", "l1"): (0.0037, 9),
    ("ReLU", "TL1"): (0.0069, 9),
    ("ReLU", "l0"): (0.0281, 3),
    ("step, ReLU", "l1"): (0.0187, 9),
    ("step, ReLU", "TL1"): (0.0363, 9),
    ("step, ReLU", "l0"): (0.1132, 3),
}
"""θ(w) and nonzeros of u for one w* in the same setting, from another program."""
Rows = list[dict[str, Any]]


def measure(teachers: int = 20, steps: int = 8000) -> dict[str, Any]:
    """All figures; fewer w* and steps for a quick look."""
    began = time.process_time()
    some = max(2, teachers // 2)
    splittings = [(label, Weighted(penalty, STRENGTH)) for label, penalty in PENALTIES.items()]
    splittings.append(("u = 0", Weighted(L1(), 1.0)))  # all is shrunk to 0
    found = {
        "setting": {
            "d": D,
            "k": K,
            "nonzeros": NONZEROS,
            "beta": BETA,
            "strength": STRENGTH,
            "eta": 0.5,
            "steps": steps,
            "teachers": teachers,
        },
        "fixed_points": _each(theory_runs.fixed_points(label, teachers, steps) for label in PENALTIES),
        "operation": _each(theory_runs.operation(label, 5 * teachers) for label in PENALTIES),
        "angles": {label: theory_runs.angles(label, teachers) for label in PENALTIES},
        "strengths": theory_runs.STRENGTHS,
        "thresholds": theory_runs.THRESHOLDS,
        "smoothness": one_layer.relu_smoothness(K),
        "largest_curvature": theory_runs.largest_curvature(some),
        "descent": [
            theory_runs.descent(label, penalty, multiple, some, max(100, steps // 20))
            for label, penalty in splittings
            for multiple in MULTIPLES
        ],
        "coarse_descent": _each(theory_runs.coarse_descent(label, some, steps // 2) for label in PENALTIES),
        "sampling": theory_runs.sampling_error(),
        "samples": _each(
            theory_runs.sampled_runs(label, max(2, teachers // 4), max(50, steps // 13)) for label in PENALTIES
        ),
    }
    return {**found, "seconds": time.process_time() - began, "environment": environment()}


def _each(parts: Iterable[Rows]) -> Rows:
    return list(itertools.chain.from_iterable(parts))


# The section


def section(figures: dict[str, Any]) -> str:
    """The part of docs/papers.md that is about the theory."""
    setting = figures["setting"]
    parts = [
        "## The theory: one hidden layer and a sparse teacher",
        "    python -m benchmarks.papers.theory --json docs/papers/theory.json",
        f"Dinh and Xin prove that variable splitting finds sparse weights in a model that can be computed by hand: "
        f"h(w, x) = (1/k) Σ σ(w·xᵢ) of {setting['k']} patches xᵢ of {setting['d']} normal numbers, to learn from a w* "
        f"with {setting['nonzeros']} nonzeros, w brought back to norm 1 after each step. σ is the ReLU (RVSM, 2018) or "
        "the step function with a coarse gradient (RVSCGD, 2019), of which all expectations are known in closed form "
        "(`benchmarks/papers/one_layer.py` derives them). `VariableSplitting` of this library does the iteration, in "
        f"float64, from random starts, for {setting['teachers']} random w* at once. Where nothing else is said "
        f"β = {setting['beta']:g}, λ = {setting['strength']:g}, η = {setting['eta']:g} and TL1 has a = 1. θ is the "
        f"angle between w and w*. The command takes {figures['seconds'] / 60:.1f} minutes of a core.",
        _fixed_points(figures),
        _support(figures),
        _operation(figures),
        _angles(figures),
        _descent(figures),
        _samples(figures),
    ]
    return "\n\n".join(parts) + "\n"


def _picture(name: str, text: str) -> str:
    return f"![{text}](papers/theory-{name}.png)"


def _fixed_points(figures: dict[str, Any]) -> str:
    rows = figures["fixed_points"]
    worst = max(row["residual"] for row in rows)
    lines = [
        "| activation, estimator | penalty | residual | θ: median (range) | nonzeros of u: mean (range) | elsewhere |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        known = KNOWN.get((row["gradient"], row["penalty"]))
        theta, count = row["angles"], row["nonzeros"]
        cells = [
            row["gradient"],
            row["penalty"],
            f"{row['residual']:.0e}",
            f"{statistics.median(theta):.4f} ({min(theta):.4f}–{max(theta):.4f})",
            f"{statistics.mean(count):.1f} ({min(count)}–{max(count)})",
            "" if known is None else f"{known[0]:.4f}, {known[1]}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    many = [(row, KNOWN[key]) for row in figures["operation"] if (key := (row["gradient"], row["penalty"])) in KNOWN]
    inside = sum(row["angles"][0] <= known[0] <= row["angles"][1] for row, known in many)
    counted = sum(row["nonzeros"][0] <= known[1] <= row["nonzeros"][1] for row, known in many)
    step, clipped = (
        [row for row in rows if row["gradient"] == f"step, {name}" and row["penalty"] in ("l1", "TL1")]
        for name in ("ReLU", "clipped ReLU")
    )
    apart = max(
        abs(a - b)
        for one, other in zip(step, clipped, strict=True)
        for a, b in zip(one["angles"], other["angles"], strict=True)
    )
    return "\n\n".join(
        [
            "### Fixed points",
            "A limit must satisfy w ∝ c w* + βS(w), S the proximal map with step λ/β, and c the pull of the gradient "
            "towards w*: (π − θ)/(πk) of the ReLU, 1/(√(2π)k) of the identity estimator, half of that of the ReLU "
            "estimator, and of the clipped ReLU that times erf(1/(√2 sinθ)). "
            f"{_claim(worst < 1e-9, 'Every run ends there to', 'Not every run ends there: the worst is')} {worst:.0e}. "
            "The last column has what another program found for one w*, which depends on the draw: its angle lies "
            f"within the range of {5 * figures['setting']['teachers']} draws in {inside} of {len(many)} cases, its "
            f"count in {counted}.",
            "\n".join(lines),
            f"The factor of the clipped ReLU differs from 1 by less than 1e-9 up to θ = {_erf_limit(1e-9):.2f}: close "
            f"to w* both estimators are the same. The angles at which l1 and TL1 end "
            f"{_claim(apart == 0, 'are equal to twelve digits', f'differ by at most {apart:.0e}')}.",
            _picture("fixed-points", "Residual of the fixed point over the steps, for each gradient and penalty"),
        ]
    )


def _erf_limit(tolerance: float) -> float:
    """The angle up to which 1 − erf(1/(√2 sinθ)) is smaller."""
    theta = torch.linspace(1e-3, math.pi / 2, 10_000, dtype=torch.float64)
    below = torch.special.erfc(1 / (math.sqrt(2) * theta.sin())) < tolerance
    return float(theta[below].max())


def _claim(holds: bool, yes: str, no: str) -> str:
    return yes if holds else no


def _support(figures: dict[str, Any]) -> str:
    rows, several = figures["fixed_points"], figures["angles"]
    outside = sum(row["outside"] for row in rows) + sum(each["outside"] for each in several.values())
    cases = sum(len(row["nonzeros"]) for row in rows)
    cases += sum(
        len(row)
        for each in several.values()
        for kind in ("by_strength", "by_threshold")
        for gradient in each[kind].values()
        for row in gradient
    )
    empty = sum(count == 0 for row in rows for count in row["nonzeros"])
    largest = max(row["largest_outside"] for row in rows)
    late = max(_last_outside(row) for row in rows)
    return "\n\n".join(
        [
            "### The support",
            f"Over all gradients, penalties, strengths and w* ({cases:,} limits) u has {outside} nonzeros where w* is "
            f"0, and in {empty} of the limits of the table it is 0 altogether. Where w* is 0 the fixed point reads "
            "‖c w* + βS(w)‖ w = βS(w); as |S(w)| ≤ |w|, and the norm is above β, it is 0 there: not only u, but also "
            f"the dense w, of which {largest:.0e} at most is left. On the way such nonzeros are seen, the last ones "
            f"before step {late:,}.",
            _picture("support", "Nonzeros of u inside and outside of the support of w*, over the steps"),
        ]
    )


def _last_outside(row: dict[str, Any]) -> int:
    """The first of the recorded steps from which on nothing is outside."""
    curves = row["curves"]
    last = max((index for index, count in enumerate(curves["outside"]) if count), default=-1)
    return curves["step"][min(last + 1, len(curves["step"]) - 1)]


def _operation(figures: dict[str, Any]) -> str:
    worst = max(row["teacher_error"] for row in figures["fixed_points"])
    return "\n\n".join(
        [
            "### The sparsifying operation",
            "Read from right to left, the fixed point says which w* a limit w comes from: w* = A w − (β/c) S(w), with "
            "the A that gives it norm 1. So what S leaves 0 is too small in w by a common factor, and what it keeps is "
            "too large. Computed from the limit alone, w* is found to "
            f"{worst:.0e} in the worst case. The figure shows what is taken from A w to get w*, in units of β/c: S.",
            _picture(
                "operation", "What is between w* and its limit, number by number, and the shrinkage that it should be"
            ),
        ]
    )


def _angles(figures: dict[str, Any]) -> str:
    order = list(PENALTIES)
    by_strength, by_threshold = (_ordered(figures, kind) for kind in ("by_strength", "by_threshold"))
    rises, pairs = _rising(figures)
    strengths = ", ".join(f"{value:g}" for value in figures["strengths"])
    header = ["λ", *(f"{value:g}" for value in figures["strengths"]), "threshold", *map(str, figures["thresholds"])]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for label in order:
        angles = figures["angles"][label]
        first, second = (
            [f"{statistics.mean(row):.4f}" for row in angles[kind]["step, ReLU"]]
            for kind in ("by_strength", "by_threshold")
        )
        lines.append(f"| {' | '.join([label, *first, label, *second])} |")
    table = "\n".join(lines)
    smallest = _smallest(figures)
    return "\n\n".join(
        [
            "### Angles over penalties and strengths",
            f"For λ in {strengths} the angle grows with λ in {rises:,} of {pairs:,} pairs of neighbours, and the order "
            f"{' ≤ '.join(order)} of the penalties holds in {sum(by_strength):,} of {_total(figures, 'by_strength'):,} "
            f"cases (gradients, strengths and w*), for the strengths one by one in "
            f"{', '.join(map(str, by_strength))} of {_total(figures, 'by_strength') // len(by_strength)}.",
            "The three have other thresholds at the same λ: λ/β, about 2λ/β and √(2λ/β). With λ chosen for the same "
            f"threshold, {', '.join(map(str, figures['thresholds']))}, that order holds in "
            f"{', '.join(map(str, by_threshold))} of {_total(figures, 'by_threshold') // len(by_threshold)} cases, and "
            f"{smallest} has the smallest mean angle at the smallest threshold. Mean angles of the ReLU estimator:",
            table,
            _picture("angles", "Angles over strengths and over thresholds, for each penalty"),
        ]
    )


def _total(figures: dict[str, Any], kind: str) -> int:
    angles = figures["angles"]["l1"][kind]
    return sum(len(row) for gradient in angles.values() for row in gradient)


def _ordered(figures: dict[str, Any], kind: str) -> list[int]:
    """For each strength, in how many cases the angles of the penalties are in order; rounding apart."""
    counts = [0] * len(figures["strengths" if kind == "by_strength" else "thresholds"])
    for name in GRADIENTS:
        columns = [figures["angles"][label][kind][name] for label in PENALTIES]
        for index, rows in enumerate(zip(*columns, strict=True)):
            counts[index] += sum(a <= b <= c for a, b, c in zip(*rows, strict=True))
    return counts


def _rising(figures: dict[str, Any]) -> tuple[int, int]:
    """How often an angle grows from one strength to the next, and of how many."""
    pairs = [
        (low, high)
        for angles in figures["angles"].values()
        for rows in angles["by_strength"].values()
        for before, after in itertools.pairwise(rows)
        for low, high in zip(before, after, strict=True)
    ]
    return sum(low <= high for low, high in pairs), len(pairs)


def _smallest(figures: dict[str, Any]) -> str:
    means = {label: statistics.mean(figures["angles"][label]["by_threshold"]["step, ReLU"][0]) for label in PENALTIES}
    return min(means, key=means.__getitem__)


def _descent(figures: dict[str, Any]) -> str:
    rows, bound = figures["descent"], figures["smoothness"]
    longest = (BETA + bound) / bound
    below = [row for row in rows if row["multiple"] < 1]
    quiet = sum(row["first_rise"] is None for row in below)
    beyond = {
        label: [row["multiple"] for row in rows if row["penalty"] == label and row["first_rise"] is not None]
        for label in dict.fromkeys(row["penalty"] for row in rows)
    }
    fails = ", ".join(
        f"{label} from {min(found):g}" if found else f"{label} nowhere" for label, found in beyond.items()
    )
    coarse = figures["coarse_descent"]
    own = [row["own"] for row in coarse]
    chord = [row["chord"] for row in coarse]
    cases = sum(row["cases"] for row in coarse)
    return "\n\n".join(
        [
            "### Descent",
            "The loss of the ReLU lies below all its parabolas of curvature L = 1/k + (k − 1)/(πk) = "
            f"{bound:.6f}, which it attains at w*; the largest eigenvalue of its Hessian, looked for between random "
            f"weights and w*, is {figures['largest_curvature']:.6f}. (From below its curvature is not bounded near "
            "w = 0, so its gradient is Lipschitz only away from there; descent needs the upper bound alone.) So "
            "gradient steps, here without bringing w back to norm 1, must lower L_β as long as η < 2/(β + L): it does "
            f"in {quiet} of {len(below)} runs at {', '.join(f'{m:g}' for m in MULTIPLES if m < 1)} of that. "
            f"Of the steps tried beyond ({', '.join(f'{m:g}' for m in MULTIPLES if m > 1)}) it rises: {fails}. "
            f"As far as u follows w, β does not act in the steepest direction, and steps up to 2/L, {longest:.3f} of "
            "the bound, can do; a penalty so strong that u stays 0 shows that the bound itself cannot be improved.",
            "A coarse gradient is not the gradient of the loss θ/(2πk) of the step function. L_β with that loss rises "
            f"in {sum(row['rising'] for row in own)} of {cases} runs{_by_how_much(own)}. On the sphere the pull "
            "c(w − w*) is the gradient of (c/2)‖w − w*‖², and with that as the loss L_β rises in "
            f"{sum(row['rising'] for row in chord)} of {cases}.",
            _picture("descent", "The augmented Lagrangian over the steps, for step sizes around the bound"),
        ]
    )


def _by_how_much(rows: Rows) -> str:
    if not any(row["rising"] for row in rows):
        return ""
    largest, fall = max(row["largest_rise"] for row in rows), min(row["fall"] for row in rows)
    return f", by {largest:.0e} in a step at most, while it falls by {fall:.0e} in all at least"


def _samples(figures: dict[str, Any]) -> str:
    rows, errors = figures["samples"], figures["sampling"]
    count = errors["samples"]
    slopes = [math.log(found[-1] / found[0]) / math.log(count[-1] / count[0]) for found in errors["error"].values()]
    constant = [row for row in rows if not row["falling"]]
    batches = sorted({row["batch"] for row in constant})
    ends = {batch: [row["distance"][-1] for row in constant if row["batch"] == batch] for batch in batches}
    nearer = sum(far > near for far, near in zip(ends[batches[0]], ends[batches[-1]], strict=True))
    falling = [row for row in rows if row["falling"]]
    middle = [row for row in constant if row["batch"] == falling[0]["batch"]]
    better = sum(a["distance"][-1] < b["distance"][-1] for a, b in zip(falling, middle, strict=True))
    lines = [
        "| batches, step | ‖w − limit‖: median (largest) | same support as the limit | nonzeros outside of w* |",
        "|---|---|---|---|",
    ]
    for batch, kind in [*((batch, False) for batch in batches), (falling[0]["batch"], True)]:
        group = [row for row in rows if row["batch"] == batch and row["falling"] == kind]
        distances = [row["distance"][-1] for row in group]
        cases = sum(row["cases"] for row in group)
        lines.append(
            f"| {batch}, {'falling to 0' if kind else 'constant'} | {statistics.median(distances):.4f} "
            f"({max(distances):.4f}) | {sum(row['same_support'] for row in group)} of {cases} | "
            f"{sum(row['outside'] for row in group)} |"
        )
    return "\n\n".join(
        [
            "### Sampled gradients",
            "By backpropagation through the network, with `BinaryActivation` where the activation is the step: the "
            f"error of a gradient falls with the number n of samples like n to the power {min(slopes):.2f} to "
            f"{max(slopes):.2f}. Variable splitting with new samples in each step, η = 2, from the same starts, ends "
            f"near the limit of the population: {batches[-1]} samples a step come nearer than {batches[0]} in {nearer} "
            f"of {len(ends[batches[0]])} combinations of gradient and penalty, and steps that fall to 0 come nearer "
            f"than constant ones in {better} of {len(falling)}. The noise of few samples can put nonzeros where w* has "
            "none, and lead to another support, which for l0 has a limit of its own.",
            "\n".join(lines),
            _picture("samples", "Error of sampled gradients, and the distance from the limit over the steps"),
        ]
    )


# Pictures


def draw(figures: dict[str, Any], folder: Path) -> None:
    """The pictures of the section, theory-….png."""
    for name, make in (
        ("fixed-points", _draw_fixed_points),
        ("support", _draw_support),
        ("operation", _draw_operation),
        ("angles", _draw_angles),
        ("descent", _draw_descent),
        ("samples", _draw_samples),
    ):
        with replacing(folder / f"theory-{name}.png") as temporary:
            make(figures).savefig(temporary, dpi=100)


def _figure(columns: int, width: float = 3.2, height: float = 3.2) -> Figure:
    return Figure(figsize=(width * columns, height), layout="constrained")


def _draw_fixed_points(figures: dict[str, Any]) -> Figure:
    figure = _figure(len(GRADIENTS))
    panels = dict(zip(GRADIENTS, figure.subplots(1, len(GRADIENTS), sharey=True), strict=True))
    for row in figures["fixed_points"]:
        curves = row["curves"]
        panels[row["gradient"]].semilogy(
            curves["step"], curves["residual"], color=COLORS[row["penalty"]], label=row["penalty"]
        )
    for name, axes in panels.items():
        axes.axhline(1e-9, color="gray", linewidth=0.8, linestyle=":")
        axes.set(title=name, xlabel="step")
        axes.grid(alpha=0.3)
    panels["ReLU"].set_ylabel("residual, the largest of all w*")
    panels["ReLU"].legend()
    return figure


def _draw_support(figures: dict[str, Any]) -> Figure:
    figure = _figure(len(GRADIENTS))
    panels = dict(zip(GRADIENTS, figure.subplots(1, len(GRADIENTS), sharey=True), strict=True))
    for row in figures["fixed_points"]:
        curves, axes = row["curves"], panels[row["gradient"]]
        axes.plot(curves["step"], curves["inside"], color=COLORS[row["penalty"]], label=f"{row['penalty']}, inside")
        axes.plot(
            curves["step"], curves["outside"], "--", color=COLORS[row["penalty"]], label=f"{row['penalty']}, outside"
        )
    for name, axes in panels.items():
        axes.set(title=name, xlabel="step", xscale="log")
        axes.grid(alpha=0.3)
    panels["ReLU"].set_ylabel(f"nonzeros of u, mean (w* has {figures['setting']['nonzeros']})")
    panels["ReLU"].legend(fontsize=7)
    return figure


def _draw_operation(figures: dict[str, Any]) -> Figure:
    figure = _figure(len(PENALTIES))
    panels = dict(zip(PENALTIES, figure.subplots(1, len(PENALTIES), sharey=True), strict=True))
    colors = {"ReLU": "tab:purple", "step, ReLU": "tab:orange"}
    for row in figures["operation"]:
        if row["gradient"] not in colors:
            continue
        axes, color = panels[row["penalty"]], colors[row["gradient"]]
        sign = [math.copysign(1, w) for w in row["w"]]
        x, y = ([s * value for s, value in zip(sign, row[key], strict=True)] for key in ("w", "taken"))
        axes.plot(x, y, ".", color=color, markersize=5, label=row["gradient"])
        axes.plot(row["line"], row["shrunk"], color="black", linewidth=0.7)
    for label, axes in panels.items():
        axes.plot([0, 0.8], [0, 0.8], ":", color="gray", linewidth=0.8)
        axes.set(title=label, xlabel="|w|")
        axes.grid(alpha=0.3)
    panels["l1"].set_ylabel("|A w − w*| c/β")
    panels["l1"].legend(fontsize=8)
    return figure


def _draw_angles(figures: dict[str, Any]) -> Figure:
    shown = ("ReLU", "step, ReLU")
    figure = _figure(2 * len(shown))
    for index, axes in enumerate(figure.subplots(1, 2 * len(shown))):
        name, kind = shown[index // 2], ("by_strength", "by_threshold")[index % 2]
        x = figures["strengths" if index % 2 == 0 else "thresholds"]
        for label in PENALTIES:
            rows = figures["angles"][label][kind][name]
            axes.fill_between(
                x, [min(row) for row in rows], [max(row) for row in rows], color=COLORS[label], alpha=0.15
            )
            axes.plot(x, [statistics.mean(row) for row in rows], "o-", color=COLORS[label], markersize=3, label=label)
        axes.set(title=name, xlabel="strength λ" if index % 2 == 0 else "threshold", xscale="log", yscale="log")
        axes.set_ylim(2e-5 if name == "ReLU" else 2e-4, 0.3)  # l0 that keeps all of w* has no angle at all
        axes.set_xticks(x, [f"{value:g}" for value in x], fontsize=7)
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
        if index == 0:
            axes.set_ylabel("θ: mean and range over w*")
            axes.legend()
    return figure


def _draw_descent(figures: dict[str, Any]) -> Figure:
    labels = list(dict.fromkeys(row["penalty"] for row in figures["descent"]))
    figure = _figure(len(labels))
    panels = dict(zip(labels, figure.subplots(1, len(labels), sharey=True), strict=True))
    for row in figures["descent"]:
        values = [math.nan if value is None else value for value in row["curve"]]
        beyond = row["multiple"] > 1
        color = ["tab:blue", "tab:cyan", "tab:green", "gold", "tab:orange", "tab:red"][MULTIPLES.index(row["multiple"])]
        panels[row["penalty"]].semilogy(
            range(1, len(values) + 1), values, "--" if beyond else "-", color=color, label=f"{row['multiple']:g}"
        )
    for label, axes in panels.items():
        axes.set(title=label, xlabel="step", xlim=(0, 100))
        axes.grid(alpha=0.3)
    panels[labels[0]].set_ylabel("L_β")
    panels[labels[0]].legend(title="η (β + L)/2", fontsize=7)
    return figure


def _draw_samples(figures: dict[str, Any]) -> Figure:
    figure = _figure(4)
    left, *panels = figure.subplots(1, 4)
    errors = figures["sampling"]
    for name, found in errors["error"].items():
        left.loglog(errors["samples"], found, "o-", markersize=3, label=name)
    left.set(title="one gradient", xlabel="samples", ylabel="relative error")
    left.legend(fontsize=7)
    left.grid(alpha=0.3)
    for label, axes in zip(PENALTIES, panels, strict=True):
        for row in figures["samples"]:
            if row["penalty"] != label or row["gradient"] != "step, ReLU":
                continue
            name = f"{row['batch']}, {'falling' if row['falling'] else 'constant'} steps"
            axes.loglog(row["step"], row["distance"], "--" if row["falling"] else "-", label=name)
        axes.set(title=f"step, ReLU; {label}", xlabel="step", ylim=(3e-3, 2))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("‖w − limit‖, median")
    panels[0].legend(fontsize=7)
    return figure


def main(argv: list[str] | None = None) -> None:
    options = command.parser(__doc__).parse_args(argv)
    figures = measure()
    print(section(figures))
    if options.json is not None:
        write(options.json, figures)
        draw(figures, options.json.parent)


def write(path: Path, figures: dict[str, Any]) -> None:
    """With a line for each row of a list, so that the file stays short."""
    parts = []
    for name, value in figures.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(json.dumps(row) for row in value) + "\n ]"
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(name)}: {text}")
    with replacing(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
