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

from benchmarks import command
from benchmarks.papers import one_layer, templates, theory_runs
from benchmarks.papers.one_layer import GRADIENTS
from benchmarks.papers.theory_pictures import draw
from benchmarks.papers.theory_runs import BETA, MULTIPLES, NONZEROS, PENALTIES, STRENGTH, D, K
from unrolled.penalties import L1, Weighted
from unrolled.system.files import replacing
from unrolled.training.runs.surroundings import environment

FILES = ("theory",)
KINDS = ("by_strength", "by_threshold")
KNOWN = {
    ("ReLU", "l1"): {"angle": 0.0037, "nonzeros": 9},
    ("ReLU", "TL1"): {"angle": 0.0069, "nonzeros": 9},
    ("ReLU", "l0"): {"angle": 0.0281, "nonzeros": 3},
    ("step, ReLU", "l1"): {"angle": 0.0187, "nonzeros": 9},
    ("step, ReLU", "TL1"): {"angle": 0.0363, "nonzeros": 9},
    ("step, ReLU", "l0"): {"angle": 0.1132, "nonzeros": 3},
}
"""θ(w) and nonzeros of u for one w* in the same setting, from another program."""
Figures = dict[str, Any]
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


# What the page shows


def facts(figures: Figures) -> dict[str, Any]:
    """The numbers of the section of docs/papers.md, by name."""
    return {
        "setting": figures["setting"],
        "minutes": figures["seconds"] / 60,
        "fixed_points": fixed_points(figures),
        "support": support(figures),
        "teacher_error": max(row["teacher_error"] for row in figures["fixed_points"]),
        "angles": angles(figures),
        "descent": descent(figures),
        "coarse": coarse(figures["coarse_descent"]),
        "samples": samples(figures["samples"], figures["sampling"]),
    }


def fixed_points(figures: Figures) -> dict[str, Any]:
    """How well the limits are fixed points, where they are, and whether what is known of one w* is among them."""
    rows = figures["fixed_points"]
    worst = max(row["residual"] for row in rows)
    many = [(row, KNOWN[key]) for row in figures["operation"] if (key := (row["gradient"], row["penalty"])) in KNOWN]
    relu, clipped = (
        [row for row in rows if row["gradient"] == f"step, {name}" and row["penalty"] in ("l1", "TL1")]
        for name in ("ReLU", "clipped ReLU")
    )
    apart = max(
        abs(a - b)
        for one, other in zip(relu, clipped, strict=True)
        for a, b in zip(one["angles"], other["angles"], strict=True)
    )
    return {
        "worst": worst,
        "reached": worst < 1e-9,
        "draws": 5 * figures["setting"]["teachers"],
        "known": len(many),
        "angles_inside": sum(row["angles"][0] <= known["angle"] <= row["angles"][1] for row, known in many),
        "counts_inside": sum(row["nonzeros"][0] <= known["nonzeros"] <= row["nonzeros"][1] for row, known in many),
        "rows": [
            {
                "gradient": row["gradient"],
                "penalty": row["penalty"],
                "residual": row["residual"],
                "angle": {"median": statistics.median(row["angles"]), **ends(row["angles"])},
                "nonzeros": {"mean": statistics.mean(row["nonzeros"]), **ends(row["nonzeros"])},
                "elsewhere": KNOWN.get((row["gradient"], row["penalty"])),
            }
            for row in rows
        ],
        "same_up_to": clipping_limit(1e-9),
        "apart": apart,
        "equal": apart == 0,
    }


def ends(values: list[float]) -> dict[str, float]:
    return {"least": min(values), "most": max(values)}


def clipping_limit(tolerance: float) -> float:
    """The angle up to which 1 − erf(1/(√2 sinθ)) is smaller."""
    theta = torch.linspace(1e-3, math.pi / 2, 10_000, dtype=torch.float64)
    below = torch.special.erfc(1 / (math.sqrt(2) * theta.sin())) < tolerance
    return float(theta[below].max())


def support(figures: Figures) -> dict[str, Any]:
    """How many limits there are, and what of them is outside of the support of w*."""
    rows, several = figures["fixed_points"], figures["angles"].values()
    by_angle = [cases for each in several for kind in KINDS for rows in each[kind].values() for cases in rows]
    return {
        "limits": sum(len(row["nonzeros"]) for row in rows) + sum(map(len, by_angle)),
        "outside": sum(each["outside"] for each in [*rows, *several]),
        "empty": sum(count == 0 for row in rows for count in row["nonzeros"]),
        "largest": max(row["largest_outside"] for row in rows),
        "late": max(last_outside(row["curves"]) for row in rows),
    }


def last_outside(curves: dict[str, list]) -> int:
    """The first of the recorded steps from which on nothing is outside."""
    last = max((index for index, count in enumerate(curves["outside"]) if count), default=-1)
    return curves["step"][min(last + 1, len(curves["step"]) - 1)]


