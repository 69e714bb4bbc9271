"""What does a network lose that is trained for a range of operators? One for all beside one for each.

    python -m benchmarks.ranges --t91 T91 --bsd400 BSD400 --set11 Set11 --minutes 10 --out runs/ranges \\
        --json docs/ranges.json

trains EPGN and FeaturePGN for block compressive sensing and for radial masks, for ratios of 10 to 50 % that are drawn
in every step and told to the network, and for each of three ratios alone, each for the same processor time with one
thread. All are then measured at all ratios on Set11. What is finished in the folder is not done again, a training that
was stopped goes on; options pick problems, networks and ratios. With `--json docs/ranges.json` the figures also go
into docs/operators.md.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import unrolled
from benchmarks import command
from benchmarks.report import machine
from unrolled.data import ImageData
from unrolled.networks import EPGN, FeaturePGN, UnrolledNetwork
from unrolled.operators import BlockCompressedSensing, DrawnOperator, LinearOperator, MaskedFourier, RadialMask

PAGE = Path(__file__).parents[1] / "docs" / "operators.md"
FIGURES = PAGE.with_name("ranges.json")
BEGIN, END = "<!-- ranges -->", "<!-- end of ranges -->"
ALONE = (0.25, 0.1, 0.5)
"""Ratios that a network is trained for alone."""

BETWEEN = 1 / 3
"""A ratio that nothing was trained for, measured with another matrix."""

HELD_OUT = 8
RATE = 1.2e-3
SIZES = {"phases": 6, "features": 32}


@dataclass(frozen=True)
class Problem:
    """What is measured, with one argument that is drawn.

    Parameters
    ----------
    title : str
    train : tuple of str
        names of the training sets.
    crop, batch : int
    make : callable ratio, seed ↦ LinearOperator
        for images of 256 × 256.
    ranges : dict
        of `DrawnOperator`.
    """

    title: str
    train: tuple[str, ...]
    crop: int
    batch: int
    make: Callable[[float, int], LinearOperator]
    ranges: dict[str, Any]


EVERY = [number / 100 for number in range(10, 51, 5)]
PROBLEMS = {
    "cs": Problem(
        "block compressive sensing",
        ("t91", "bsd400"),
        66,
        8,
        lambda ratio, seed: BlockCompressedSensing(ratio=ratio, seed=seed),
        {"ratio": {"choices": EVERY}},
    ),
    "radial": Problem(
        "Fourier samples on radial lines",
        ("bsd400",),
        96,
        4,
        lambda ratio, seed: MaskedFourier(RadialMask(ratio), 256, 256),
        {"mask.ratio": [0.1, 0.5]},
    ),
}
NETWORKS: dict[str, Callable[..., UnrolledNetwork]] = {
    "EPGN": lambda **how: EPGN(**SIZES, **how),
    "FeaturePGN": lambda **how: FeaturePGN(**SIZES, blocks=2, **how),
}


def run(name: str, network_name: str, ratio: float | None, options: Any) -> dict[str, Any]:
    """The figures of one network on a problem, trained for a ratio or for all of them, unless it was."""
    folder = options.out / f"{name}-{network_name}-{'drawn' if ratio is None else f'{ratio:g}'}"
    return command.once(folder / "result.json", lambda: trained(name, network_name, ratio, options, folder))


def trained(name: str, network_name: str, ratio: float | None, options: Any, folder: Path) -> dict[str, Any]:
    """The figures of one network after training."""
    problem = PROBLEMS[name]
    torch.manual_seed(0)
    network = NETWORKS[network_name](**({"ratio_range": (EVERY[0], EVERY[-1])} if ratio is None else {}))
    # For crops the operator is made anew, so that one ratio is a draw of one.
    ranges = problem.ranges if ratio is None else {}
    drawn = DrawnOperator(problem.make(ratio or ALONE[0], 0), ranges)
    images, held_out = ImageData(
        train=[getattr(options, each) for each in problem.train], hold_out=HELD_OUT, crop=problem.crop
    ).load(drawn.multiple)
    drawn.fit_images(images.spread())
    few = [each for each in ranges.values() if "choices" in each]
    for step in range(100 * len(few)):  # matrices that are kept are drawn now, and not in the steps that are timed
        drawn.in_training(0, step, 0, (problem.crop, problem.crop))
    training = unrolled.TrainingOptions(
        minutes=options.minutes, clock="process", batch=problem.batch, learning_rate=RATE, average=0.99,
        bfloat16=options.bfloat16, compile=False, validations=5, checkpoint_minutes=1,
    )  # fmt: skip
    goes_on = (folder / "last.pt").exists()
    unrolled.fit(
        network, drawn, images, training, validation=held_out, crop=problem.crop, folder=folder, resume=goes_on,
        progress=False,
    )  # fmt: skip
    found: dict[str, Any] = {
        "problem": name,
        "network": network_name,
        "ratio": ratio,
        "parameters": network.parameter_count,
    }
    found["steps"] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["steps"]
    best, own = unrolled.load(folder / "best.safetensors")
    for tested, seed in [*((each, 0) for each in sorted(ALONE)), (BETWEEN, 1)]:
        operator = problem.make(tested, seed)
        operator.take_fit(own)
        found[f"{tested:.2f}"] = unrolled.evaluate(best, options.set11, DrawnOperator(operator))["psnr"]
    return found


def label(found: dict[str, Any]) -> str:
    """What a network was trained for."""
    return "10–50 %, drawn" if found["ratio"] is None else f"{found['ratio']:.0%}"


def row(found: dict[str, Any]) -> str:
    """A line of the table; in parentheses what a network has that was trained for another ratio."""
    cells = []
    for tested in (*sorted(ALONE), BETWEEN):
        meant = found["ratio"] is None or found["ratio"] == tested
        cells.append(f"{found[f'{tested:.2f}']:.2f}" if meant else f"({found[f'{tested:.2f}']:.2f})")
    title = PROBLEMS[found["problem"]].title
    return f"| {title} | {found['network']} | {label(found)} | {found['steps']:,} | {' | '.join(cells)} |"


def loss(rows: list[dict[str, Any]]) -> str:
    """How far the networks for all ratios are from those for one, in words."""
    said = []
    for drawn in (each for each in rows if each["ratio"] is None):
        parts = []
        for alone in sorted(rows, key=lambda each: each["ratio"] or 0):
            if alone["ratio"] and all(alone[key] == drawn[key] for key in ("problem", "network")):
                key = f"{alone['ratio']:.2f}"
                parts.append(f"{drawn[key] - alone[key]:+.2f} dB at {alone['ratio']:.0%}")
        if parts:
            said.append(f"{drawn['network']} for {PROBLEMS[drawn['problem']].title}: {', '.join(parts)}.")
    return "\n".join(f"- {each}" for each in said)


def section(result: dict[str, Any]) -> str:
    """The part of docs/operators.md that is made of figures."""
    columns = " | ".join(f"{ratio:.0%}" for ratio in sorted(ALONE))
    return "\n".join(
        [
            "What a network loses that is trained for all ratios, beside one for a single ratio, at equal time:",
            "",
            loss(result["rows"]),
            "",
            "    python -m benchmarks.ranges --t91 T91 --bsd400 BSD400 --set11 Set11 --json docs/ranges.json",
            "",
            f"{result['minutes']:g} minutes of one core each; mean PSNR of Set11 in dB; "
            f"{machine(result['environment'])}. Parentheses: the network was not trained for this ratio. The last "
            "column is a ratio that no training had, in compressive sensing with another matrix.",
            "",
            f"| problem | network | trained for | steps | {columns} | {BETWEEN:.0%} |",
            "|---|---|---|---:|---:|---:|---:|---:|",
            *(row(each) for each in result["rows"]),
        ]
    )


def main(argv: list[str] | None = None) -> None:
    """Train what is asked for, print, and write."""
    parser = command.parser(__doc__)
    for name, help in (("t91", "T91"), ("bsd400", "BSD400"), ("set11", "Set11")):
        parser.add_argument(f"--{name}", required=True, metavar="PATH", help=f"where {help} lies")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the processor, for each training")
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument(
        "--ratios", nargs="*", type=float, choices=ALONE, default=list(ALONE), help="beside all of them"
    )
    parser.add_argument("--no-bfloat16", dest="bfloat16", action="store_false")
    parser.add_argument("--out", type=Path, default=Path("runs/ranges"))
    options = parser.parse_args(argv)
    command.end_with_parent()
    torch.set_num_threads(1)
    rows = []
    for ratio in (None, *options.ratios):
        for problem in options.problems:
            for network in options.networks:
                rows.append(run(problem, network, ratio, options))
                print(row(rows[-1]), flush=True)
    rows.sort(key=lambda each: (each["problem"], each["network"], each["ratio"] or 0))
    print(loss(rows))
    command.write(options.json, {"minutes": options.minutes, "rows": rows})
    if options.json is not None and options.json.resolve() == FIGURES:
        command.put(PAGE, section(json.loads(FIGURES.read_text())), BEGIN, END)


if __name__ == "__main__":
    main()
