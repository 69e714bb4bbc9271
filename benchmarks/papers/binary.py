"""The section about binary activations: LeNet-5 with the step function, dense and sparse, by three estimators.

The runs are those of configs/papers/binary.yaml, by benchmarks/papers/study.py.
"""

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.papers.pictures import save_picture

FILES = ("binary",)
ESTIMATORS = {"identity": "identity", "binary-relu": "ReLU", "clipped-relu": "clipped ReLU"}
"""By the names of runs, which a penalty or "bare" may follow."""
Groups = dict[str, list[dict[str, Any]]]


def facts(figures: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the section of docs/papers.md, by name."""
    groups = grouped(figures)
    first = groups["relu"][0]
    training = first["settings"]["training"]
    dense = {name: test_error(groups[name]) for name in ESTIMATORS if name in groups}
    sparse = {name: test_error(rows) for name, rows in groups.items() if "sparsity" in rows[0]}
    best, worst = (choose(dense, key=dense.__getitem__) for choose in (min, max))
    return {
        "shortened": shortened(training),
        "learning_rate": training["learning_rate"],
        "batch": training["batch"],
        "steps": first["steps"],
        "seeds": sorted({row["seed"] for row in figures["runs"]}),
        "rows": [line(name, rows) for name, rows in groups.items() if not name.endswith("-bare")],
        "dense": {
            "best": {"estimator": ESTIMATORS[best], "error": dense[best]},
            "worst": {"estimator": ESTIMATORS[worst], "error": dense[worst]},
            "relu": test_error(groups["relu"]),
        },
        "changes": changes([error - dense[start_of(name)] for name, error in sparse.items()]),
        "penalties": in_order({name: error for name, error in sparse.items() if start_of(name) == best}),
        "failed": list(figures["failed"]),
        "bare": bare({name: groups[f"{name}-bare"] for name in ESTIMATORS if f"{name}-bare" in groups}),
    }


def shortened(training: dict[str, Any]) -> dict[str, int] | None:
    """What was given besides the config, which asks for epochs; None if nothing was."""
    if training["steps"] is None:
        return None
    return {"steps": training["steps"], "validations": training["validations"]}


def grouped(figures: dict[str, Any]) -> Groups:
    """The runs by name, one for each seed."""
    groups: Groups = {}
    for row in figures["runs"]:
        groups.setdefault(row["name"], []).append(row)
    return groups


def line(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table, over seeds a mean."""
    activation, penalty = described(name)
    sparse = "sparsity" in rows[0]
    return {
        "activation": activation,
        "penalty": penalty,
        "held_out": statistics.mean(row.get("after", row["validation"])["error"] for row in rows),
        "test": test_error(rows),
        "sparsity": statistics.mean(row["sparsity"] for row in rows) if sparse else None,
        "compression": statistics.mean(row["compression"] for row in rows) if sparse else None,
        "minutes": statistics.mean(row["seconds"] for row in rows) / 60,
    }


def described(name: str) -> tuple[str, str]:
    """The activation of a run, with its estimator, and its penalty."""
    if name == "relu":
        return "ReLU", "dense"
    start = start_of(name)
    return f"step, {ESTIMATORS[start]}", name.removeprefix(start).removeprefix("-") or "dense"


def start_of(name: str) -> str:
    """The dense run that a sparse one starts from."""
    return next(start for start in ESTIMATORS if name.startswith(start))


def test_error(rows: list[dict[str, Any]]) -> float:
    """In %, the mean over seeds."""
    return statistics.mean(row["test"]["error"] for row in rows)


def changes(differences: list[float]) -> dict[str, float] | None:
    """How errors change with zeros; None if nothing was made sparse."""
    if not differences:
        return None
    return {
        "least": min(differences),
        "most": max(differences),
        "worse": sum(difference > 0 for difference in differences),
        "count": len(differences),
    }


def in_order(errors: dict[str, float]) -> list[dict[str, Any]]:
    """Penalties from the best; none if there are not several."""
    if len(errors) < 2:
        return []
    return [{"penalty": described(name)[1], "error": errors[name]} for name in sorted(errors, key=errors.__getitem__)]


def bare(groups: Groups) -> dict[str, Any] | None:
    """Dense networks without norms; None if there are none."""
    if not groups:
        return None
    errors = {ESTIMATORS[name]: test_error(rows) for name, rows in groups.items()}
    first = next(iter(groups.values()))[0]
    return {
        "rows": [{"estimator": estimator, "error": error} for estimator, error in errors.items()],
        "steps": first["steps"],
        "learning_rate": first["settings"]["training"]["learning_rate"],
        "chance": [estimator for estimator, error in errors.items() if error > 80],
    }


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
    save_picture(figure, folder / "binary-curves.png")
