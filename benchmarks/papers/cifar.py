"""ResNet-20 on CIFAR-10-JPEG: accuracy against zeros, by strategy."""

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.papers.pictures import save_picture

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


def facts(figures: dict) -> dict[str, Any]:
    """The numbers of the section of docs/papers.md, by name."""
    runs, sparse = by_name(figures), sparse_runs(figures)
    dense, targets = runs["dense"], all_targets(sparse)
    training, data = dense["settings"]["training"], dense["settings"]["data"]
    images = dense["steps"] * training["batch"] / training["epochs"]
    example = next(iter(next(iter(sparse.values())).values()))
    groups = sparse.get("groups", {}).values()
    wanted = ["control", *(f"{name}-{target}" for name in TITLES for target in TARGETS)]
    (quoted,) = figures["published"]
    return {
        "data": {"source": data["source"], "shift": data["shift"], "images": images},
        "weights": example["report"]["total"]["weights"],
        "dense": {
            "accuracy": accuracy(dense),
            "steps": dense["steps"],
            **{key: training[key] for key in ("epochs", "batch", "learning_rate", "momentum", "weight_decay")},
        },
        "control": {"accuracy": accuracy(runs["control"])} if "control" in runs else None,
        "sparse": schedule(example, sparse, images),
        "lasso": sorted({run["settings"]["sparsifier"]["init_args"]["group_strength"] for run in groups}),
        "targets": targets,
        "rows": [
            {"title": TITLES[name], "runs": [reached(found[target]) if target in found else None for target in targets]}
            for name, found in sparse.items()
        ],
        "deviation": deviation(sparse),
        "not_run": [name for name in wanted if name not in runs],
        "verdicts": [verdict(target, sparse, runs.get("control", dense)) for target in targets],
        "baseline": baseline(sparse),
        "published": quoted,
    }


def schedule(example: Run, sparse: dict[str, dict[int, Run]], images: float) -> dict[str, float]:
    """Of the sparse runs, by one of them."""
    training, fine_tune = (
        example["settings"]["training"],
        example["settings"]["sparsifier"]["init_args"]["fine_tune"],
    )
    return {
        "steps": training["steps"],
        "batch": training["batch"],
        "epochs": training["steps"] * training["batch"] / images,
        "learning_rate": training["learning_rate"],
        "growing": 0.7 * (1 - fine_tune),  # the schedule of targets ends at seven tenths of what is before
        "fine_tune": fine_tune,
        "minutes": sum(run["seconds"] for found in sparse.values() for run in found.values()) / 60,
    }


def reached(run: Run) -> dict[str, float]:
    """Accuracy, and where the zeros are: multiply-adds that are left, in %, and the share of dead filters."""
    total = run["report"]["total"]
    return {
        "accuracy": accuracy(run),
        "work": 100 * total["nonzero_macs"] / total["macs"],
        "dead_filters": 1 - total["alive_filters"] / total["filters"],
    }


def deviation(sparse: dict[str, dict[int, Run]]) -> float:
    """How far zeros are from their targets, in points, at most."""
    return max(abs(100 * run["sparsity"] - target) for found in sparse.values() for target, run in found.items())


def verdict(target: int, sparse: dict[str, dict[int, Run]], control: Run) -> dict[str, Any]:
    """Which strategies are best at a target, as far as so many test images can tell."""
    found = {name: accuracy(runs[target]) for name, runs in sparse.items() if target in runs}
    best = max(found, key=found.__getitem__)
    limit = 2 * math.sqrt(2) * noise(found[best])
    return {
        "target": target,
        "compression": max(runs[target]["compression"] for runs in sparse.values() if target in runs),
        "best": {"title": TITLES[best], "accuracy": found[best]},
        "distance": abs(found[best] - accuracy(control)),
        "above": found[best] > accuracy(control),
        "reference": control["name"],
        "limit": limit,
        "near": [TITLES[name] for name in found if name != best and found[best] - found[name] <= limit],
        "behind": [TITLES[name] for name in found if found[best] - found[name] > limit],
    }


def baseline(sparse: dict[str, dict[int, Run]]) -> dict[str, Any]:
    """What beats magnitude pruning, and what falls behind it, by more than two standard errors."""
    better, worse = [], []
    for target, pruned in sparse["magnitude"].items():
        for name, runs in sparse.items():
            if name == "magnitude" or target not in runs:
                continue
            gain = accuracy(runs[target]) - accuracy(pruned)
            if abs(gain) > 2 * math.sqrt(2) * noise(accuracy(pruned)):
                (better if gain > 0 else worse).append({"title": TITLES[name], "target": target, "gain": gain})
    splitting = any(each["title"].startswith("RVSM") for each in worse)
    return {"better": better, "worse": worse, "splitting_is_worse": splitting}


def draw(figures: dict, folder: Path) -> None:
    """Accuracy against the share of zeros."""

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
    save_picture(figure, folder / "cifar-accuracy.png")
