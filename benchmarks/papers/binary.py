"""The section about binary activations: LeNet-5 with the step function, dense and sparse, by three estimators.

The runs are those of configs/papers/binary.yaml, by benchmarks/papers/study.py.
"""

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unrolled.system.files import replacing

FILES = ("binary",)
ESTIMATORS = {"identity": "identity", "binary-relu": "ReLU", "clipped-relu": "clipped ReLU"}
"""By the names of runs, which a penalty or "bare" may follow."""
Groups = dict[str, list[dict[str, Any]]]


def section(figures: dict[str, Any]) -> str:
    """The part of docs/papers.md that is about binary activations."""
    groups = grouped(figures)
    first = groups["relu"][0]["settings"]
    shortened = first["training"]["steps"] is not None
    parts = [
        "## Binary activations: RVSCGD on LeNet-5",
        "    python -m benchmarks.papers.study --config configs/papers/binary.yaml --folder runs/binary "
        f"--json docs/papers/binary.json{_options(first['training'])}",
        "LeNet-5 on MNIST with the step function 1{x > 0} in place of the ReLU (`LeNet5(activation=…)`), whose "
        "derivative the straight-through estimators of `BinaryActivation` replace. A batch norm precedes each: what "
        "comes into the step has then a scale, as the theory of coarse gradients gives it by weights of norm 1. The "
        "sparse ones start from the dense ones and are trained again by `VariableSplitting` with a target. Adam, "
        f"learning rate {first['training']['learning_rate']:g} with cosine decay, batches of "
        f"{first['training']['batch']}, {groups['relu'][0]['steps']:,} steps each, random shifts by a pixel, "
        f"{_seeds(figures)}.{' The config asks for more, which was not trained here.' if shortened else ''} The paper "
        "states theorems; there are no figures of this kind to compare with.",
        table(groups),
        _found(groups),
    ]
    if figures["failed"]:
        parts.append(f"Failed: {', '.join(figures['failed'])}.")
    if any(f"{name}-bare" in groups for name in ESTIMATORS):
        parts.append(_bare(groups))
    parts.append("![Error over the steps, and zeros by layer](papers/binary-curves.png)")
    return "\n\n".join(parts) + "\n"


def _options(training: dict[str, Any]) -> str:
    """What was given besides the config, which asks for epochs."""
    if training["steps"] is None:
        return ""
    return (
        f" --training.epochs null --training.steps {training['steps']} --training.validations {training['validations']}"
    )


def grouped(figures: dict[str, Any]) -> Groups:
    """The runs by name, one for each seed."""
    groups: Groups = {}
    for row in figures["runs"]:
        groups.setdefault(row["name"], []).append(row)
    return groups


