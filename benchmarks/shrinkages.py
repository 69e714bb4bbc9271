"""One EPGN for each shrinkage, trained alike: what does the penalty change?

python -m benchmarks.shrinkages --train FOLDER … --test FOLDER --steps 4000 --out runs/shrinkages

Every network has the same first weights, matrix, images, crops, schedule and number of steps; only the shrinkage
differs, and its parameters are learned. `--only` picks some of them, so that several processes can share the work; what
is finished is not done again, what was interrupted goes on. With `--json docs/shrinkages.json` the figures of all
finished runs go to that file, and from there into the tables of docs/shrinkages.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import unrolled
from benchmarks import command
from benchmarks.report import machine
from unrolled.data import ImageData
from unrolled.networks import EPGN
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import L1, MCP, LogSum, Lp, Penalty, TransformedL1
from unrolled.system.files import replacing, write_json
from unrolled.system.memory import keep_freed_memory
from unrolled.system.recipes import describe
from unrolled.training.runs.surroundings import environment

# Features are made by kernels that are learned too, and thresholds start at .01: the penalties start to bend at .1.
SHRINKAGES: dict[str, Penalty | list[Penalty]] = {
    "soft": L1(),
    "log-sum": LogSum(0.1),
    "MCP": MCP(1.0, 0.1),
    "l½": Lp(0.5),
    "transformed l1": TransformedL1(0.1),
    "mixture": [L1(), LogSum(0.1), MCP(1.0, 0.1)],
}
FIXED = {"l½"}
"""Whose parameters are not learned: l½ would become another lp."""
HOLD_OUT = 12
PAGE = Path(__file__).parents[1] / "docs" / "shrinkages.md"
FIGURES = PAGE.with_suffix(".json")
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def network(name: str, options: argparse.Namespace) -> EPGN:
    """The network with a shrinkage, of first weights that do not depend on it."""
    torch.manual_seed(options.seed)
    return EPGN(options.phases, options.features, penalty=SHRINKAGES[name], learn_penalty=name not in FIXED)


def run(name: str, options: argparse.Namespace) -> None:
    """Train one network to the end, from its checkpoint if it has one, and write its figures into its folder."""
    folder = options.out / f"{name.replace(' ', '-')}-{options.seed}"
    if (folder / "result.json").exists():
        return
    operator = BlockCompressedSensing(ratio=options.ratio)
    data = ImageData(train=options.train, hold_out=HOLD_OUT)
    images, held_out = data.load(operator.multiple)  # the same for every seed, so that their figures can be compared
    trained = network(name, options)
    training = unrolled.TrainingOptions(
        steps=options.steps,
        batch=options.batch,
        learning_rate=1.2e-3,
        warmup=min(200, options.steps // 10),
        average=0.995,
        bfloat16=options.bfloat16,
        validations=5,
    )
    print(f"{name}, seed {options.seed}: {trained.parameter_count:,} parameters", flush=True)
    figures = unrolled.fit(
        trained,
        operator,
        images,
        training,
        validation=held_out,
        crop=data.crop,
        folder=folder,
        seed=options.seed,
        resume=True,
        progress=options.progress,
    )
    found = unrolled.evaluate(trained, options.test, operator)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    result = {
        "name": name,
        "seed": options.seed,
        "steps": options.steps,
        "batch": options.batch,
        "crop": data.crop,
        "phases": options.phases,
        "features": options.features,
        "ratio": options.ratio,
        "bfloat16": options.bfloat16,
        "train": {"folders": [Path(source).name for source in options.train], "images": len(images)},
        "test": {"folder": Path(options.test).name, "images": {row["name"]: row["psnr"] for row in found["images"]}},
        "psnr": found["psnr"],
        "ssim": found["ssim"],
        "start_psnr": found["start_psnr"],
        "held_out_psnr": figures["psnr"],
        "skipped": last["skipped"],
        "seconds": last["seconds"],
        "environment": environment(),
        "learned": learned(trained),
    }
    write_json(folder / "result.json", result, indent=1)


def learned(trained: EPGN) -> list[list[dict[str, Any]]]:
    """What was learned in every phase: of every penalty its parameters, threshold and weight."""
    return [_learned(phase.prox.shrinkage) for phase in trained.sequence]  # type: ignore[union-attr]


@torch.no_grad()
def _learned(shrinkage: Shrinkage | ShrinkageMixture) -> list[dict[str, Any]]:
    mixture = isinstance(shrinkage, ShrinkageMixture)
    parts = list(shrinkage.shrinkages) if mixture else [shrinkage]
    weights = shrinkage.weights.tolist() if mixture else [1.0]
    return [
        {**describe(part.current_penalty), "threshold": float(part.threshold), "weight": weight}
        for part, weight in zip(parts, weights, strict=True)
    ]


def results(out: Path) -> list[dict[str, Any]]:
    """The figures of all finished runs, in the order of the shrinkages."""
    found = [json.loads(path.read_text()) for path in out.glob("*/result.json")]
    order = list(SHRINKAGES)
    return sorted(found, key=lambda row: (order.index(row["name"]), row["seed"]))


def table(rows: list[dict[str, Any]]) -> str:
    """A row for each run."""
    lines = [
        "| shrinkage | PSNR on the test images | against soft, same seed | SSIM | PSNR held out | seconds |",
        "|---|---|---|---|---|---|",
    ]
    soft = {row["seed"]: row["psnr"] for row in rows if row["name"] == "soft"}
    for row in rows:
        gain = f"{row['psnr'] - soft[row['seed']]:+.2f} dB" if row["seed"] in soft and row["name"] != "soft" else ""
        lines.append(
            f"| {row['name']}, seed {row['seed']} | {row['psnr']:.2f} dB | {gain} | {row['ssim']:.4f} "
            f"| {row['held_out_psnr']:.2f} dB | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def learned_table(rows: list[dict[str, Any]]) -> str:
    """What each network has learned, phase by phase."""
    lines = ["| shrinkage | in | " + " | ".join(f"phase {n + 1}" for n in range(rows[0]["phases"])) + " |"]
    lines.append("|" + "---|" * (2 + rows[0]["phases"]))
    for row in rows:
        for part in range(len(row["learned"][0])):
            phases = [phase[part] for phase in row["learned"]]
            label = f"{row['name']}, seed {row['seed']}"
            kind = phases[0]["class_path"]
            facts = {"threshold": [phase["threshold"] for phase in phases]}
            if len(row["learned"][0]) > 1:
                facts["weight"] = [phase["weight"] for phase in phases]
            for key in phases[0]["init_args"]:
                facts[key] = [phase["init_args"][key] for phase in phases]
            for fact, values in facts.items():
                lines.append(f"| {label} | {kind}: {fact} | " + " | ".join(f"{v:.3g}" for v in values) + " |")
    return "\n".join(lines)


def section(rows: list[dict[str, Any]]) -> str:
    """The part of docs/shrinkages.md that is made of figures."""
    first = rows[0]
    setting = (
        f"EPGN of {first['phases']} phases and {first['features']} features, {first['ratio']:.0%} of the measurements, "
        f"{first['steps']:,} steps of {first['batch']} crops of {first['crop']}×{first['crop']} from "
        f"{first['train']['images']} images ({', '.join(first['train']['folders'])}), tested on "
        f"{len(first['test']['images'])} images ({first['test']['folder']}), where the linear start has "
        f"{first['start_psnr']:.2f} dB; {machine(first['environment'])}."
    )
    seeds: dict[str, list[float]] = {}
    for row in rows:
        seeds.setdefault(row["name"], []).append(row["psnr"])
    spreads = [f"{name} {max(found) - min(found):.2f} dB" for name, found in seeds.items() if len(found) > 1]
    parts = [setting, table(rows)]
    if spreads:
        parts.append(f"Between seeds, with nothing else changed: {', '.join(spreads)}.")
    return "\n\n".join([*parts, "What was learned:", learned_table(rows)])


def page(rows: list[dict[str, Any]], text: str) -> str:
    """The page with the part between its marks made anew."""
    return command.with_part(text, section(rows), BEGIN, END)


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--train", nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--test", required=True, metavar="FOLDER")
    parser.add_argument("--steps", type=int, required=True, help="of training, the same for every network")
    parser.add_argument("--out", type=Path, required=True, help="a folder with one of its own for every run")
    parser.add_argument("--only", nargs="+", choices=list(SHRINKAGES), default=list(SHRINKAGES))
    parser.add_argument("--seed", type=int, default=0, help="of first weights and crops")
    parser.add_argument("--phases", type=int, default=5)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--progress", action="store_true")
    options = parser.parse_args(argv)
    keep_freed_memory()
    for name in options.only:
        run(name, options)
    rows = results(options.out)
    print(f"\n{table(rows)}\n\n{learned_table(rows)}")
    if options.json is not None:
        command.write(options.json, {"rows": rows})
        if options.json.resolve() == FIGURES:
            text = page(rows, PAGE.read_text())
            with replacing(PAGE) as temporary:
                temporary.write_text(text)
            print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
