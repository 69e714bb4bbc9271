"""Make docs/performance.md of the figures in docs/performance/*.json.

python -m benchmarks.report
"""

import json
from pathlib import Path
from typing import Any

from benchmarks import convolutions, prox, sparsify, unfolded
from benchmarks.throughput import of_product
from unrolled.system.files import replacing

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "performance"
PAGE = ROOT / "docs" / "performance.md"
TITLES = {"cpu": "On two CPU cores", "cpu-amd": "On two CPU cores without matrix units", "gpu": "On a GPU"}
COMMANDS = {
    "cpu": "python -m benchmarks.throughput --compile --deepinv --json docs/performance/cpu.json",
    "cpu-amd": "python -m benchmarks.throughput --deepinv --json docs/performance/cpu-amd.json",
    "gpu": "python -m benchmarks.device --minutes 12 --out runs/device && cp runs/device/gpu.json docs/performance/",
}


def machine(environment: dict[str, Any]) -> str:
    """The machine and the versions that figures are from."""
    return (
        f"{environment['device']}, {environment['threads']} threads, Python {environment['python']}, "
        f"torch {environment['torch']}"
    )


def section(title: str, command: str, *parts: str) -> str:
    """A title, the command that measures, and what follows: text, tables, figures."""
    return "\n\n".join([f"## {title}", f"    {command}", *parts])


