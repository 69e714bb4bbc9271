"""The pictures of the theory of variable splitting, of what benchmarks/papers/theory.py measured."""

import math
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.papers.one_layer import GRADIENTS
from benchmarks.papers.pictures import save_picture
from benchmarks.papers.theory_runs import MULTIPLES, PENALTIES

COLORS = {"l1": "tab:blue", "TL1": "tab:green", "l0": "tab:red", "u = 0": "tab:gray"}


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
        save_picture(make(figures), folder / f"theory-{name}.png")


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