def angles(figures: Figures) -> dict[str, Any]:
    """Whether angles grow with the strength, and whether those of the penalties are in order."""
    found = figures["angles"]
    pairs = [
        (low, high)
        for each in found.values()
        for rows in each["by_strength"].values()
        for before, after in itertools.pairwise(rows)
        for low, high in zip(before, after, strict=True)
    ]
    ordered = {kind: in_order(found, kind) for kind in KINDS}
    each = sum(len(rows[0]) for rows in found["l1"]["by_strength"].values())
    means = {
        label: {kind: [statistics.mean(row) for row in found[label][kind]["step, ReLU"]] for kind in KINDS}
        for label in PENALTIES
    }
    return {
        "strengths": figures["strengths"],
        "thresholds": figures["thresholds"],
        "penalties": list(PENALTIES),
        "rising": sum(low <= high for low, high in pairs),
        "neighbours": len(pairs),
        "ordered": sum(ordered["by_strength"]),
        "cases": each * len(figures["strengths"]),
        "ordered_by_strength": ordered["by_strength"],
        "ordered_by_threshold": ordered["by_threshold"],
        "cases_of_each": each,
        "smallest": min(means, key=lambda label: means[label]["by_threshold"][0]),
        "rows": [{"penalty": label, **mean} for label, mean in means.items()],
    }


def in_order(found: dict[str, Any], kind: str) -> list[int]:
    """For each strength or threshold, in how many cases the angles of the penalties are in order."""
    columns = ([found[label][kind][name] for label in PENALTIES] for name in GRADIENTS)
    by_gradient = (
        [sum(a <= b <= c for a, b, c in zip(*rows, strict=True)) for rows in zip(*column, strict=True)]
        for column in columns
    )
    return [sum(counts) for counts in zip(*by_gradient, strict=True)]


def descent(figures: Figures) -> dict[str, Any]:
    """Below and beyond which step sizes L_β falls."""
    rows, bound = figures["descent"], figures["smoothness"]
    below = [row for row in rows if row["multiple"] < 1]
    rising: dict[str, list[float]] = {row["penalty"]: [] for row in rows}
    for row in rows:
        if row["first_rise"] is not None:
            rising[row["penalty"]].append(row["multiple"])
    return {
        "smoothness": bound,
        "largest_curvature": figures["largest_curvature"],
        "longest": (BETA + bound) / bound,
        "below": len(below),
        "quiet": sum(row["first_rise"] is None for row in below),
        "multiples_below": [multiple for multiple in MULTIPLES if multiple < 1],
        "multiples_beyond": [multiple for multiple in MULTIPLES if multiple > 1],
        "rises": [{"penalty": label, "first": min(found, default=None)} for label, found in rising.items()],
    }


def coarse(rows: Rows) -> dict[str, Any]:
    """How often L_β rises by coarse gradients, with the loss of the step function and with that of the chord."""
    own = [row["own"] for row in rows]
    rising = sum(row["rising"] for row in own)
    return {
        "cases": sum(row["cases"] for row in rows),
        "rising": rising,
        "rises": rising > 0,
        "largest_rise": max(row["largest_rise"] for row in own),
        "least_fall": min(row["fall"] for row in own),
        "rising_by_chord": sum(row["chord"]["rising"] for row in rows),
    }


def samples(rows: Rows, sampling: dict[str, Any]) -> dict[str, Any]:
    """How near sampled gradients come to the population's, and the iteration to its limit."""
    count = sampling["samples"]
    slopes = [math.log(found[-1] / found[0]) / math.log(count[-1] / count[0]) for found in sampling["error"].values()]
    groups: dict[tuple[int, bool], Rows] = {}
    for row in rows:
        groups.setdefault((row["batch"], row["falling"]), []).append(row)
    last = {key: [row["distance"][-1] for row in group] for key, group in groups.items()}
    batches = sorted(batch for batch, falling in groups if not falling)
    (middle,) = (batch for batch, falling in groups if falling)
    smallest, largest = last[batches[0], False], last[batches[-1], False]
    falling, constant = last[middle, True], last[middle, False]
    return {
        "slopes": ends(slopes),
        "smallest": batches[0],
        "largest": batches[-1],
        "nearer": sum(far > near for far, near in zip(smallest, largest, strict=True)),
        "combinations": len(largest),
        "falling_nearer": sum(a < b for a, b in zip(falling, constant, strict=True)),
        "falling": len(falling),
        "rows": [
            {
                "batch": batch,
                "falling": kind,
                "median": statistics.median(last[batch, kind]),
                "largest": max(last[batch, kind]),
                "same_support": sum(row["same_support"] for row in groups[batch, kind]),
                "cases": sum(row["cases"] for row in groups[batch, kind]),
                "outside": sum(row["outside"] for row in groups[batch, kind]),
            }
            for batch, kind in [*((batch, False) for batch in batches), (middle, True)]
        ],
    }


def main(argv: list[str] | None = None) -> None:
    options = command.parser(__doc__).parse_args(argv)
    figures = measure()
    print(templates.render("theory", facts(figures)))
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
