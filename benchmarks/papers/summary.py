"""The table of README: a line for each paper, of the figures of docs/papers.md."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.papers import binary, cifar, circle, duality, groups, mnist

FOLDER = Path(__file__).parents[2] / "docs" / "papers"


def summary() -> str:
    """The table."""
    lines = ["| what | here | published, or asked for |", "|---|---|---|"]
    rows = [_theory(), *_duality(), *_mnist(), _groups(), _binary(), _cifar(), *_circle()]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def _theory() -> tuple[str, str, str]:
    worst = max(row["residual"] for row in _read("theory")["fixed_points"])
    return "variable splitting, one hidden layer: residual of its fixed points", f"{worst:.0e}", "0"


def _duality() -> list[tuple[str, str, str]]:
    found = _read("duality")
    published = {row["name"]: row for row in found["published"]}
    lines = []
    for name in ("LogSum", "AdaTikhonov", "AdaProx"):
        error, left = duality.tested(found["runs"], name), duality.nonzeros(found["runs"], name)
        other = published[name]
        lines.append(
            (
                f"LeNet-300-100, the penalty as {duality.shown(name)}, {len(error)} seeds: error, nonzeros",
                f"{error.mean():.2f} %, {left.mean():.3f}",
                f"{other['error']:.2f} %, {other['nonzero']:.3f} (LeJeune et al., 2021; more steps)",
            )
        )
    return lines


def _mnist() -> list[tuple[str, str, str]]:
    lines = []
    for network, (_, compression), name in zip(mnist.NETWORKS, mnist.GOALS, mnist.FILES, strict=True):
        found = _read(name)
        rows = [mnist._summary(runs) for runs in mnist._by_name(found["runs"])]
        for shifted in (True, False):
            enough = [row for row in rows if row["shifted"] is shifted and row["compression"] >= compression]
            if enough:
                best = min(enough, key=lambda row: row["held_out"])
                other = found["published"][-1]
                lines.append(
                    (
                        f"{network}, best{' (images shifted by a pixel)' if shifted else ', images as they are'}: "
                        "error, compression",
                        f"{best['error']:.2f} %, {best['compression']:.0f}×",
                        f"{other['error']:.2f} %, {other['compression']:g}× ({other['name']})",
                    )
                )
    return lines


def _groups() -> tuple[str, str, str]:
    found = groups.methods(_read("groups"), _read("compacted"))
    chosen = groups.best(found)
    assert chosen is not None
    row = found[chosen]
    return (
        f"LeNet-5 by sparse groups ({groups.LABELS[chosen]}): error, operations",
        f"{mean(row['test']):.2f} %, {row['operations'][0] / 1000:.0f}K",
        f"{groups.GOAL[0]:.1f} %, {groups.GOAL[1] / 1000:.0f}K (BC-GHS)",
    )


def _binary() -> tuple[str, str, str]:
    found = binary.grouped(_read("binary"))
    sparse = found["clipped-relu-TL1"]
    return (
        f"LeNet-5 with step functions and {mean(row['sparsity'] for row in sparse):.0%} zeros: error; dense, ReLU",
        f"{mean(row['test']['error'] for row in sparse):.2f} %; "
        + "; ".join(f"{mean(row['test']['error'] for row in found[name]):.2f} %" for name in ("clipped-relu", "relu")),
        "",
    )


def _cifar() -> tuple[str, str, str]:
    figures = _read("cifar")
    runs, sparse = cifar.by_name(figures), cifar.sparse_runs(figures)
    best = max((name for name in sparse if 90 in sparse[name]), key=lambda name: cifar.accuracy(sparse[name][90]))
    return (
        f"ResNet-20, JPEG copy of CIFAR-10, short training, 90 % zeros ({cifar.TITLES[best]}): accuracy; dense",
        f"{cifar.accuracy(sparse[best][90]):.2f} %; {cifar.accuracy(runs['control']):.2f} %",
        "",
    )


def _circle() -> list[tuple[str, str, str]]:
    figures, times = _read("circle"), _read("circle-times")
    reference = times["shipped"]["epgn-cs25"]["validation"]["psnr"]
    single = [row for row in figures["runs"] if circle.is_single(row) and row["sparsity"] >= circle.HALF]
    best = max(single, key=circle.psnr_of)
    small = times["shipped"]["epgn-cs25-small"]["validation"]["psnr"]
    ratios = [speed["epgn-cs25-small"] for speed in circle.speedups(times).values()]
    return [
        (
            f"`epgn-cs25` with {best['sparsity']:.0%} zeros: PSNR on held-out images",
            f"{circle.psnr_of(best) - reference:+.2f} dB",
            f"−{circle.WITHIN} dB",
        ),
        (
            "`epgn-cs25-small`: PSNR, speed on a CPU",
            f"{small - reference:+.2f} dB, {min(ratios):.2f}× to {max(ratios):.2f}×",
            f"−{circle.WITHIN_SMALL} dB, {circle.FASTER}×",
        ),
    ]
