"""What pays per second of training? FeaturePGN with one thing changed at a time, for equal processor time.

    python -m benchmarks.variants --train T91 BSD400 --minutes 5 --seeds 0 1 --json docs/variants.json

trains every variant for block compressive sensing at 25 % with one thread, and compares them on images that are held
out. What is finished in the folder is not done again, a training that was stopped goes on; `--only` picks some. With
`--json docs/variants.json` the figures also go into docs/networks.md.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import unrolled
from benchmarks import command
from benchmarks.report import machine
from unrolled.data import ImageData
from unrolled.networks import FeaturePGN
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import L1

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
FIGURES = PAGE.with_name("variants.json")
BEGIN, END = "<!-- variants -->", "<!-- end of variants -->"
HELD_OUT = 12


@dataclass(frozen=True)
class Variant:
    """What is changed.

    Parameters
    ----------
    network : dict
        of arguments of FeaturePGN.
    loss : str or dict
        as `unrolled.fit` takes it.
    crop, batch : int
    rate : float
        learning rate.
    """

    network: dict[str, Any] = field(default_factory=dict)
    loss: Any = "log_mse"
    crop: int = 66
    batch: int = 8
    rate: float = 1.2e-3


AS_IT_IS = "as it is"
SIZES = {"phases": 6, "features": 64, "blocks": 2, "penalty": L1()}
VARIANTS = {
    AS_IT_IS: Variant(),
    "mean squared error": Variant(loss="mse"),
    "mean absolute error": Variant(loss="l1"),
    "loss over all phases": Variant(loss={"log_mse": 1.0, "phases": 0.5}),
    "ReLU instead of the shrinkage": Variant({"penalty": None}),
    "nothing handed on (gate 0)": Variant({"gate": 0.0}),
    "gates start at 1": Variant({"gate": 1.0}),
    "proximal data steps": Variant({"proximal": True, "step": 0.1}),
    "shared weights": Variant({"shared": True}),
    "32 features": Variant({"features": 32}),
    "96 features": Variant({"features": 96}),
    "1 block": Variant({"blocks": 1}),
    "3 blocks": Variant({"blocks": 3}),
    "4 phases": Variant({"phases": 4}),
    "9 phases": Variant({"phases": 9}),
    "a third of the resolution": Variant({"scale": 3, "features": 96}),
    "crops of 33": Variant(crop=33, batch=32),
    "crops of 99": Variant(crop=99, batch=4),
    "crops of 132": Variant(crop=132, batch=2),
    "4 crops": Variant(batch=4),
    "16 crops": Variant(batch=16),
    "half of the rate": Variant(rate=6e-4),
    "twice the rate": Variant(rate=2.4e-3),
}


def run(name: str, seed: int, options: Any) -> dict[str, Any]:
    """The figures of one variant, trained unless it was."""
    folder = options.out / f"{name}-{seed}".replace(" ", "-")
    return command.once(folder / "result.json", lambda: trained(name, seed, options, folder))


def trained(name: str, seed: int, options: Any, folder: Path) -> dict[str, Any]:
    """The figures of one variant after training."""
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    network, operator = FeaturePGN(**{**SIZES, **variant.network}), BlockCompressedSensing(ratio=0.25)
    images, held_out = ImageData(train=options.train, hold_out=HELD_OUT, crop=variant.crop).load(operator.multiple)
    training = unrolled.TrainingOptions(
        minutes=options.minutes, clock="process", batch=variant.batch, learning_rate=variant.rate, average=0.99,
        bfloat16=options.bfloat16, compile=False, validations=5, checkpoint_minutes=1,
    )  # fmt: skip
    goes_on = (folder / "last.pt").exists()
    unrolled.fit(
        network, operator, images, training, validation=held_out, crop=variant.crop, loss=variant.loss, seed=seed,
        folder=folder, resume=goes_on, progress=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = {"variant": name, "seed": seed, "parameters": network.parameter_count, "steps": lines[-1]["steps"]}
    return {**found, "psnr": max(line["psnr"] for line in lines)}


def by_variant(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each variant."""
    return {name: found for name in VARIANTS if (found := [row for row in rows if row["variant"] == name])}


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each variant, with what it is beside the network as it is, at the same seeds."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"| | {' | '.join(f'seed {seed}' for seed in seeds)} | beside it | parameters | steps |",
        "|---|" + "---:|" * (len(seeds) + 3),
    ]
    base = {row["seed"]: row["psnr"] for row in rows if row["variant"] == AS_IT_IS}
    for name, found in by_variant(rows).items():
        scores = {row["seed"]: row["psnr"] for row in found}
        gains = [score - base[seed] for seed, score in scores.items() if seed in base]
        beside = f"{mean(gains):+.2f}" if gains and name != AS_IT_IS else ""
        cells = [f"{scores[seed]:.2f}" if seed in scores else "" for seed in seeds]
        steps = round(mean(row["steps"] for row in found))
        lines.append(f"| {name} | {' | '.join(cells)} | {beside} | {found[0]['parameters']:,} | {steps:,} |")
    return "\n".join(lines)


def section(result: dict[str, Any]) -> str:
    """The part of docs/networks.md that is made of figures."""
    return "\n\n".join(
        [
            "    python -m benchmarks.variants --train T91 BSD400 --json docs/variants.json",
            f"`FeaturePGN` with one thing changed at a time, {result['minutes']:g} minutes of one core each: PSNR in "
            f"dB on {HELD_OUT} held-out images, block compressive sensing at 25 %; {machine(result['environment'])}. "
            "As it is: 6 phases of two blocks of 64 features with soft shrinkage, 8 crops of 66×66 a step, "
            "`loss: log_mse`, a learning rate of 1.2e-3.",
            table(result["rows"]),
        ]
    )


def main(argv: list[str] | None = None) -> None:
    """Train what is asked for, print, and write."""
    parser = command.parser(__doc__)
    parser.add_argument("--train", nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the processor, for each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of first weights and crops")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--no-bfloat16", dest="bfloat16", action="store_false")
    parser.add_argument("--out", type=Path, default=Path("runs/variants"))
    options = parser.parse_args(argv)
    command.end_with_parent()
    torch.set_num_threads(1)
    rows = []
    for seed in options.seeds:
        for name in options.only:
            rows.append(run(name, seed, options))
            print(f"{name}, seed {seed}: {rows[-1]['psnr']:.2f} dB, {rows[-1]['steps']:,} steps", flush=True)
    print(table(rows))
    command.write(options.json, {"minutes": options.minutes, "rows": rows})
    if options.json is not None and options.json.resolve() == FIGURES:
        command.put(PAGE, section(json.loads(FIGURES.read_text())), BEGIN, END)


if __name__ == "__main__":
    main()
