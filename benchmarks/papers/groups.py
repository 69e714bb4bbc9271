"""The section on nonconvex sparse groups: LeNet-5 with few filters, and the network that is smaller for it."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

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


def paragraph(text: str) -> str:
    """Text in lines of one length."""
    return textwrap.fill(" ".join(text.split()), 119, break_long_words=False, break_on_hyphens=False)


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


def section(figures: dict[str, Any], compacted: dict[str, Any]) -> str:
    """The Markdown."""
    found = methods(figures, compacted)
    parts = [
        _setting(figures, found),
        _table(found),
        _reached(found),
        "![Error against operations, before and after the rest was trained on](papers/groups-operations.png)",
        _penalties(found),
        "![Filters and inputs that are left](papers/groups-kept.png)",
        _paper(figures, compacted),
        _published(figures["published"]),
        _speed(found, compacted),
    ]
    return "\n\n".join(part for part in parts if part)


def _setting(figures: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    first = next(iter(found.values()))
    sparse, small = (first[key]["settings"]["training"]["epochs"] for key in ("row", "small"))
    shift = first["row"]["settings"]["data"]["shift"]
    moved = "Images are shifted by up to a pixel, which the papers do without" if shift else "Images are not shifted"
    priced = next(name for name in found if name in ELEMENTWISE)
    prices = found[priced]["row"]["settings"]["sparsifier"]["init_args"]["groups"]["prices"]
    named = ", ".join(f"{price:g} for {layer}" for layer, price in prices.items())
    sparse_part = 1 - first["row"]["settings"]["sparsifier"]["init_args"]["fine_tune"]
    remarks = {
        "cges": "CGES has weights of its own for the layers.",
        "magnitude": "Magnitude pruning takes the same share of each layer, by the norms of filters.",
    }
    others = " ".join(text for name, text in remarks.items() if name in found)
    method = f"""
Bui, Park, Zhang, Qi and Xin (2021) add a group lasso to the loss, and draw single weights to zero by a nonconvex
penalty and variable splitting (`SparseGroupLasso`). Groups are the filters of convolutions and the *inputs* of dense
layers. Here LeNet-5-Caffe learns MNIST so in {sparse:g} epochs (the paper: 200); after {sparse_part:.0%} of them the
zeros stay and the rest is fine-tuned. {moved}. Then `compact` removes the dead groups, and the smaller network is
trained on for {small:g} epochs (`unrolled classify --compact true`), which cost little, as it is small."""
    changes = f"""
Two things differ from the paper, for so short a run. Strengths are larger: those of single weights are such that each
penalty sets the same ones to zero at the first step, those up to .03; that of the group lasso was chosen in a few runs
with the transformed l1, by the operations that were left. And its weights √|g| are replaced by prices ({named}):
√|g| asks least for what costs most, a filter of the first convolution, which has 25 weights but 14,400 multiplications.
{others}"""
    return f"""## Sparse groups: LeNet-5 with few filters

    python -m benchmarks.papers.study --config configs/papers/groups.yaml --folder runs/groups \\
        --json docs/papers/groups.json
    python -m benchmarks.papers.compacted --folder runs/groups --json docs/papers/compacted.json

{paragraph(method)}

{paragraph(changes)}"""


def _table(found: Mapping[str, Any]) -> str:
    lines = [
        "| penalty | weights zero | groups zero | left | multiplications | operations | error sparse | error small | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        shape = each["shape"]
        left = "-".join(str(size) for size in kept(each["size"]).values())
        seeds = len(each["seeds"])
        cells = [
            LABELS[name],
            f"{each['row']['sparsity']:.1%}",
            f"{group_sparsity(each['size']):.1%}",
            left,
            f"{each['size']['multiplications'][1] / 1000:.0f}K",
            f"{operations(shape) / 1000:.0f}K",
            f"{each['row']['test']['error']:.2f} %",
            f"{mean(each['test']):.2f} %",
            f"{seeds} seeds: " + ", ".join(f"{error:.2f}" for error in each["test"]) if seeds > 1 else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    dense = next(iter(found.values()))["size"]["multiplications"][0]
    text = f"""Errors are those of test images: of the network with zeros, and of the small one, trained on. *Left* are