def throughput(name: str, result: dict[str, Any]) -> str:
    """The table of one machine."""
    ceiling = result["ceilings"]
    lines = [
        f"## {TITLES[name]}",
        "",
        f"    {COMMANDS[name]}",
        "",
        f"{machine(result['environment'])}; median of {result['rounds']} rounds in which all variants take turns, "
        "quartiles in brackets.",
        f"Measured ceilings: {ceiling['float32'] / 1e9:,.0f} GFLOP/s in float32 and {ceiling['bfloat16'] / 1e9:,.0f} "
        f"GFLOP/s in bfloat16 (a large matrix product), {ceiling['bytes'] / 1e9:.1f} GB/s (a large copy, read and "
        "written). *Of product* is the arithmetic a second as a part of that of this product in the same precision.",
        "",
        "| network | task | variant | images/s | ratio | of product | peak MiB | GFLOP / image | MB / image | of bound "
        "| PSNR |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        speed = row["images_per_second"]
        low, high = sorted((speed["low"], speed["high"]))
        counted = "of_bound" in row
        cells = [
            row["network"],
            row["task"],
            row["variant"],
            f"{speed['median']:.2f} ({low:.2f}–{high:.2f})",
            f"{row['ratio']:.2f}×",
            f"{of_product(row, ceiling):.0%}",
            f"{row['peak_mib']:.0f}",
            f"{row['gflop_per_image']:.2f}",
            f"{row['mb_per_image']:.0f}" if counted else "",
            f"{row['of_bound']:.0%}" if counted else "",
            f"{row['psnr']:.2f} dB" if "psnr" in row else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def on_a_gpu(result: dict[str, Any] | None) -> str:
    """What `benchmarks.device` found out, or that nobody has asked it yet."""
    if result is None:
        return (
            f"## {TITLES['gpu']}\n\n    {COMMANDS['gpu']}\n\nThere are no figures of a GPU yet. The command above "
            "makes them in twelve minutes: it runs the tests of devices, measures speed and memory as on the CPU, "
            "eager and compiled, and trains until its time is over."
        )
    said = [f"Tests of devices: {result['tests']['outcome']} ({result['tests']['summary'].strip('= ')})."]
    if "last" in (training := result.get("training", {})):
        last = training["last"]
        said.append(
            f"`{training['command']}` came to step {last['step']} of {last['steps']} in {last['seconds'] / 60:.1f} "
            f"minutes, with {last['psnr']:.2f} dB on held-out images."
        )
    return "\n\n".join([throughput("gpu", result), *said])


def summary(result: dict[str, Any]) -> str:
    """The short table that README shows."""
    variants = ("plain, float32", "unrolled, float32", "unrolled, bfloat16")
    lines = ["| images a second | " + " | ".join(variants) + " |", "|---|---|---|---|"]
    found = {(row["network"], row["task"], row["variant"]): row for row in result["rows"]}
    for network, task in dict.fromkeys(key[:2] for key in found):
        rows = [found[network, task, variant] for variant in variants]
        cells = [f"{row['images_per_second']['median']:.1f}" for row in rows]
        cells[1:] = [f"{cell} ({row['ratio']:.2f}×)" for cell, row in zip(cells[1:], rows[1:], strict=True)]
        lines.append(f"| {network}, {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def thin(result: dict[str, Any]) -> str:
    """The table of convolutions from and to one channel."""
    return section(
        "Convolutions from and to one channel",
        "python -m benchmarks.convolutions --json docs/performance/convolutions.json",
        f"5×5, 32 channels on the other side; batch×height×width above. {machine(result['environment'])}.",
        convolutions.table(result["rows"]),
    )


def memory(result: dict[str, Any]) -> str:
    """Memory against phases, as a table beside its figure."""
    phases = sorted({row["phases"] for row in result["rows"]})
    found = {(row["way"], row["phases"]): row for row in result["rows"]}
    lines = [
        "## Memory against phases",
        "",
        "    python -m benchmarks.memory --json docs/performance/memory.json --figure docs/figures/memory.png",
        "",
        "![Peak memory of a training step against the number of phases](figures/memory.png)",
        "",
        f"Peak MiB of one training step of EPGN in float32, 8 crops of 66×66, every case in a process of its own; "
        f"{machine(result['environment'])}.",
        "",
        "| | " + " | ".join(f"{count} phases" for count in phases) + " |",
        "|---|" + "---|" * len(phases),
    ]
    for way in dict.fromkeys(row["way"] for row in result["rows"]):
        lines.append(f"| `{way}` | " + " | ".join(f"{found[way, count]['mib']:.0f}" for count in phases) + " |")
    return "\n".join(lines)


def large(result: dict[str, Any]) -> str:
    """The large image."""
    (row,) = result["rows"]
    return section(
        "A large image",
        "python -m benchmarks.memory --large 9999 --json docs/performance/large.json",
        f"{row['megapixels']:.0f} megapixels by `epgn-cs25` in float32, in tiles: "
        f"{row['seconds'] / 60:.1f} minutes, {row['peak_mib']:.0f} MiB at the peak of the whole process, with "
        f"the image and the result; {machine(result['environment'])}.",
    )


def allocation(result: dict[str, Any]) -> str:
    """What keeping freed memory is worth."""
    lines = [
        "## Freed memory",
        "",
        "    python -m benchmarks.allocation --json docs/performance/allocation.json",
        "",
        f"`epgn-cs25` on an image of {result['side']}², in tiles, with and without "
        f"`unrolled.system.keep_freed_memory()`, which the commands call; {machine(result['environment'])}.",
        "",
        "| | | seconds | ratio | page faults |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        faults = f"{row['faults']:.2f} million"
        lines.append(f"| {row['type']} | {row['case']} | {row['seconds']:.1f} | {row['ratio']:.2f}× | {faults} |")
    return "\n".join(lines)


def imports(result: dict[str, Any]) -> str:
    """What importing costs."""
    seconds = result["seconds"]
    return section(
        "Importing",
        "python -m benchmarks.imports --json docs/performance/imports.json",
        f"`import unrolled` takes {seconds['unrolled']:.2f} s where `import torch` takes {seconds['torch']:.2f} s: "
        f"{result['ratio']:.2f}×; {machine(result['environment'])}.",
    )


def shrinking(result: dict[str, Any]) -> str:
    """How fast the proximal maps are."""
    return section(
        "Proximal maps",
        "python -m benchmarks.prox --peers --json docs/performance/prox.json",
        f"{machine(result['environment'])}; medians of {result['rounds']} rounds in which all take turns. Forward "
        "and backward, the maps select no data by a mask, which a CPU does not vectorise, but by rectifiers and "
        "signs; of a root only the gradient of its equation is kept, a single product. Those without a "
        "compiled figure are found numerically, in a search that depends on the data, and are "
        "timed on fewer numbers.",
        prox.tables(result),
    )


def sparsifying(result: dict[str, Any]) -> str:
    """What strategies cost in training, and what compacting gains."""
    return section(
        "Sparse weights",
        "python -m benchmarks.sparsify --peers --json docs/performance/sparsify.json",
        f"{machine(result['environment'])}; medians of {result['rounds']} rounds of {result['steps']} steps, in "
        "which all variants of an optimiser take turns. Strengths are so small that all networks stay dense. Peers "
        "do the same where their name says so: torchao's wrapper of an optimiser has a proximal map with the step "
        "of gradient descent, also for Adam; Torch-Pruning adds a subgradient of l1 to that of norms' scales.",
        sparsify.tables(result),
    )


def beside_deepinv(result: dict[str, Any]) -> str:
    """Three unrolled networks beside the same ones of deepinv."""
    return section(
        "MoDL, a variational network and unfolded ADMM",
        "python -m benchmarks.unfolded --json docs/performance/unfolded.json",
        f"{machine(result['environment'])}; medians of {result['rounds']} rounds in which all take turns, quartiles in "
        f"brackets. Both sides have the same weights (a denoiser of {unfolded.DEPTH} convolutions with "
        f"{unfolded.FEATURES} maps, {unfolded.PHASES} phases), solve their systems to the same accuracy and make the "
        f"same image of {unfolded.SIDE}², which is looked at first.",
        unfolded.table(result["rows"]),
    )


SECTIONS = {
    "unfolded": beside_deepinv,
    "prox": shrinking,
    "sparsify": sparsifying,
    "convolutions": thin,
    "memory": memory,
    "large": large,
    "allocation": allocation,
    "imports": imports,
}


def page() -> str:
    """The page, of all figures there are."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))}
    parts = [(FIGURES / "introduction.md").read_text().strip()]
    parts += [*(throughput(name, found[name]) for name in ("cpu", "cpu-amd")), on_a_gpu(found.get("gpu"))]
    parts += [made(found[name]) for name, made in SECTIONS.items() if name in found]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    with replacing(PAGE) as temporary:
        temporary.write_text(page())
    print(f"wrote {PAGE}; README shows\n\n{summary(json.loads((FIGURES / 'cpu.json').read_text()))}")
