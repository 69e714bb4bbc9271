"""The circle closed: the shipped EPGN made sparse, and smaller. Its study, and its section of docs/papers.md.

python -m benchmarks.papers.circle --config configs/papers/circle.yaml --folder runs/circle \\
    --json docs/papers/circle.json --data.train '[T91, BSD400]'

It is a study as of `benchmarks.papers.study`, with runs of one more kind: those whose `weights` are another run start
from what that run left, without the feature maps that are zero. `benchmarks.papers.circle_times` measures how fast the
networks are.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.papers import study as studies
from unrolled.networks import EPGN
from unrolled.weights.networks import load, save

FILES = ("circle", "circle-times", "circle-times-threads")
PENALTIES = {"l1": "l1", "tl1": "transformed l1, a = 0.1", "l0": "l0"}
COLORS = {"l1": "tab:blue", "tl1": "tab:orange", "l0": "tab:green"}
HALF, WITHIN, WITHIN_SMALL, FASTER = 0.5, 0.1, 0.3, 1.5
"""The goals: so many zeros within so many dB, and so much faster within so many dB."""


def run(study: dict[str, Any], name: str, seed: int, folder: Path, more: list[str]) -> None:
    """Do one run of the study, and the run before it that it starts from."""
    source = (study["runs"][name] or {}).get("weights")
    if isinstance(source, str) and source in study["runs"]:
        run(study, source, seed, folder, more)
        path = folder / "compacted" / f"{source}-{seed}.safetensors"
        change = compacted(studies.folder_of(folder, source, seed), path)
        study = {**study, "runs": {**study["runs"], name: studies.merged(study["runs"][name], change)}}
    studies.run(study, name, seed, folder, more)


def compacted(source: Path, path: Path) -> dict[str, Any]:
    """Compact the network that a run left, write it to a file, and return the settings of a run that starts from it."""
    network, operator = load(next(source / file for file in studies.WEIGHTS if (source / file).exists()))
    assert isinstance(network, EPGN)
    small = network.compacted()
    y = operator(torch.rand(1, 1, 2 * operator.multiple, operator.multiple))
    with torch.no_grad():
        difference = float((small(y, operator) - network(y, operator)).abs().max())
    assert difference < 1e-3, difference  # in float32, on images in [0, 1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, small, operator)
    return {"network": {"init_args": {"features": small.arguments["features"]}}, "weights": str(path)}


def section(figures: dict[str, Any], times: dict[str, Any], threads: dict[str, Any]) -> str:
    """The section of the page; of the figures, the times of one thread, and those of all threads."""
    rows, reference = by_name(figures), times["shipped"]["epgn-cs25"]["validation"]["psnr"]
    single = [row for row in rows.values() if is_single(row)]
    small = [row for row in rows.values() if row["name"].startswith("small")]
    return "\n".join(
        [
            "## The circle closed: a sparse EPGN",
            "",
            "![PSNR against sparsity and against time](papers/circle.png)",
            "",
            "    python -m benchmarks.papers.circle --config configs/papers/circle.yaml --folder runs/circle \\",
            "        --json docs/papers/circle.json --data.train '[T91, BSD400]'",
            "    python -m benchmarks.papers.circle_times --figures docs/papers/circle.json \\",
            "        --json docs/papers/circle-times.json  # with OMP_NUM_THREADS=1",
            "    python -m benchmarks.papers.circle_times --figures docs/papers/circle.json \\",
            "        --json docs/papers/circle-times-threads.json",
            "",
            "In EPGN a penalty's proximal map shrinks the feature maps of an image. Here the same penalties act on "
            "the weights of the network itself: the shipped `epgn-cs25` is trained on for "
            f"{rows['dense']['steps']} steps of {rows['dense']['settings']['training']['batch']} crops while "
            "`ProximalStep` makes its weights zero. PSNR is that of the 12 images that were held out when it was "
            f"trained: {reference:.2f} dB with its own weights, and {psnr_of(rows['dense']):.2f} dB after the same "
            "steps without a sparsifier.",
            "",
            *(_single_weights(single, reference) if single else []),
            "",
            *_whole_maps(small, rows, times, reference),
            "",
            *_shipped(times),
            *_with_threads(threads),
        ]
    )


def _single_weights(rows: list[dict[str, Any]], reference: float) -> list[str]:
    good = [row for row in rows if row["sparsity"] >= HALF and reference - psnr_of(row) <= WITHIN]
    lines = [
        "**Single weights.** Zeros are exact, and counted over all kernels; the fourth column counts those between "
        "feature maps alone, which do most of the arithmetic.",
        "",
        "| penalty | steps | zeros | between maps | PSNR, dB | to dense, dB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {PENALTIES[penalty_of(row)]} | {steps_of(row, rows):,} | {row['sparsity']:.1%} | "
            f"{zeros_between_maps(row):.1%} | {psnr_of(row):.2f} | {signed(psnr_of(row) - reference)} |"
        )
    goal = f"The goal, at least half of the weights exactly zero within {WITHIN} dB, is"
    if not good:
        best = max(rows, key=lambda row: (row["sparsity"] >= HALF, psnr_of(row)))
        return [*lines, "", f"{goal} missed: {best['sparsity']:.1%} zeros cost {reference - psnr_of(best):.2f} dB."]
    most = max(good, key=lambda row: row["sparsity"])
    return [
        *lines,
        "",
        f"{goal} reached, up to {most['sparsity']:.1%} zeros by {PENALTIES[penalty_of(most)]} "
        f"in {steps_of(most, rows):,} steps "
        f"({signed(psnr_of(most) - reference)} dB).",
    ]


def _whole_maps(
    rows: list[dict[str, Any]], every: dict[str, dict[str, Any]], times: dict[str, Any], reference: float
) -> list[str]:
    speed = speedups(times)
    lines = [
        "**Whole feature maps.** Single zeros do not make convolutions faster. Groups do: all kernels of a filter "
        "become zero together, `EPGN.compacted()` removes the feature map that it made from everything that reads it, "
        "with the same outputs, and the small network is trained on. Between the two convolutions of a pair from or to "
        "the image nine channels are enough for any kernel; that alone leaves the shipped network "
        f"{times['folded_parameters']:,} of {times['shipped']['epgn-cs25']['parameters']:,} parameters with the same "
        "outputs. Times are those of reconstruction after `fuse()`, "
        f"{times['environment']['device']}, threads: {times['environment']['threads']}, medians of {times['rounds']} "
        "rounds in which all networks take turns.",
        "",
    ]
    table = [
        "| penalty | filters at zero | compacted, dB | trained on, dB | to dense, dB | parameters | "
        f"{' | '.join(heads(times))} |",
        f"|---|---|---|---|---|---|{'---|' * len(heads(times))}",
    ]
    for row in rows:
        source = every[source_of(row)]
        cells = [
            PENALTIES[penalty_of(source)],
            f"{dead_filters(source):.0%}",
            f"{psnr_of(source):.2f}",
            f"{psnr_of(row):.2f}",
            signed(psnr_of(row) - reference),
            f"{times['parameters'][row['name']]:,}",
            *(f"{speed[task, kind][row['name']]:.2f}×" for task, kind in speed),
        ]
        table.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        *([*table, ""] if rows else []),
        f"Processors compute many maps at a time: a 3×3 convolution of {times['convolution']['inputs']} maps to 16, 17 "
        f"and 32 takes {', '.join(f'{value:.1f}' for value in times['convolution']['milliseconds'].values())} ms.",
    ]


def _shipped(times: dict[str, Any]) -> list[str]:
    dense, small = (times["shipped"][name] for name in ("epgn-cs25", "epgn-cs25-small"))
    loss = dense["validation"]["psnr"] - small["validation"]["psnr"]
    ratios = {key: speed["epgn-cs25-small"] for key, speed in speedups(times).items()}
    reached = loss <= WITHIN_SMALL and next(iter(ratios.values())) >= FASTER
    tests = "; ".join(
        f"{test} {small['evaluation'][test]['psnr']:.2f} dB (dense {dense['evaluation'][test]['psnr']:.2f} dB)"
        for test in small["evaluation"]
    )
    maps = ", ".join("-".join(map(str, widths[:3])) for widths in small["features"])
    faster = ", ".join(f"{ratio:.2f}× as fast ({task}, {kind})" for (task, kind), ratio in ratios.items())
    return [
        f"**Shipped** as `epgn-cs25-small`: {small['parameters']:,} parameters, feature maps of each phase {maps} "
        f"(inside of G, shrunk, inside of G̃), trained on for {small['step']:,} steps. Held-out images: "
        f"{small['validation']['psnr']:.2f} dB, {loss:.2f} dB below the dense network; {tests}. It is {faster}. "
        f"The goal, {FASTER}× for an image in {next(iter(ratios))[1]} within {WITHIN_SMALL} dB, "
        f"is {'reached' if reached else 'missed'}.",
    ]


def _with_threads(times: dict[str, Any]) -> list[str]:
    """How much faster the shipped network is with more threads."""
    ratios = [f"{speed['epgn-cs25-small']:.2f}× ({task}, {kind})" for (task, kind), speed in speedups(times).items()]
    return ["", f"With {times['environment']['threads']} threads: {', '.join(ratios)}."]


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def by_name(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in figures["runs"]}


def is_single(row: dict[str, Any]) -> bool:
    """Whether a run made single weights zero."""
    return row["settings"].get("sparsifier") is not None and not row["name"].startswith("filters")


def steps_of(row: dict[str, Any], rows: Iterable[dict[str, Any]]) -> int:
    """All of its steps: NAME-continued goes on from NAME-longer, with the zeros of that."""
    before = [
        each["steps"] for each in rows if each["name"].replace("-longer", "-continued") == row["name"] != each["name"]
    ]
    return int(row["steps"]) + sum(before)


def psnr_of(row: dict[str, Any]) -> float:
    """Of the network that a run left."""
    return float(row.get("after", row["validation"])["psnr"])


def penalty_of(row: dict[str, Any]) -> str:
    """The short name of a run's penalty."""
    return next(part for part in row["name"].split("-") if part in PENALTIES)


