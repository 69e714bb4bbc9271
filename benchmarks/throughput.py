"""Training and reconstruction of EPGN and ISTA-Net+ beside a plain implementation of the same networks.

    python -m benchmarks.throughput --json docs/performance/cpu.json

Everything is timed in turn in one process; peak memory is that of a process of its own (on a GPU: of the allocator).
`python -m benchmarks.report` makes docs/performance.md of the JSON files.
"""

import argparse
import copy
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import command
from benchmarks.machine import Demand, ceilings, interleaved, peak_resident
from benchmarks.plain import Plain
from unrolled import load
from unrolled.data import RandomCrops, embedded_images
from unrolled.metrics import psnr
from unrolled.networks import ISTANetPlus, UnrolledNetwork
from unrolled.operators import BlockCompressedSensing
from unrolled.reconstruction.pipeline import pad

BATCH, CROP, SIDE = 8, 66, 264  # training crops; a 256×256 image padded to whole blocks
TASKS = ("training", "reconstruction")
PLAIN = "plain, float32"
VARIANTS = {
    PLAIN: {},
    "unrolled, float32": {},
    "unrolled, bfloat16": {"bfloat16": True},
    "unrolled, float32, channels first": {"channels_last": False},
    "unrolled, bfloat16, channels first": {"bfloat16": True, "channels_last": False},
    "unrolled, float32, compiled": {"compile": True},
    "unrolled, bfloat16, compiled": {"bfloat16": True, "compile": True},
    "deepinv, float32": {},
}


