"""The section on nonconvex sparse groups: LeNet-5 with few filters, and the network that is smaller for it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.papers.pictures import save_picture

FILES = ("groups", "compacted")
SMALL = "-small"
GOAL = 1.0, 158_000  # error in %, operations
TEST_IMAGES = 10_000
LABELS = {
    "l1": "l1",
    "l0": "l0",
    "tl1": "transformed l1",
    "scad": "SCAD",
    "l1-l2": "l1 − l2",
    "group-lasso": "group lasso",
    "cges": "CGES",
    "magnitude": "magnitude pruning of filters",
}
ELEMENTWISE = ("l1", "l0", "tl1", "scad", "l1-l2")
LAYERS = {"conv1": 20, "conv2": 50, "fc1": 800, "fc2": 500}
"""What groups there are: filters of the convolutions, inputs of the dense layers."""


def multiplications(shape: Sequence[int]) -> int:
    """Of LeNet-5 for one image of 28 × 28 pixels.

    Parameters
    ----------
    shape : (int, int, int, int)
        filters, filters, inputs of the first dense layer, its units.
    """
    first, second, inputs, hidden = shape
    return 24 * 24 * 25 * first + 8 * 8 * 25 * first * second + inputs * hidden + 10 * hidden


def operations(shape: Sequence[int]) -> int:
    """Multiplications, additions of biases, and one for each number that pooling gives: what published counts are."""
    first, second, _, hidden = shape
    return multiplications(shape) + (24**2 + 12**2) * first + (8**2 + 4**2) * second + hidden + 10


def shape_of(row: Mapping[str, Any]) -> list[int]:
    """Of a compacted network, from the shapes of its weights."""
    weights = row["weights"]
    return [weights["conv1.weight"][0], weights["conv2.weight"][0], *reversed(weights["fc1.weight"])]


def kept(row: Mapping[str, Any]) -> dict[str, int]:
    """How many filters of convolutions and inputs of dense layers a compacted network has."""
    weights, inputs = row["weights"], row["inputs"]
    filters = {layer: weights[f"{layer}.weight"][0] for layer in ("conv1", "conv2")}
    return {**filters, **{layer: inputs[f"{layer}.weight"] for layer in ("fc1", "fc2")}}


def group_sparsity(row: Mapping[str, Any]) -> float:
    """The share of filters and of inputs of dense layers that a compacted network does not have."""
    return 1 - sum(kept(row).values()) / sum(LAYERS.values())


def methods(figures: Mapping[str, Any], compacted: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name of a method → its figures, of seed 0, and the errors of all seeds."""
    rows = {(row["name"], row["seed"]): row for row in figures["runs"]}
    sizes = {row["run"]: row for row in compacted["runs"]}
    found = {}
    for (name, seed), row in rows.items():
        if name not in LABELS or seed:
            continue
        seeds = sorted(other for run, other in rows if run == name and (name + SMALL, other) in rows)
        if 0 not in seeds:
            continue
        shapes = [shape_of(sizes[f"{name}-{each}"]) for each in seeds]
        after = [rows[name + SMALL, each] for each in seeds]
        found[name] = {
            "row": row,
            "small": after[0],
            "shape": shapes[0],
            "seeds": seeds,
            "held_out": [each["validation"]["error"] for each in after],
            "test": [each["test"]["error"] for each in after],
            "operations": [operations(shape) for shape in shapes],
            "size": sizes[f"{name}-0"],
        }
    return found


def best(found: Mapping[str, dict[str, Any]]) -> str | None:
    """The method with the lowest error on held-out images of those that need less than the goal; None if none does."""
    fitting = {name: each for name, each in found.items() if each["operations"][0] < GOAL[1]}
    return min(fitting, key=lambda name: mean(fitting[name]["held_out"]), default=None)