def source_of(row: dict[str, Any]) -> str:
    """The run that a small network comes from."""
    return str(row["settings"]["weights"]).removesuffix(f"-{row['seed']}.safetensors")


def zeros_between_maps(row: dict[str, Any]) -> float:
    """The share of zeros in the convolutions between feature maps."""
    return _zeros(row, ".conv.weight", "nonzeros", "weights")


def dead_filters(row: dict[str, Any]) -> float:
    """The share of filters at zero, of those that make feature maps."""
    names = (".sparsify.pair.second", ".conv.weight")
    return _zeros(row, names, "alive_filters", "filters")


def _zeros(row: dict[str, Any], names: str | tuple[str, ...], left: str, of: str) -> float:
    layers = [layer for layer in row["report"]["layers"] if layer["name"].endswith(names)]
    return 1 - sum(layer[left] for layer in layers) / sum(layer[of] for layer in layers)


def speedups(times: dict[str, Any]) -> dict[tuple[str, str], dict[str, float]]:
    """(Task, type) → network → times as fast as the dense one."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in times["rows"]:
        found.setdefault((row["task"], row["type"]), {})[row["name"]] = row["speedup"]
    return found


def heads(times: dict[str, Any]) -> list[str]:
    """What was timed."""
    return [f"{task}, {kind}" for task, kind in speedups(times)]


def draw(figures: dict[str, Any], times: dict[str, Any], threads: dict[str, Any], *, folder: Path) -> None:
    """PSNR against the share of zeros, and against time."""
    import matplotlib.pyplot as plt

    rows, reference = by_name(figures), times["shipped"]["epgn-cs25"]["validation"]["psnr"]
    (task, kind), speed = next(iter(speedups(times).items()))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for penalty, label in PENALTIES.items():
        single = [row for row in rows.values() if re.fullmatch(rf"{penalty}-\d+", row["name"])]
        small = [row for row in rows.values() if row["name"].startswith(f"small-{penalty}-")]
        lines = (
            (left, label, single, [100 * row["sparsity"] for row in single]),
            (right, f"filters by {label}", small, [1 / speed[row["name"]] for row in small]),
        )
        for axes, text, drawn, x in lines:
            if drawn:
                axes.plot(x, [psnr_of(row) for row in drawn], "o-", color=COLORS[penalty], label=text)
    for row in rows.values():
        if is_single(row) and row["name"].endswith(("-longer", "-continued")):
            label = f"{PENALTIES[penalty_of(row)]}, {steps_of(row, rows.values()):,} steps"
            left.plot(100 * row["sparsity"], psnr_of(row), "*", ms=12, color=COLORS[penalty_of(row)], label=label)
    shipped = times["shipped"]["epgn-cs25-small"]
    right.plot(
        1 / speed["epgn-cs25-small"], shipped["validation"]["psnr"], "*", ms=14, color="k", label="epgn-cs25-small"
    )
    right.plot(1, reference, "s", color="k", label="epgn-cs25")
    for axes, within, text in ((left, WITHIN, "single weights"), (right, WITHIN_SMALL, "compacted networks")):
        axes.axhline(reference, color="k", lw=0.8)
        axes.axhline(reference - within, color="gray", lw=0.8, ls="--")
        axes.annotate(f"−{within} dB", (0.01, reference - within), xycoords=("axes fraction", "data"), va="bottom")
        axes.set_title(text)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left" if axes is left else "lower right")
    left.set(xlabel="weights at zero, %", ylabel="PSNR on held-out images, dB")
    right.set(xlabel=f"time, of that of the dense network\n({task}, {kind})")
    figure.savefig(folder / "circle.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(studies.main(doc=__doc__, do=run))