filters, filters, inputs that the first dense layer reads, and hidden units; *groups zero* is what that amounts to.
Multiplications are those of the compacted network, all of its dense arithmetic ({dense / 1000:,.0f}K before).
*Operations* count a bias's addition and a pooled number besides, as one each, which is how the published figures come
about (below)."""
    return "\n".join([*lines, "", paragraph(text)])


def _reached(found: Mapping[str, Any]) -> str:
    goal = f"at most {GOAL[0]:.1f} % below {GOAL[1] // 1000}K operations"
    good = [name for name, each in found.items() if _meets(each)]
    if not good:
        return f"The goal, {goal}, is not reached."
    listed = "; ".join(f"{LABELS[name]} {_figures(found[name])}" for name in good)
    parts = [f"The goal, {goal}, is reached by {len(good)} of the {len(found)}: {listed}."]
    name = best(found)
    if name in good:
        parts.append(f"On held-out images {LABELS[name]} was the best of those that need so few.")
    own = [name for name in good if name in ELEMENTWISE]
    if own:
        fewest = min(own, key=lambda name: found[name]["operations"][0])
        weights = sum(math.prod(shape) for shape in found[fewest]["size"]["weights"].values())
        total = found[fewest]["row"]["report"]["total"]["weights"]
        parts.append(
            f"The smallest of the sparse groups ({LABELS[fewest]}) has {weights:,} weights, {total / weights:.0f} "
            "times fewer than LeNet-5."
        )
    if "magnitude" in good and own:
        low = min(mean(found[name]["test"]) for name in own)
        other = mean(found["magnitude"]["test"])
        compared = "no better than" if other >= low else "better than"
        parts.append(
            "Magnitude pruning is told how many filters of each layer to keep, no penalty has to find that out; "
            f"its error is {compared} the lowest of the sparse groups."
        )
    return paragraph(" ".join(parts))


def _meets(each: Mapping[str, Any]) -> bool:
    return mean(each["test"]) <= GOAL[0] and max(each["operations"]) < GOAL[1]


def _figures(each: Mapping[str, Any]) -> str:
    return f"{mean(each['test']):.2f} % at {mean(each['operations']) / 1000:.0f}K"


def _penalties(found: Mapping[str, Any]) -> str:
    own = {name: found[name] for name in ELEMENTWISE if name in found}
    if len(own) < 2:
        return ""
    errors = {name: each["test"][0] for name, each in own.items()}
    low, high = min(errors, key=errors.__getitem__), max(errors, key=errors.__getitem__)
    deviation = 100 * math.sqrt(2 * mean(errors.values()) / 100 / TEST_IMAGES)
    told = "more than" if errors[high] - errors[low] > 2 * deviation else "no more than"
    sparse = {name: each["row"]["sparsity"] for name, each in own.items()}
    cost = {name: operations(each["shape"]) for name, each in own.items()}
    least, most = min(cost, key=cost.__getitem__), max(cost, key=cost.__getitem__)
    return paragraph(
        f"Among the five penalties of single weights errors of the small networks go from {errors[low]:.2f} % "
        f"({LABELS[low]}) to {errors[high]:.2f} % ({LABELS[high]}), {told} twice the {deviation:.2f} points by which "
        f"the difference of two such counts on {TEST_IMAGES:,} images varies by chance, seeds apart. "
        f"{min(sparse.values()):.1%} to {max(sparse.values()):.1%} of the weights are zero; {LABELS[least]} needs the "
        f"fewest operations ({cost[least] / 1000:.0f}K), {LABELS[most]} the most ({cost[most] / 1000:.0f}K). The group "
        "lasso decides about filters, and all five have the same one."
    )


def _paper(figures: Mapping[str, Any], compacted: Mapping[str, Any]) -> str:
    row = next((row for row in figures["runs"] if row["name"] == "paper"), None)
    if row is None:
        return ""
    before, after = (row[key]["error"] for key in ("before", "after"))
    epochs = row["settings"]["training"]["epochs"]
    size = next(size for size in compacted["runs"] if size["run"] == f"paper-{row['seed']}")
    return paragraph(
        "With the strengths of the paper (λ = .1, β = 2.5, over the number of images, the transformed l1, groups "
        f"by √|g|, no shifts) {epochs:g} epochs end at {before:.2f} % error on held-out images with the dense weights, "
        f"and at {after:.2f} % when the sparse copy takes their place: {row['sparsity']:.1%} of its weights and "
        f"{group_sparsity(size):.1%} of its groups are zero. In the paper such weak terms act for 200 epochs."
    )


def _published(published: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| published | left | error | FLOPs | multiplications | operations |",
        "|---|---|---|---|---|---|",
    ]
    off = []
    for row in published:
        counted = operations(row["shape"]) / 1000
        cells = [
            f"{row['name']} ({row['source']})",
            "-".join(map(str, row["shape"])),
            f"{row['error']:.1f} %",
            f"{row['flops']}K",
            f"{multiplications(row['shape']) / 1000:.1f}K",
            f"{counted:.1f}K",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if round(counted) != row["flops"]:
            off.append(f"{row['name']}, {row['flops'] / counted - 1:+.1%}")
    exact = len(published) - len(off)
    others = f" (not: {'; '.join(off)})" if off else ""
    text = f"""Published networks, what they are said to cost, and our count of their shapes. A multiplication with its
