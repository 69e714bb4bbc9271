"""ResNet-20 on CIFAR-10-JPEG: accuracy against zeros, by strategy."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FILES = ("cifar",)
TITLES = {
    "magnitude": "magnitude pruning",
    "l1": "RVSM, l1",
    "l0": "RVSM, l0",
    "tl1": "RVSM, transformed l1",
    "groups": "sparse groups, transformed l1",
}
"""What a run is called in the text, by the name of its strategy."""

TARGETS = (80, 90, 95)
TEST_IMAGES = 10_000
COMMAND = (
    "    python -m benchmarks.papers.study --config configs/papers/cifar.yaml --folder runs/cifar "
    "--json docs/papers/cifar.json"
)

Run = dict[str, Any]


def by_name(figures: dict) -> dict[str, Run]:
    """The runs of a study."""
    return {run["name"]: run for run in figures["runs"]}


def sparse_runs(figures: dict) -> dict[str, dict[int, Run]]:
    """Strategy → target in percent → run."""
    found: dict[str, dict[int, Run]] = {name: {} for name in TITLES}
    for run in figures["runs"]:
        strategy, _, target = run["name"].rpartition("-")
        if strategy in found:
            found[strategy][int(target)] = run
    return {strategy: dict(sorted(runs.items())) for strategy, runs in found.items() if runs}


def all_targets(sparse: dict[str, dict[int, Run]]) -> list[int]:
    """In percent, rising."""
    return sorted({target for found in sparse.values() for target in found})


def accuracy(run: Run) -> float:
    """On the test images, in percent."""
    return run["test"]["accuracy"]


def noise(percent: float) -> float:
    """The standard error of an accuracy, in points, of so many test images."""
    return math.sqrt(percent * (100 - percent) / TEST_IMAGES)


def section(figures: dict) -> str:
    """The section of the page."""
    runs, sparse = by_name(figures), sparse_runs(figures)
    dense, targets = runs["dense"], all_targets(sparse)
    control = runs.get("control", dense)
    parts = [
        "## CIFAR-10-JPEG, ResNet-20: accuracy against zeros",
        COMMAND,
        setting(dense, sparse),
        "![Accuracy on the test images against the share of zeros](papers/cifar-accuracy.png)",
        "Accuracy on the test images, in %:",
        table(
            ["", *(f"{target} % zeros" for target in targets)],
            (
                [TITLES[name], *(cell(found.get(target), lambda run: f"{accuracy(run):.2f}") for target in targets)]
                for name, found in sparse.items()
            ),
        ),
        f"The dense network has {accuracy(dense):.2f} %"
        + (
            f"; trained on without zeros for as long as the sparse runs (`control`) {accuracy(control):.2f} %"
            if "control" in runs
            else ""
        )
        + f". The share of zeros is within {deviation(sparse):.2f} points of its target in every run, counted over all "
        "weights, those of the first and the last layer too.",
        unfinished(runs),
        "\n".join(f"- {verdict(target, sparse, control)}" for target in targets),
        baseline(sparse, targets),
        where(sparse, targets),
        published(figures),
    ]
    return "\n\n".join(part for part in parts if part)


def setting(dense: Run, sparse: dict[str, dict[int, Run]]) -> str:
    """Data, network, schedule and budget."""
    example = next(iter(next(iter(sparse.values())).values()))
    long, short = dense["settings"]["training"], example["settings"]["training"]
    data, count = dense["settings"]["data"], dense["steps"] * long["batch"] / long["epochs"]
    arguments = example["settings"]["sparsifier"]["init_args"]
    groups = sparse.get("groups", {}).values()
    lasso = {run["settings"]["sparsifier"]["init_args"]["group_strength"] for run in groups}
    minutes = sum(run["seconds"] for found in sparse.values() for run in found.values()) / 60
    zeros = 0.7 * (1 - arguments["fine_tune"])  # the schedule of targets ends at seven tenths of what is before
    return (
        f"The data are {data['source']}: CIFAR-10 kept as JPEG, slightly lossy, so figures compare the methods with "
        "each other and not with those on the original images. ResNet-20 (shortcuts padded with zeros) has "
        f"{example['report']['total']['weights']:,} weights. Images are moved by up to {data['shift']} pixels and "
        "mirrored.\n\n"
        f"The schedule is a short one, for a CPU: one dense network, {long['epochs']:g} epochs of {count:,.0f} images "
        f"({dense['steps']:,} steps of {long['batch']}), SGD with a rate of {long['learning_rate']:g} that falls to 0, "
        f"Nesterov's momentum {long['momentum']:g}, weight decay {long['weight_decay']:g}, bfloat16. Each sparse run "
        f"starts from its weights and takes {short['steps']} steps of {short['batch']}, "
        f"{short['steps'] * short['batch'] / count:.2f} epochs, from a rate of {short['learning_rate']:g}: zeros grow "
        f"until {zeros:.0%} of the steps, and in the last {arguments['fine_tune']:.0%} those that are left are "
        f"fine-tuned. All of the sparse runs took {minutes:.0f} minutes of one shared core. RVSM is "
        "`VariableSplitting`; sparse groups are `SparseGroupLasso`"
        + (f", with a group lasso of {', '.join(f'{value:g}' for value in sorted(lasso))} on filters" if lasso else "")
        + "; "
        "of the transformed l1, a = .1. One seed."
    )


def unfinished(runs: dict[str, Run]) -> str:
    """What the table lacks."""
    wanted = ["control", *(f"{name}-{target}" for name in TITLES for target in TARGETS)]
    missing = [f"`{name}`" for name in wanted if name not in runs]
    return f"Not run, for time: {', '.join(missing)}; the command above goes on with them." if missing else ""


def deviation(sparse: dict[str, dict[int, Run]]) -> float:
    """How far zeros are from their targets, in points, at most."""
    return max(abs(100 * run["sparsity"] - target) for found in sparse.values() for target, run in found.items())


def verdict(target: int, sparse: dict[str, dict[int, Run]], control: Run) -> str:
    """Which strategies are best at a target, as far as so many test images can tell."""
    found = {name: accuracy(runs[target]) for name, runs in sparse.items() if target in runs}
    best = max(found, key=lambda name: found[name])
    limit = 2 * math.sqrt(2) * noise(found[best])
    near = [TITLES[name] for name in found if name != best and found[best] - found[name] <= limit]
    behind = [TITLES[name] for name in found if found[best] - found[name] > limit]
    compression = max(runs[target]["compression"] for runs in sparse.values() if target in runs)
    text = (
        f"**{target} % zeros** ({compression:.1f}× fewer weights): {TITLES[best]} has most, {found[best]:.2f} %, "
        f"{relation(found[best] - accuracy(control))} the {control['name']} network."
    )
    if near:
        text += f" Not distinguishable from it, within two standard errors ({limit:.1f} points): {'; '.join(near)}."
    if behind:
        text += f" Behind: {'; '.join(behind)}."
    return text


def relation(difference: float) -> str:
    return f"{abs(difference):.2f} points {'above' if difference > 0 else 'below'}"


def baseline(sparse: dict[str, dict[int, Run]], targets: Iterable[int]) -> str:
    """Whether anything beats magnitude pruning, and whether anything falls behind it."""
    better, worse = [], []
    for target in targets:
        if target not in sparse["magnitude"]:
            continue
        pruned = accuracy(sparse["magnitude"][target])
        for name, runs in sparse.items():
            if name == "magnitude" or target not in runs:
                continue
            gain = accuracy(runs[target]) - pruned
            if abs(gain) > 2 * math.sqrt(2) * noise(pruned):
                (better if gain > 0 else worse).append(f"{TITLES[name]} at {target} % ({gain:+.2f} points)")
    parts = [
        f"Better than the baseline, magnitude pruning, by more than two standard errors: {'; '.join(better)}."
        if better
        else "No strategy is better than the baseline, magnitude pruning, by more than two standard errors.",
        f"Worse by more than that: {'; '.join(worse)}." if worse else "None is worse by more than that.",
    ]
    if any(item.startswith("RVSM") for item in worse):
        parts.append(
            "The short schedule is a likely reason: pruning takes weights away from the first steps on, and those "
            "that are left train on all the time, whereas splitting trains dense weights until they have been drawn "
            "to their sparse copy. And a penalty that shrinks what it keeps does so here in front of batch norms, "
            "whose outputs stay as large: the same learning rate then turns smaller weights further."
        )
    return " ".join(parts)


def where(sparse: dict[str, dict[int, Run]], targets: list[int]) -> str:
    """Where the zeros are: multiply-adds that are left, and dead filters."""
    rows = ([TITLES[name], *(cell(found.get(target), work) for target in targets)] for name, found in sparse.items())
    return (
        "Multiply-adds by weights that are not zero, in % of the dense network's, and in brackets the share of filters "
        "that are zero as a whole:\n\n" + table(["", *(f"{target} % zeros" for target in targets)], rows)
    )


def work(run: Run) -> str:
    total = run["report"]["total"]
    dead = 1 - total["alive_filters"] / total["filters"]
    return f"{100 * total['nonzero_macs'] / total['macs']:.1f} ({dead:.1%})"


def published(figures: dict) -> str:
    """What others report, by another protocol."""
    (quoted,) = figures["published"]
    rows = (
        [
            "dense" if row["beta"] is None else f"β = {row['beta']:g}",
            f"{row['accuracy']:.2f}",
            f"{row['zeros']:.2f}",
        ]
        for row in quoted["rows"]
    )
    return (
        f"Quoted for orientation, not for comparison: {quoted['source']}. That network is trained against an "
        "adversary, which costs accuracy, on the original images, at full length and with a given strength instead of "
        "a target:\n\n"
        + table(["", "accuracy, %", "zeros, %"], rows)
        + "\n\nThe full schedule with the settings of the paper, and WRN-28-10, are commands in the "
        "[training queue](training-queue.md)."
    )


def cell(run: Run | None, text: Any) -> str:
    return "–" if run is None else text(run)


def table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(figures: dict, folder: Path) -> None:
    """Accuracy against the share of zeros."""
    from matplotlib.figure import Figure

    runs, sparse = by_name(figures), sparse_runs(figures)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    if "control" in runs:
        axes.axhline(accuracy(runs["control"]), color="0.3", linewidth=1, label="trained on without zeros")
    axes.axhline(accuracy(runs["dense"]), color="0.3", linewidth=1, linestyle=":", label="dense, where all start")
    for name, found in sparse.items():
        kept = [100 * (1 - run["sparsity"]) for run in found.values()]
        axes.plot(kept, [accuracy(run) for run in found.values()], marker="o", markersize=4, label=TITLES[name])
    axes.set_xscale("log")
    axes.invert_xaxis()
    targets = all_targets(sparse)
    axes.set_xticks([100 - target for target in targets], [f"{target} %" for target in targets])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("weights that are zero")
    axes.set_ylabel("accuracy on the test images, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(folder / "cifar-accuracy.png", dpi=100)