def networks(device: torch.device) -> Iterator[tuple[str, UnrolledNetwork, BlockCompressedSensing]]:
    """EPGN with the shipped weights, and ISTA-Net+ after a minute of training: away from where its maps are zero."""
    epgn, operator = load("epgn-cs25", str(device))
    assert isinstance(operator, BlockCompressedSensing)
    images = list(embedded_images("train").values())
    operator.fit_images(images)
    yield "EPGN", epgn, operator
    torch.manual_seed(0)
    ista = ISTANetPlus().to(device)
    crops, optimizer = RandomCrops(images, CROP, seed=0), torch.optim.Adam(ista.parameters(), lr=1e-3)
    for step in range(100):
        x = crops.batch(step, BATCH).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            loss = ista.loss(x, operator(x), operator)
        loss.backward()
        nn.utils.clip_grad_norm_(ista.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    yield "ISTA-Net+", ista, operator


def variant(name: str, network: UnrolledNetwork, operator: BlockCompressedSensing, task: str) -> nn.Module:
    """A copy of a network in the form that a variant names."""
    how = VARIANTS[name]
    if name == PLAIN:
        made: nn.Module = Plain(network)
    elif name.startswith("deepinv"):
        from benchmarks.peers import DeepinvISTA

        made = DeepinvISTA(Plain(network), operator)
    else:
        made = network.fuse() if task == "reconstruction" else copy.deepcopy(network)
        layout = torch.channels_last if how.get("channels_last", True) else torch.contiguous_format
        made = made.to(memory_format=layout)
    return made.train(task == "training")


def runner(name: str, network: nn.Module, operator: BlockCompressedSensing, task: str, x: Tensor) -> Callable[[], Any]:
    """One step of training, or one reconstruction, of a variant."""
    bfloat16, compile_it = (VARIANTS[name].get(switch, False) for switch in ("bfloat16", "compile"))
    compiled = functools.partial(torch.compile, fullgraph=True, dynamic=False)

    def autocast() -> Any:
        return torch.autocast(x.device.type, torch.bfloat16) if bfloat16 else nullcontext()

    if task == "reconstruction":
        y = operator(x)
        with torch.no_grad():
            network.start(y, operator)  # its estimator is made once, outside of any graph
        forward = compiled(network) if compile_it else network

        def reconstruct() -> Tensor:
            with torch.no_grad(), autocast():
                return forward(y, operator)

        return reconstruct

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6)
    with torch.no_grad():
        network.start(operator(x), operator)
    loss_of = compiled(network.loss) if compile_it else network.loss

    def train() -> None:
        with autocast():
            loss = loss_of(x, operator(x), operator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return train


def applies(name: str, kind: str, task: str, chosen: set[str]) -> bool:
    """Whether a variant is measured for a network and a task."""
    if name.startswith("deepinv"):
        # Its prior takes no second output, so the symmetry term of the loss is left out: reconstruction only.
        return "deepinv" in chosen and kind == "ISTA-Net+" and task == "reconstruction"
    return "compile" in chosen or not VARIANTS[name].get("compile")


def quality(network: nn.Module, operator: BlockCompressedSensing, bfloat16: bool, device: torch.device) -> float:
    """Mean PSNR in dB over the embedded test images."""
    values = []
    for image in embedded_images("test").values():
        x = image.unsqueeze(0).to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            found = network(operator(pad(x, operator.multiple)), operator)[..., : x.shape[-2], : x.shape[-1]]
        values.append(float(psnr(found, x)))
    return sum(values) / len(values)


def inputs(task: str, device: torch.device) -> Tensor:
    """Images to train on or to reconstruct."""
    generator = torch.Generator().manual_seed(0)
    size = (BATCH, 1, CROP, CROP) if task == "training" else (1, 1, SIDE, SIDE)
    return torch.rand(size, generator=generator).to(device)


def peak_memory(name: str, kind: str, task: str, device: torch.device) -> float:
    """MiB that a variant takes at its peak beyond what is loaded before its first step."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        one(name, kind, task, device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    argv = [sys.executable, "-m", "benchmarks.throughput", "--peak-of", name, kind, task]
    return float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[-1])


def one(name: str, kind: str, task: str, device: torch.device) -> None:
    """Two steps of a variant of an untrained network."""
    operator = BlockCompressedSensing(ratio=0.25).to(device)
    network = load("epgn-cs25", str(device))[0] if kind == "EPGN" else ISTANetPlus().to(device)
    run = runner(name, variant(name, network, operator, task), operator, task, inputs(task, device))
    run()
    run()


def measure(device: torch.device, rounds: int, chosen: set[str], keep: Callable[[dict[str, Any]], None]) -> None:
    """All figures, as plain values, kept anew with every row."""
    machine = ceilings(device)
    rows: list[dict[str, Any]] = []
    for kind, network, operator in networks(device):
        for task in TASKS:
            x = inputs(task, device)
            names = [name for name in VARIANTS if applies(name, kind, task, chosen)]
            models = {name: variant(name, network, operator, task) for name in names}
            runs = {name: runner(name, model, operator, task, x) for name, model in models.items()}
            if task == "reconstruction":
                difference = float((runs["unrolled, float32"]() - runs[PLAIN]()).abs().max())
                assert difference < 1e-4, difference
            times = interleaved(runs, device, rounds)
            for name in names:
                eager = name.removesuffix(", compiled")  # which asks for the same arithmetic; a graph cannot be counted
                with Demand() as demand:
                    runner(eager, variant(eager, network, operator, task), operator, task, x)()
                count, seconds = len(x), times[name]
                row = {
                    "network": kind,
                    "task": task,
                    "variant": name,
                    "images_per_second": {key: count / seconds[key] for key in ("low", "median", "high")},
                    "ratio": times[PLAIN]["median"] / seconds["median"],
                    "peak_mib": peak_memory(name, kind, task, device),
                    "gflop_per_image": demand.arithmetic / count / 1e9,
                }
                if name == eager:
                    row |= {
                        "mb_per_image": demand.traffic / count / 1e6,
                        "of_bound": demand.bound(machine) / seconds["median"],
                    }
                if task == "reconstruction":
                    row["psnr"] = quality(models[name], operator, VARIANTS[name].get("bfloat16", False), device)
                rows.append(row)
                print(line(row, machine), flush=True)
                keep({"rounds": rounds, "ceilings": machine, "rows": rows})


def of_product(row: dict[str, Any], machine: dict[str, float]) -> float:
    """The arithmetic a second, as a part of that of a large matrix product in the same precision."""
    kind = "bfloat16" if VARIANTS[row["variant"]].get("bfloat16") else "float32"
    return row["gflop_per_image"] * 1e9 * row["images_per_second"]["median"] / machine[kind]


def line(row: dict[str, Any], machine: dict[str, float]) -> str:
    """A row of the table that is printed."""
    speed = row["images_per_second"]
    bound = f"{row['of_bound']:6.0%}" if "of_bound" in row else "     –"
    quality = f"{row['psnr']:7.2f} dB" if "psnr" in row else ""
    return (
        f"{row['network']:<10} {row['task']:<15} {row['variant']:<36} {speed['median']:8.2f} images/s "
        f"({min(speed['low'], speed['high']):.2f}–{max(speed['low'], speed['high']):.2f})  "
        f"{row['ratio']:5.2f}×  {row['peak_mib']:7.0f} MiB  {of_product(row, machine):6.0%}  {bound}  {quality}"
    )


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="also compiled; takes minutes more")
    parser.add_argument("--deepinv", action="store_true", help="also deepinv's unfolded proximal gradient")
    parser.add_argument("--peak-of", nargs=3, metavar=("VARIANT", "NETWORK", "TASK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.peak_of:
        name, kind, task = options.peak_of
        before = peak_resident()
        one(name, kind, task, device)
        print((peak_resident() - before) / 2**20)
        return
    chosen = {name for name in ("compile", "deepinv") if getattr(options, name)}
    measure(device, options.rounds, chosen, functools.partial(command.write, options.json))


if __name__ == "__main__":
    main()