def _seeds(figures: dict[str, Any]) -> str:
    seeds = sorted({row["seed"] for row in figures["runs"]})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def table(groups: Groups) -> str:
    """A row for each name, over seeds a mean."""
    lines = [
        "| activation, estimator | penalty | held-out error | test error | zeros | compression | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in groups.items():
        if name.endswith("-bare"):
            continue
        activation, penalty = described(name)
        held_out = statistics.mean(row.get("after", row["validation"])["error"] for row in rows)
        sparse = "sparsity" in rows[0]
        cells = [
            activation,
            penalty,
            f"{held_out:.2f} %",
            f"{test_error(rows):.2f} %",
            f"{statistics.mean(row['sparsity'] for row in rows):.1%}" if sparse else "",
            f"{statistics.mean(row['compression'] for row in rows):.1f}×" if sparse else "",
            f"{statistics.mean(row['seconds'] for row in rows) / 60:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def described(name: str) -> tuple[str, str]:
    """The activation of a run, with its estimator, and its penalty."""
    for start, estimator in ESTIMATORS.items():
        if name.startswith(start):
            return f"step, {estimator}", name.removeprefix(start).removeprefix("-") or "dense"
    return "ReLU", "dense"


def test_error(rows: list[dict[str, Any]]) -> float:
    """In %, the mean over seeds."""
    return statistics.mean(row["test"]["error"] for row in rows)


def _found(groups: Groups) -> str:
    dense = {name: test_error(groups[name]) for name in ESTIMATORS if name in groups}
    reference = test_error(groups["relu"])
    best, worst = min(dense, key=dense.__getitem__), max(dense, key=dense.__getitem__)
    parts = [
        f"Of the dense networks with binary activations the best has the estimator {ESTIMATORS[best]}, the worst "
        f"{ESTIMATORS[worst]}: {dense[best]:.2f} and {dense[worst]:.2f} %, beside {reference:.2f} % of the ReLU."
    ]
    changes = {name: test_error(rows) - dense[_start(name)] for name, rows in groups.items() if "sparsity" in rows[0]}
    if changes:
        worse = sum(change > 0 for change in changes.values())
        least, most = min(changes.values()), max(changes.values())
        parts.append(
            f"With a tenth of the weights the error changes by {least:+.2f} to {most:+.2f} points against the dense "
            f"network that was started from, which had as many steps alone; it rises in {worse} of {len(changes)}."
        )
    penalties = {name: test_error(rows) for name, rows in groups.items() if name in changes and _start(name) == best}
    if len(penalties) > 1:
        order = sorted(penalties, key=penalties.__getitem__)
        parts.append(
            f"Penalties with the estimator {ESTIMATORS[best]}, from the best: "
            f"{', '.join(f'{described(name)[1]} {penalties[name]:.2f} %' for name in order)}."
        )
    parts.append("Ten thousand test images give an error of 1 % with a standard error of .1.")
    return " ".join(parts)


def _start(name: str) -> str:
    return next(start for start in ESTIMATORS if name.startswith(start))


def _bare(groups: Groups) -> str:
    bare = {name: groups[f"{name}-bare"] for name in ESTIMATORS if f"{name}-bare" in groups}
    figures = ", ".join(f"{ESTIMATORS[name]} {test_error(rows):.1f} %" for name, rows in bare.items())
    first = next(iter(bare.values()))[0]
    chance = [ESTIMATORS[name] for name, rows in bare.items() if test_error(rows) > 80]
    consequence = f" In them there is nothing learned with the estimator {' and '.join(chance)}." if chance else ""
    return (
        f"Norms matter: without them the dense networks have test errors of {figures} after {first['steps']:,} steps "
        f"with learning rate {first['settings']['training']['learning_rate']:g}.{consequence}"
    )


def draw(figures: dict[str, Any], folder: Path) -> None:
    """binary-curves.png: held-out errors over the steps, and the zeros of the sparse ones layer by layer."""
    groups = {name: rows for name, rows in grouped(figures).items() if not name.endswith("-bare")}
    sparse = {name: rows[0] for name, rows in groups.items() if "sparsity" in rows[0]}
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, rows in groups.items():
        axes = middle if name in sparse else left
        curves = rows[0]["curves"]
        errors = curves["error"] if name not in sparse else [100 - value for value in curves["sparse_accuracy"]]
        axes.plot(curves["step"], errors, "o-", markersize=3, label=", ".join(described(name)))
    for axes, title in ((left, "dense"), (middle, "sparse, with its zeros")):
        axes.set(title=title, xlabel="step", ylabel="held-out error (%)", yscale="log", ylim=(1, 100))
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=7)
    for index, (name, row) in enumerate(sparse.items()):
        layers = [layer for layer in row["report"]["layers"] if layer["weights"]]
        zeros = [100 * (1 - layer["nonzeros"] / layer["weights"]) for layer in layers]
        places = [place + (index - len(sparse) / 2 + 0.5) * 0.8 / len(sparse) for place in range(len(layers))]
        right.bar(places, zeros, 0.8 / len(sparse), label=", ".join(described(name)))
        right.set_xticks(range(len(layers)), [layer["name"].removesuffix(".weight") for layer in layers])
    right.set(title="zeros by layer", ylabel="zeros (%)")
    right.set_ylim(0, 140)
    right.legend(fontsize=7, loc="upper center", ncols=2)
    with replacing(folder / "binary-curves.png") as temporary:
        figure.savefig(temporary, dpi=100)