def facts(figures: dict[str, Any], compacted: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the section of docs/papers.md, by name."""
    found = methods(figures, compacted)
    first = next(iter(found.values()))
    settings = first["row"]["settings"]
    priced = next(each["row"] for name, each in found.items() if name in ELEMENTWISE)
    return {
        "epochs": {
            key: first[run]["settings"]["training"]["epochs"] for key, run in (("sparse", "row"), ("small",) * 2)
        },
        "sparse_part": 1 - settings["sparsifier"]["init_args"]["fine_tune"],
        "shifted": bool(settings["data"]["shift"]),
        "prices": priced["settings"]["sparsifier"]["init_args"]["groups"]["prices"],
        "with_cges": "cges" in found,
        "with_magnitude": "magnitude" in found,
        "rows": [method(name, each) for name, each in found.items()],
        "dense_multiplications": first["size"]["multiplications"][0],
        "goal": {"error": GOAL[0], "operations": GOAL[1]},
        "reached": reached(found),
        "penalties": penalties({name: found[name] for name in ELEMENTWISE if name in found}),
        "test_images": TEST_IMAGES,
        "paper": with_strengths_of_the_paper(figures, compacted),
        "published": counted(figures["published"]),
        "speed": speed(found, compacted),
    }


def method(name: str, each: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    return {
        "label": LABELS[name],
        "weights_zero": each["row"]["sparsity"],
        "groups_zero": group_sparsity(each["size"]),
        "left": list(kept(each["size"]).values()),
        "multiplications": each["size"]["multiplications"][1],
        "operations": operations(each["shape"]),
        "sparse_error": each["row"]["test"]["error"],
        "error": mean(each["test"]),
        "errors": each["test"],
        "seeds": len(each["seeds"]),
    }


def reached(found: Mapping[str, Any]) -> dict[str, Any]:
    """Which methods reach the goal, and what is to be said of them."""
    good = [name for name, each in found.items() if mean(each["test"]) <= GOAL[0] and max(each["operations"]) < GOAL[1]]
    own = [name for name in good if name in ELEMENTWISE]
    chosen = best(found)
    said: dict[str, Any] = {
        "by": [
            {"label": LABELS[name], "error": mean(found[name]["test"]), "operations": mean(found[name]["operations"])}
            for name in good
        ],
        "count": len(good),
        "tried": len(found),
        "best": LABELS[chosen] if chosen in good else None,
        "fewest": None,
        "magnitude": None,
    }
    if own:
        fewest = min(own, key=lambda name: found[name]["operations"][0])
        weights = sum(math.prod(shape) for shape in found[fewest]["size"]["weights"].values())
        total = found[fewest]["row"]["report"]["total"]["weights"]
        said["fewest"] = {"label": LABELS[fewest], "weights": weights, "factor": total / weights}
    if own and "magnitude" in good:
        lowest = min(mean(found[name]["test"]) for name in own)
        said["magnitude"] = {"better": mean(found["magnitude"]["test"]) < lowest}
    return said


def penalties(own: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far the penalties of single weights are apart; None of fewer than two."""
    if len(own) < 2:
        return None
    errors = {name: each["test"][0] for name, each in own.items()}
    lowest, highest = (choose(errors, key=errors.__getitem__) for choose in (min, max))
    deviation = 100 * math.sqrt(2 * mean(errors.values()) / 100 / TEST_IMAGES)
    zeros = [each["row"]["sparsity"] for each in own.values()]
    cost = {name: operations(each["shape"]) for name, each in own.items()}
    cheapest, dearest = (choose(cost, key=cost.__getitem__) for choose in (min, max))
    return {
        "lowest": {"label": LABELS[lowest], "error": errors[lowest]},
        "highest": {"label": LABELS[highest], "error": errors[highest]},
        "deviation": deviation,
        "told_apart": errors[highest] - errors[lowest] > 2 * deviation,
        "fewest_zeros": min(zeros),
        "most_zeros": max(zeros),
        "cheapest": {"label": LABELS[cheapest], "operations": cost[cheapest]},
        "dearest": {"label": LABELS[dearest], "operations": cost[dearest]},
    }


def with_strengths_of_the_paper(figures: Mapping[str, Any], compacted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the run with them ended; None if it was not made."""
    row = next((row for row in figures["runs"] if row["name"] == "paper"), None)
    if row is None:
        return None
    size = next(size for size in compacted["runs"] if size["run"] == f"paper-{row['seed']}")
    return {
        "epochs": row["settings"]["training"]["epochs"],
        "before": row["before"]["error"],
        "after": row["after"]["error"],
        "weights_zero": row["sparsity"],
        "groups_zero": group_sparsity(size),
    }


def counted(published: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Published networks, with our counts of their shapes, and those whose published count is another one."""
    rows = [
        {**row, "multiplications": multiplications(row["shape"]), "operations": operations(row["shape"])}
        for row in published
    ]
    off = [row for row in rows if round(row["operations"] / 1000) != row["flops"]]
    return {
        "rows": rows,
        "count": len(rows),
        "exact": len(rows) - len(off),
        "off": [{"name": row["name"], "excess": 1000 * row["flops"] / row["operations"] - 1} for row in off],
    }


def speed(found: Mapping[str, Any], compacted: Mapping[str, Any]) -> dict[str, Any]:
    """What the best of the smaller networks is worth in time."""
    name = best(found) or next(iter(found))
    size = found[name]["size"]
    return {
        "label": LABELS[name],
        "threads": compacted["threads"],
        "rounds": compacted["rounds"],
        "fewer": size["multiplications"][0] / size["multiplications"][1],
        "difference": max(row["difference"] for row in compacted["runs"]),
        "networks": len(compacted["runs"]),
        "rows": [
            {
                "batch": each["batch"],
                "sparse": each["sparse"]["milliseconds"]["median"],
                "compacted": each["compacted"]["milliseconds"]["median"],
                "speedup": each["compacted"]["speedup"],
            }
            for each in size["speed"]
        ],
    }


def draw(figures: dict[str, Any], compacted: dict[str, Any], folder: Path) -> None:
    """The two pictures."""
    found = methods(figures, compacted)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for index, (name, each) in enumerate(found.items()):
        color, x = f"C{index}", operations(each["shape"]) / 1000
        errors = each["row"]["test"]["error"], each["test"][0]
        axes.plot([x, x], errors, color=color, linewidth=0.8)
        axes.plot(x, errors[0], "o", color=color, fillstyle="none")
        axes.plot(x, errors[1], "o", color=color, label=LABELS[name])
    for row in figures["published"]:
        axes.plot(row["flops"], row["error"], "kx")
        axes.annotate(row["name"], (row["flops"], row["error"]), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.plot([], [], "kx", label="published")
    axes.axvline(GOAL[1] / 1000, color="0.7", linewidth=0.8, linestyle="--")
    axes.axhline(GOAL[0], color="0.7", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="operations (thousands)", ylabel="test error (%)")
    axes.set_title("LeNet-5: with zeros (hollow), and small, trained on (full)", fontsize=10)
    axes.margins(x=0.12)
    ticks(axes)
    axes.legend(fontsize=8)
    save_picture(figure, folder / "groups-operations.png")

    figure = Figure(figsize=(9, 3), layout="constrained")
    parts = figure.subplots(1, len(LAYERS), sharey=True)
    names = list(found)
    for axis, (layer, total) in zip(parts, LAYERS.items(), strict=True):
        left = [kept(found[name]["size"])[layer] for name in names]
        bars = axis.barh([LABELS[name] for name in names], left, color=[f"C{index}" for index in range(len(names))])
        axis.bar_label(bars, fontsize=7, padding=2)
        kind = "filters" if layer.startswith("conv") else "inputs"
        axis.set_title(f"{layer}: {kind} of {total}", fontsize=9)
        axis.margins(x=0.2)
        axis.tick_params(labelsize=8)
    parts[0].invert_yaxis()
    save_picture(figure, folder / "groups-kept.png")


def ticks(axes: Axes) -> None:
    """Plain numbers on axes that are logarithmic."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
