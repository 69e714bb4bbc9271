"""How fast the networks of the sparsified EPGN are, beside the dense one.

python -m benchmarks.papers.circle_times --figures docs/papers/circle.json --json docs/papers/circle-times.json

All take turns in one process, each as it is used: fused, without gradients.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import command
from benchmarks.machine import interleaved
from unrolled.networks import EPGN, UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.system.memory import keep_freed_memory
from unrolled.weights.card import read_card
from unrolled.weights.networks import load

SHIPPED = ("epgn-cs25", "epgn-cs25-small")
TASKS = {"one image of 264×264": (1, 264), "8 crops of 66×66": (8, 66)}
TYPES = ("float32", "bfloat16")


def networks(figures: dict[str, Any]) -> dict[str, UnrolledNetwork]:
    """The shipped ones, and those of the study, which are as fast with any weights."""
    found = {name: load(name)[0] for name in SHIPPED}
    for row in figures["runs"]:
        settings = row["settings"]["network"]["init_args"]
        if row["name"].startswith("small-"):
            found[row["name"]] = EPGN(phases=settings["phases"], features=settings["features"])
            found[row["name"]].start.load_state_dict(found[SHIPPED[0]].start.state_dict())
    return found


def runner(network: UnrolledNetwork, operator: LinearOperator, y: torch.Tensor, kind: str) -> Callable[[], Any]:
    """One reconstruction."""
    fused = network.fuse()

    def run() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if kind == "bfloat16" else nullcontext():
            fused(y, operator)

    return run


def convolution(inputs: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of 3×3 convolutions of so many maps of an image to 16, to 17 and to 32, in float32."""
    x = torch.rand(1, inputs, 264, 264).to(memory_format=torch.channels_last)
    kernels = {str(outputs): torch.rand(outputs, inputs, 3, 3) for outputs in (16, 17, 32)}
    timed = interleaved(
        {name: lambda kernel=kernel: F.conv2d(x, kernel, padding=1) for name, kernel in kernels.items()},
        torch.device("cpu"),
        rounds,
    )
    return {
        "inputs": inputs,
        "milliseconds": {name: 1000 * seconds["median"] for name, seconds in timed.items()},
    }


def facts(name: str) -> dict[str, Any]:
    """What the card of shipped weights says."""
    card = read_card(name)
    kept = {key: card[key] for key in ("parameters", "step", "validation", "evaluation", "sha256")}
    return {**kept, "features": card["network"]["init_args"]["features"]}


def measure(figures: dict[str, Any], rounds: int) -> dict[str, Any]:
    """All figures, as plain values."""
    every, operator = networks(figures), load(SHIPPED[0])[1]
    generator = torch.Generator().manual_seed(0)
    rows = []
    for task, (batch, side) in TASKS.items():
        y = operator(torch.rand(batch, 1, side, side, generator=generator))
        for kind in TYPES:
            runs = {name: runner(network, operator, y, kind) for name, network in every.items()}
            timed = interleaved(runs, torch.device("cpu"), rounds)
            for name, seconds in timed.items():
                speedup = timed[SHIPPED[0]]["median"] / seconds["median"]
                milliseconds = {key: 1000 * value for key, value in seconds.items()}
                rows.append(
                    {"task": task, "type": kind, "name": name, "milliseconds": milliseconds, "speedup": speedup}
                )
                print(f"{task:<22} {kind:<9} {name:<20} {milliseconds['median']:8.1f} ms  {speedup:5.2f}×", flush=True)
    dense = every[SHIPPED[0]]
    assert isinstance(dense, EPGN)
    return {
        "rounds": rounds,
        "shipped": {name: facts(name) for name in SHIPPED},
        "convolution": convolution(32, rounds),
        "folded_parameters": dense.compacted().parameter_count,
        "parameters": {name: network.parameter_count for name, network in every.items()},
        "rows": rows,
    }


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--figures", type=Path, required=True, metavar="FILE", help="the study's JSON")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    keep_freed_memory()
    command.write(options.json, measure(json.loads(options.figures.read_text()), options.rounds))


if __name__ == "__main__":
    main()
