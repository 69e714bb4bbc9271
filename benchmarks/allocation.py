"""What it is worth to keep freed memory: an image of 1584² reconstructed with and without, in processes in turns.

python -m benchmarks.allocation --json docs/performance/allocation.json
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch

import unrolled
from benchmarks import command
from unrolled.system.memory import keep_freed_memory

SIDE = 1584
CASES = {"as it is": False, "keep_freed_memory()": True}


def one(keep: bool, bfloat16: bool) -> None:
    """Print seconds, and millions of page faults, of a reconstruction in this process."""
    assert not keep or keep_freed_memory()
    network, operator = unrolled.load("epgn-cs25")
    image = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    unrolled.reconstruct(image[:, :264, :264], network, operator, bfloat16=bfloat16)
    faults, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    unrolled.reconstruct(image, network, operator, bfloat16=bfloat16)
    seconds = time.perf_counter() - began
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / 1e6)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*(value == "True" for value in options.one))
        return
    found: dict[tuple[bool, str], list[list[float]]] = {}
    for _ in range(options.rounds):
        for bfloat16 in (False, True):
            for name, keep in CASES.items():
                argv = [sys.executable, "-m", "benchmarks.allocation", "--one", str(keep), str(bfloat16)]
                out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
                found.setdefault((bfloat16, name), []).append([float(part) for part in out.split()])
    rows = []
    for (bfloat16, name), runs in found.items():
        seconds, faults = (statistics.median(column) for column in zip(*runs, strict=True))
        first = statistics.median(run[0] for run in found[bfloat16, "as it is"])
        kind = "bfloat16" if bfloat16 else "float32"
        rows.append({"type": kind, "case": name, "seconds": seconds, "faults": faults, "ratio": first / seconds})
        print(f"{kind:<9} {name:<20} {seconds:6.1f} s  {first / seconds:5.2f}×  {faults:6.2f} million page faults")
    command.write(options.json, {"side": SIDE, "rows": rows})


if __name__ == "__main__":
    main()
