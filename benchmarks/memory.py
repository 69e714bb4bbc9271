"""Memory of training against phases, for every way to differentiate; and of reconstructing a large image in tiles.

python -m benchmarks.memory --json docs/performance/memory.json --figure docs/figures/memory.png
python -m benchmarks.memory --large 9999 --json docs/performance/large.json
"""

import argparse
import subprocess
import sys
import time
from typing import Any

import torch

import unrolled
from benchmarks import command
from benchmarks.machine import peak_resident
from unrolled.networks import EPGN, Differentiation, Implicit, Recompute, Unroll
from unrolled.operators import BlockCompressedSensing
from unrolled.system.files import check_writable, replacing
from unrolled.system.memory import keep_freed_memory

WAYS: dict[str, Differentiation] = {
    "Unroll()": Unroll(),
    "Recompute(every=3)": Recompute(3),
    "Recompute(every=1)": Recompute(1),
    "Implicit(iterations=10)": Implicit(iterations=10),
}
PHASES = (1, 3, 6, 9, 12, 18, 24)
BATCH, CROP = 8, 66


def step(way: str, phases: int) -> tuple[float, float]:
    """One step of training in this process: MiB at its peak beyond what was loaded before, and seconds."""
    torch.manual_seed(0)
    small = EPGN(
        phases=1, features=2, shared=True, differentiation=WAYS[way]
    )  # what is imported on the way is not ours
    operator = BlockCompressedSensing(ratio=0.25, block=11)
    x = torch.rand(1, 1, 11, 11)
    small.loss(x, operator(x), operator).backward()
    network = EPGN(phases=phases, shared=True, differentiation=WAYS[way]).to(memory_format=torch.channels_last)
    operator = BlockCompressedSensing(ratio=0.25)
    x = torch.rand(BATCH, 1, CROP, CROP)
    network.start(operator(x), operator)  # its estimator is made once, and is not what is measured
    before = peak_resident()
    began = time.perf_counter()
    network.loss(x, operator(x), operator).backward()
    return (peak_resident() - before) / 2**20, time.perf_counter() - began


def measure() -> list[dict[str, Any]]:
    """Every way and number of phases, each in a process of its own."""
    rows = []
    for way in WAYS:
        for phases in PHASES:
            argv = [sys.executable, "-m", "benchmarks.memory", "--step", way, str(phases)]
            out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
            mib, seconds = map(float, out.split())
            rows.append({"way": way, "phases": phases, "mib": mib, "seconds": seconds})
            print(f"{way:<26} {phases:3} phases {mib:8.0f} MiB {seconds:7.2f} s", flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Memory against phases."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="phases", ylabel="peak memory of a training step (MiB)")
    for way in WAYS:
        points = [(row["phases"], row["mib"]) for row in rows if row["way"] == way]
        axes.plot(*zip(*points, strict=True), "o-", markersize=4, label=way)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def large(side: int, bfloat16: bool) -> dict[str, Any]:
    """Reconstruct an image of side² pixels with the shipped weights."""
    ramp = torch.linspace(0, 1, side)
    image = (
        0.5 + 0.25 * torch.sin(40 * ramp)[:, None] * torch.cos(90 * ramp)[None, :] + 0.2 * ramp[None, :]
    ).unsqueeze(0)
    network, operator = unrolled.load("epgn-cs25")
    keep_freed_memory()  # as the commands of the package do
    began = time.perf_counter()
    found = unrolled.reconstruct(image, network, operator, bfloat16=bfloat16, progress=True)
    seconds = time.perf_counter() - began
    assert found.shape == image.shape
    error = max(float((a - b).abs().max()) for a, b in zip(found[0].split(512), image[0].split(512), strict=True))
    row = {"megapixels": side**2 / 1e6, "seconds": seconds, "peak_mib": peak_resident() / 2**20, "largest_error": error}
    print(f"{row['megapixels']:.1f} megapixels: {seconds:.0f} s, at most {row['peak_mib']:.0f} MiB in all")
    return row


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--figure", default=None, help="draw memory against phases into this file")
    parser.add_argument(
        "--large", type=int, default=None, metavar="SIDE", help="reconstruct an image of so many pixels squared"
    )
    parser.add_argument("--bfloat16", action="store_true", help="of the large image")
    parser.add_argument("--step", nargs=2, metavar=("WAY", "PHASES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(*step(options.step[0], int(options.step[1])))
        return
    if options.figure is not None:
        check_writable(options.figure)
    rows = measure() if options.large is None else [large(options.large, options.bfloat16)]
    if options.figure is not None:
        draw(rows, options.figure)
    command.write(options.json, {"rows": rows})


if __name__ == "__main__":
    main()
