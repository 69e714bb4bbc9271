"""The figures of a comparison, gathered from what its pieces found."""

from pathlib import Path
from typing import Any

from benchmarks.comparison.classical import METHODS, called
from benchmarks.comparison.entries import ENTRIES
from benchmarks.comparison.pieces import FACTORS, folder_of, result
from benchmarks.comparison.problems import NEEDED
from benchmarks.comparison.schedule import CLASSICAL, reason_to_stop

Row = dict[str, Any]


def rows_of(out: Path) -> list[Row]:
    """All that is finished, by problem, the best on the test images first, and what has failed last."""
    found = []
    for problem in NEEDED:
        rows = [*classical_rows(out, problem), *network_rows(out, problem)]
        found += sorted(rows, key=lambda row: -row.get("psnr", 0.0))
    return found


def classical_rows(out: Path, problem: str) -> list[Row]:
    """The rows of classical methods."""
    folder, found = folder_of(out, problem, CLASSICAL), []
    for method in METHODS:
        if (known := result(folder, method)) is None:
            continue
        row = {"problem": problem, "method": called(method), "network": False}
        found.append(row | ({"failed": known["failed"]} if "failed" in known else _tested(known)))
        found[-1] |= {"strength": known.get("strength")}
    return found


def network_rows(out: Path, problem: str) -> list[Row]:
    """The rows of networks."""
    found = []
    for name in ENTRIES:
        folder = folder_of(out, problem, name)
        row: Row = {"problem": problem, "method": name, "network": True}
        full = result(folder, "full")
        if (reason := reason_to_stop(folder) or (full or {}).get("failed")) is not None:
            found.append(row | {"failed": reason})
        elif full is not None:
            found.append(row | _trained(folder, full))
    return found


def _trained(folder: Path, full: dict[str, Any]) -> Row:
    cost = result(folder, "cost-bfloat16" if full["bfloat16"] else "cost-float32") or {}
    trials = [result(folder, f"rate-{factor:g}") or {} for factor in FACTORS]
    row: Row = {
        **_tested(full),
        "parameters": cost["parameters"],
        "mib": round(cost["mib"]),
        "bfloat16": full["bfloat16"],
        "steps": full["steps"],
        "seconds_a_step": full["seconds"],
        "rate": full["rate"],
        "trials": [{key: trial[key] for key in ("rate", "psnr", "failed") if key in trial} for trial in trials],
        "held_out": full["psnr"],
        "start": full["start_psnr"],
        "curve": full["curve"],
        "long": [],
    }
    for file in sorted(folder.glob("long-*.json")):
        known = result(folder, file.stem) or {}
        minutes = float(file.stem.partition("-")[2])
        if "failed" not in known:
            longer = {"minutes": minutes, **_tested(known), "held_out": known["psnr"], "curve": known["curve"]}
            row["long"].append(longer | {"steps": known["steps"]})
    return row


def _tested(known: dict[str, Any]) -> Row:
    return {
        "psnr": known["test_psnr"],
        "ssim": known["test_ssim"],
        "seconds_an_image": known["seconds_an_image"],
        "images": len(known["images"]),
    }


def best_held_out(out: Path, problem: str) -> list[str]:
    """The networks of a problem, the best on held-out images first."""
    rows = [row for row in network_rows(out, problem) if "failed" not in row]
    return [row["method"] for row in sorted(rows, key=lambda row: -row["held_out"])]


def table(rows: list[Row]) -> str:
    """The table of one problem."""
    lines = [
        "| | PSNR | SSIM | parameters | seconds an image | MiB in training | steps | seconds a step | learning rate |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['method']} | {row['failed'].splitlines()[0]} | | | | | | | |")
            continue
        cells = [row["method"], f"{row['psnr']:.2f} dB", f"{row['ssim']:.4f}"]
        if row["network"]:
            precision = " (bfloat16)" if row["bfloat16"] else ""
            cells += [f"{row['parameters']:,}", f"{row['seconds_an_image']:.2f}", f"{row['mib']:,}"]
            cells += [f"{row['steps']:,}", f"{row['seconds_a_step']:.2f}{precision}", f"{row['rate']:.2g}"]
        else:
            cells += ["", f"{row['seconds_an_image']:.2f}", "", "", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
