"""Do feature maps that are handed from phase to phase pay? Networks of about the same size at equal steps.

    python -m benchmarks.carried --train T91 BSD400 --steps 500 --out runs/carried --json docs/carried.json

(with the folders of the two sets) trains each network on the same crops in the same order, measured block by block at
25 %, and compares them on images that were held out. FeaturePGN is trained as it is, without what is handed on, whose
gates then stay 0, and with gates that start elsewhere. What is finished in the folder is not done again; `--only` picks
some of them. With `--json docs/carried.json` the figures also go into docs/networks.md.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import unrolled
from benchmarks import command, family
from benchmarks.report import machine
from unrolled.data import ImageData
from unrolled.networks import EPGN, FeaturePGN, ISTANetPlus, UnrolledNetwork
from unrolled.operators import BlockCompressedSensing

FIGURES = family.PAGE.with_name("carried.json")
BEGIN, END = "<!-- carried -->", "<!-- end of carried -->"
HELD_OUT = 12


def nothing_handed_on(**options: Any) -> FeaturePGN:
    """FeaturePGN whose gates are 0 and stay so."""
    network = FeaturePGN(gate=0.0, **options)
    for phase in network.phases:
        phase.gate.requires_grad_(False)  # type: ignore[union-attr, operator]
    return network


SMALL = {"phases": 5, "features": 21, "blocks": 1}
NETWORKS: dict[str, tuple[Callable[[], UnrolledNetwork], float]] = {
    "EPGN": (lambda: EPGN(phases=5, features=16), 4e-3),
    "ISTANetPlus": (lambda: ISTANetPlus(phases=5, features=16), 4e-3),
    "FeaturePGN": (lambda: FeaturePGN(**SMALL), 2e-3),
    "FeaturePGN, nothing handed on": (lambda: nothing_handed_on(**SMALL), 2e-3),
    "FeaturePGN, gates start at 0": (lambda: FeaturePGN(gate=0.0, **SMALL), 2e-3),
    "FeaturePGN, gates start at 1": (lambda: FeaturePGN(gate=1.0, **SMALL), 2e-3),
}
"""How each is made, and its learning rate."""


def run(name: str, train: list[str], steps: int, seed: int, out: Path) -> dict[str, Any]:
    """The figures of one network, trained unless it was."""
    folder = out / f"{name.replace(' ', '-').replace(',', '')}-{seed}-{steps}"
    return command.once(folder / "result.json", lambda: trained(name, train, steps, seed, folder))


def trained(name: str, train: list[str], steps: int, seed: int, folder: Path) -> dict[str, Any]:
    """The figures of one network after training."""
    make, rate = NETWORKS[name]
    torch.manual_seed(seed)
    network, operator = make(), BlockCompressedSensing(ratio=0.25)
    data = ImageData(train=train, hold_out=HELD_OUT)
    images, held_out = data.load(operator.multiple)
    training = unrolled.TrainingOptions(
        steps=steps, batch=4, learning_rate=rate, warmup=steps // 10, average=0.98, validations=1
    )
    began = time.process_time()
    figures = unrolled.fit(
        network, operator, images, training, validation=held_out, crop=66, folder=folder, seed=seed, resume=True,
        progress=False,
    )  # fmt: skip
    return {
        "network": name,
        "seed": seed,
        "parameters": network.parameter_count,
        "start": figures["start_psnr"],
        "psnr": figures["psnr"],
        "seconds": round(time.process_time() - began),
        "gates": [float(phase.gate.abs().mean()) for phase in network.phases if hasattr(phase, "gate")],
    }


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    gates = ", ".join(f"{gate:.2f}" for gate in found["gates"][1:])
    return (
        f"| {found['network']} | {found['seed']} | {found['parameters']:,} | {found['psnr']:.2f} | "
        f"{found['psnr'] - found['start']:+.2f} | {found['seconds']} | {gates} |"
    )


def section(result: dict[str, Any]) -> str:
    """The part of docs/networks.md that is made of figures."""
    return "\n".join(
        [
            f"Block compressive sensing at 25 %, {result['steps']} steps of 4 crops of 66×66 of {result['train']}, "
            f"{HELD_OUT} images held out; {machine(result['environment'])}.",
            "",
            "| network | seed | parameters | PSNR, dB | above the start | seconds of one core | mean absolute gates of "
            "phases 2, 3, … |",
            "|---|---|---:|---:|---:|---:|---|",
            *(row(each) for each in result["rows"]),
        ]
    )


def main(argv: list[str] | None = None) -> None:
    """Train what is asked for, print, and write."""
    parser = command.parser(__doc__)
    parser.add_argument("--train", nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of first weights and crops")
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--out", type=Path, default=Path("runs/carried"))
    options = parser.parse_args(argv)
    rows = []
    for seed in options.seeds:
        for name in options.only:
            rows.append(run(name, options.train, options.steps, seed, options.out))
            print(row(rows[-1]), flush=True)
    names = " and ".join(Path(source).name for source in options.train)
    command.write(options.json, {"steps": options.steps, "train": names, "rows": rows})
    if options.json is not None and options.json.resolve() == FIGURES:
        command.put(family.PAGE, section(json.loads(FIGURES.read_text())), BEGIN, END)


if __name__ == "__main__":
    main()