addition is one FLOP there, not two; our operations give the published figure to the thousand for {exact} of
{len(published)}{others}. Their images were not shifted. Inputs are counted one by one there; `compact` removes
whole channels, which are 16 inputs each, and our counts are of all inputs that it leaves."""
    return "\n".join([*lines, "", paragraph(text)])


def _speed(found: Mapping[str, Any], compacted: Mapping[str, Any]) -> str:
    name = best(found) or next(iter(found))
    size = found[name]["size"]
    lines = ["| batch | as it was | compacted | times as fast (quartiles) |", "|---|---|---|---|"]
    for speed in size["speed"]:
        ratio = speed["compacted"]["speedup"]
        times = [speed[key]["milliseconds"]["median"] for key in ("sparse", "compacted")]
        lines.append(
            f"| {speed['batch']} | {times[0]:.2f} ms | {times[1]:.2f} ms | {ratio['median']:.1f} ({ratio['low']:.1f} … "
            f"{ratio['high']:.1f}) |"
        )
    fewer = size["multiplications"][0] / size["multiplications"][1]
    differences = max(row["difference"] for row in compacted["runs"])
    threads = compacted["threads"]
    cores = f"{threads} thread{'s' if threads > 1 else ''} of the CPU, {compacted['rounds']} rounds in turn"
    count = len(compacted["runs"])
    text = f"""What the smaller network is worth in time: answers of one of them ({LABELS[name]}), with all of its
zeros and compacted, on {cores}. Multiplications are {fewer:.0f} times fewer; what a single
image takes is mostly the calls themselves. Outputs on noise differ by at most {differences:.0e} of the largest one in
all networks that were compacted ({count}): the rounding of float32."""
    return "\n".join([paragraph(text), "", *lines])


def draw(figures: dict[str, Any], compacted: dict[str, Any], folder: Path) -> None:
    """The two pictures."""
    import matplotlib.pyplot as plt

    found = methods(figures, compacted)
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
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
    figure.savefig(folder / "groups-operations.png", dpi=100)
    plt.close(figure)

    figure, parts = plt.subplots(1, len(LAYERS), figsize=(9, 3), layout="constrained", sharey=True)
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
    figure.savefig(folder / "groups-kept.png", dpi=100)
    plt.close(figure)


def ticks(axes: Any) -> None:
    """Plain numbers on axes that are logarithmic."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
