"""One network on many tasks, beside classical methods whose strengths are tuned for each of them.

    python -m benchmarks.tasks --weights runs/any/best.safetensors --held-out BSD400 --test Set11 --out runs/tasks \\
        --json docs/any.json

measures the middle of every test image by every task at its strengths of noise, and reconstructs it by total variation,
wavelets and the networks that `--weights` names. Strengths of classical methods are tuned on images of the folder
`--held-out`, for every task and noise level. What is known of them in the folder `--out` is not computed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import command
from benchmarks.compared import TITLES, tuned
from unrolled.data.stores import to_float
from unrolled.metrics import psnr
from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    CartesianMask,
    Downsampling,
    GaussianKernel,
    GaussianMask,
    Identity,
    Inpainting,
    LinearOperator,
    MaskedFourier,
    MotionKernel,
    RadialMask,
    Radon,
    ShakeKernel,
)
from unrolled.operators.noise import with_white_noise
from unrolled.operators.unit_norm import norm_for_networks
from unrolled.reconstruction.evaluation import named_images
from unrolled.solvers.methods import STRENGTHS, classical
from unrolled.weights.networks import load

METHODS = ("tv", "wavelet-l1")
SIDE = 132
"""Pixels: a multiple of 33, 4 and 3."""

TUNED_ON = 3


@dataclass(frozen=True)
class Task:
    """A kind of measurements.

    Parameters
    ----------
    name : str
    make : callable side ↦ LinearOperator
    noise : float
        standard deviation, where the operator has the norm 1 as networks are given it.
    """

    name: str
    make: Callable[[int], LinearOperator]
    noise: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.name}, σ = {self.noise:g}" if self.noise else self.name


def _fourier(mask: Any) -> Callable[[int], LinearOperator]:
    return lambda side: MaskedFourier(mask, side, side)


TASKS = [
    *(Task("denoising", lambda side: Identity(), noise) for noise in (0.02, 0.05, 0.1)),
    *(
        Task(
            f"inpainting, {keep:.0%} known",
            lambda side, keep=keep: Inpainting(keep=keep, height=side, width=side),
            noise,
        )
        for keep, noise in ((0.2, 0.0), (0.5, 0.0), (0.5, 0.05), (0.8, 0.02))
    ),
    Task("Gaussian blur, 1.2 pixels", lambda side: Blur(GaussianKernel(1.2)), 0.005),
    Task("Gaussian blur, 2 pixels", lambda side: Blur(GaussianKernel(2.0), "reflect"), 0.02),
    Task("motion blur, 11 pixels", lambda side: Blur(MotionKernel(11, 30), "replicate"), 0.01),
    *(
        Task("camera shake, 17 pixels", lambda side: Blur(ShakeKernel(17, 0.4, 7), "replicate"), noise)
        for noise in (0.01, 0.03)
    ),
    *(Task(f"super-resolution ×{factor}", lambda side, factor=factor: Downsampling(factor)) for factor in (2, 3, 4)),
    Task("super-resolution ×2", lambda side: Downsampling(2), 0.02),
    *(
        Task(f"block compressive sensing, {ratio:.0%}", lambda side, ratio=ratio: BlockCompressedSensing(ratio, seed=5))
        for ratio in (0.04, 0.1, 0.25, 0.5)
    ),
    Task("block compressive sensing, 25%", lambda side: BlockCompressedSensing(0.25, seed=5), 0.03),
    *(Task(f"radial lines, {ratio:.0%}", _fourier(RadialMask(ratio))) for ratio in (0.1, 0.2, 0.4)),
    Task("Cartesian columns, every 4th", _fourier(CartesianMask(4, seed=3))),
    Task("random frequencies, 20%", _fourier(GaussianMask(0.2, seed=3)), 0.02),
    *(
        Task(
            f"tomography, {angles} angles", lambda side, angles=angles: Radon(angles, side, side, sums="joseph"), noise
        )
        for angles, noise in ((20, 0.0), (45, 0.01), (90, 0.03))
    ),
]


@cache
def operator_of(task: Task) -> LinearOperator:
    """The operator of a task, for the images here."""
    return task.make(SIDE)


def measured(task: Task, image: Tensor, seed: int) -> Tensor:
    """Noisy measurements of an image, (1, 1, height, width)."""
    operator = operator_of(task)
    y = operator(image)
    level = task.noise * norm_for_networks(operator)
    return with_white_noise(y, level, torch.Generator().manual_seed(seed)) if level else y


def images_of(folder: str, count: int | None = None) -> list[Tensor]:
    """The middle of every image, (1, 1, SIDE, SIDE); those that are smaller are left out."""
    found = []
    for _, stored in named_images(folder):
        image = to_float(stored.read())
        top, left = ((length - SIDE) // 2 for length in image.shape[-2:])
        if min(top, left) >= 0:
            found.append(image[None, :1, top : top + SIDE, left : left + SIDE].clamp(0, 1))
        if len(found) == count:
            break
    return found


@torch.no_grad()
def score(task: Task, images: Sequence[Tensor], reconstruct: Callable[[Tensor, LinearOperator], Tensor]) -> float:
    """The mean PSNR."""
    scores = [
        psnr(reconstruct(measured(task, image, seed), operator_of(task)), image) for seed, image in enumerate(images)
    ]
    return float(torch.stack(scores).mean())


def by_classical(task: Task, method: str, held_out: list[Tensor], test: list[Tensor], kept: Path) -> dict[str, float]:
    """The figures of a classical method, with its strength tuned for the task."""
    file = kept / f"{method}-{task.key}.json".replace(" ", "-")

    def with_strength(strength: float) -> Callable[[Tensor, LinearOperator], Tensor]:
        return lambda y, operator: classical(method, y, operator, strength, scale=1.0)

    def find() -> dict[str, float]:
        strength = tuned(lambda strength: score(task, held_out, with_strength(strength)), STRENGTHS[method])
        return {"psnr": score(task, test, with_strength(strength)), "strength": strength}

    return command.once(file, find)


def by_network(task: Task, weights: str, test: list[Tensor]) -> float:
    """The mean PSNR of a network that is told the noise level."""
    network, own = _loaded(weights)
    operator = operator_of(task)
    if not operator.fitted:
        operator.take_fit(own)
    told = {"noise": task.noise * norm_for_networks(operator)} if network.takes_noise else {}
    return score(task, test, lambda y, operator: network(y, operator, **told))


@cache
def _loaded(weights: str) -> Any:
    return load(weights)


def row_of(task: Task, options: Any, held_out: list[Tensor], test: list[Tensor]) -> dict[str, Any]:
    """All figures of a task."""
    row: dict[str, Any] = {"task": task.name, "noise": task.noise}
    row["start"] = score(task, test, lambda y, operator: operator.estimate(y).clamp(0, 1))
    for method in METHODS:
        row[method] = by_classical(task, method, held_out, test, options.out)
    row["networks"] = {name: by_network(task, weights, test) for name, weights in options.weights}
    return row


def line(row: dict[str, Any]) -> str:
    """A line of the table: of networks what they are above the best classical method."""
    best = max(row[method]["psnr"] for method in METHODS)
    noise = f"{row['noise']:g}" if row["noise"] else ""
    cells = [row["task"], noise, f"{row['start']:.2f}", *(f"{row[method]['psnr']:.2f}" for method in METHODS)]
    cells += [f"{value:.2f} ({value - best:+.2f})" for value in row["networks"].values()]
    return "| " + " | ".join(cells) + " |"


def table(rows: list[dict[str, Any]]) -> str:
    """The whole table, with means."""
    names = list(rows[0]["networks"])
    heads = ["task", "σ", "start", *(TITLES[method] for method in METHODS), *names]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2), *map(line, rows)]
    for name in names:
        gains = [row["networks"][name] - max(row[method]["psnr"] for method in METHODS) for row in rows]
        lines.append(
            f"{name}: {sum(gains) / len(gains):+.2f} dB in the mean beside the better classical method of each task, "
            f"{min(gains):+.2f} at the least, above it in {sum(gain > 0 for gain in gains)} of {len(gains)}"
        )
    return "\n".join(lines)


def named(text: str) -> tuple[str, str]:
    """NAME=FILE, or a file that is called by its folder."""
    name, separator, path = text.partition("=")
    return (name, path) if separator else (Path(text).parent.name or text, text)


def main(argv: Sequence[str] | None = None) -> None:
    """Do the tasks, print and write."""
    parser = command.parser(__doc__)
    parser.add_argument("--weights", nargs="*", type=named, default=[], metavar="[NAME=]FILE")
    parser.add_argument("--held-out", required=True, metavar="FOLDER", help="of images to tune strengths on")
    parser.add_argument("--test", required=True, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=None, help="at most so many test images")
    parser.add_argument("--only", default="", help="tasks with this in their name")
    parser.add_argument("--out", type=Path, default=Path("runs/tasks"))
    options = parser.parse_args(argv)
    command.end_with_parent()
    torch.set_num_threads(1)
    held_out, test = images_of(options.held_out, TUNED_ON), images_of(options.test, options.images)
    rows = []
    for task in TASKS:
        if options.only in task.name:
            rows.append(row_of(task, options, held_out, test))
            print(line(rows[-1]), flush=True)
    print(table(rows))
    command.write(options.json, {"images": len(test), "side": SIDE, "rows": rows})


if __name__ == "__main__":
    main()
