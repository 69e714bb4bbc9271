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
from matplotlib.figure import Figure

from benchmarks.papers import study as studies
from benchmarks.papers.pictures import save_picture
from unrolled.networks import EPGN
from unrolled.weights.networks import load, save

FILES = ("circle", "circle-times", "circle-times-threads")
DENSE, SMALL = "epgn-cs25", "epgn-cs25-small"
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


def facts(figures: dict[str, Any], times: dict[str, Any], threads: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the section of docs/papers.md, by name.

    Parameters
    ----------
    figures : dict
        of the study.
    times, threads : dict
        the times of one thread, and those of all threads.
    """
    rows, reference = by_name(figures), times["shipped"][DENSE]["validation"]["psnr"]
    dense = rows["dense"]
    return {
        "dense": {
            "steps": dense["steps"],
            "batch": dense["settings"]["training"]["batch"],
            "shipped_psnr": reference,
            "psnr": psnr_of(dense),
        },
        "single": single_weights([row for row in rows.values() if is_single(row)], reference),
        "maps": whole_maps(rows, times, reference),
        "shipped": shipped(times),
        "more_threads": {"threads": threads["environment"]["threads"], "speeds": speeds_of_the_small(threads)},
    }


def single_weights(rows: list[dict[str, Any]], reference: float) -> dict[str, Any] | None:
    """What single zeros cost, and whether the goal is reached; None if there are none."""
    if not rows:
        return None
    found = [
        {
            "penalty": PENALTIES[penalty_of(row)],
            "steps": steps_of(row, rows),
            "zeros": row["sparsity"],
            "between_maps": zeros_between_maps(row),
            "psnr": psnr_of(row),
            "difference": psnr_of(row) - reference,
            "loss": reference - psnr_of(row),
        }
        for row in rows
    ]
    good = [row for row in found if row["zeros"] >= HALF and row["loss"] <= WITHIN]
    if good:
        best = max(good, key=lambda row: row["zeros"])
    else:
        best = max(found, key=lambda row: (row["zeros"] >= HALF, row["psnr"]))
    return {"rows": found, "within": WITHIN, "reached": bool(good), "best": best}


def whole_maps(rows: dict[str, dict[str, Any]], times: dict[str, Any], reference: float) -> dict[str, Any]:
    """What the networks are worth whose filters were made zero and removed."""
    speed = speedups(times)
    small = [row for name, row in rows.items() if name.startswith("small")]
    return {
        "folded_parameters": times["folded_parameters"],
        "dense_parameters": times["shipped"][DENSE]["parameters"],
        "device": times["environment"]["device"],
        "threads": times["environment"]["threads"],
        "rounds": times["rounds"],
        "timed": [f"{task}, {kind}" for task, kind in speed],
        "rows": [
            {
                "penalty": PENALTIES[penalty_of(source)],
                "dead_filters": dead_filters(source),
                "compacted_psnr": psnr_of(source),
                "psnr": psnr_of(row),
                "difference": psnr_of(row) - reference,
                "parameters": times["parameters"][row["name"]],
                "speeds": [factors[row["name"]] for factors in speed.values()],
            }
            for row in small
            for source in [rows[source_of(row)]]
        ],
        "convolution": {
            "inputs": times["convolution"]["inputs"],
            "milliseconds": list(times["convolution"]["milliseconds"].values()),
        },
    }


def shipped(times: dict[str, Any]) -> dict[str, Any]:
    """The small network that is shipped, beside the dense one, and whether it reaches the goal."""
    dense, small = (times["shipped"][name] for name in (DENSE, SMALL))
    loss, speeds = dense["validation"]["psnr"] - small["validation"]["psnr"], speeds_of_the_small(times)
    return {
        "parameters": small["parameters"],
        "maps": ["-".join(map(str, widths[:3])) for widths in small["features"]],
        "step": small["step"],
        "psnr": small["validation"]["psnr"],
        "loss": loss,
        "tests": [
            {"name": test, "psnr": found["psnr"], "dense_psnr": dense["evaluation"][test]["psnr"]}
            for test, found in small["evaluation"].items()
        ],
        "speeds": speeds,
        "goal": {"faster": FASTER, "within": WITHIN_SMALL},
        "reached": loss <= WITHIN_SMALL and speeds[0]["factor"] >= FASTER,
    }


def speeds_of_the_small(times: dict[str, Any]) -> list[dict[str, Any]]:
    """How many times as fast as the dense network the shipped small one is."""
    return [{"task": task, "type": kind, "factor": factors[SMALL]} for (task, kind), factors in speedups(times).items()]


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


def draw(figures: dict[str, Any], times: dict[str, Any], threads: dict[str, Any], *, folder: Path) -> None:
    """PSNR against the share of zeros, and against time."""
    rows, reference = by_name(figures), times["shipped"][DENSE]["validation"]["psnr"]
    (task, kind), speed = next(iter(speedups(times).items()))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
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
    shipped = times["shipped"][SMALL]
    right.plot(1 / speed[SMALL], shipped["validation"]["psnr"], "*", ms=14, color="k", label=SMALL)
    right.plot(1, reference, "s", color="k", label=DENSE)
    for axes, within, text in ((left, WITHIN, "single weights"), (right, WITHIN_SMALL, "compacted networks")):
        axes.axhline(reference, color="k", lw=0.8)
        axes.axhline(reference - within, color="gray", lw=0.8, ls="--")
        axes.annotate(f"−{within} dB", (0.01, reference - within), xycoords=("axes fraction", "data"), va="bottom")
        axes.set_title(text)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left" if axes is left else "lower right")
    left.set(xlabel="weights at zero, %", ylabel="PSNR on held-out images, dB")
    right.set(xlabel=f"time, of that of the dense network\n({task}, {kind})")
    save_picture(figure, folder / "circle.png")


if __name__ == "__main__":
    raise SystemExit(studies.main(doc=__doc__, do=run))
