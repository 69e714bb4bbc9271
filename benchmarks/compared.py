"""One command trains a network by its config, and sets classical methods beside it, with their strengths tuned.

    python -m benchmarks.compared configs/ct/epgn_60.yaml --test lung_test.h5 --json docs/ct.json \\
        --data.train '[lung_train.h5]'

A strength is tuned by the PSNR on images that training held out; test images are looked at once. All methods are given
the same measurements with the same noise. Options that are not listed are those of `unrolled train`. A run that has
ended is not trained again.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import command
from unrolled import cli
from unrolled.cli.train import parser as training_parser
from unrolled.data.stores import to_float
from unrolled.metrics import psnr, ssim
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, Noise
from unrolled.reconstruction.evaluation import named_images, peak_text
from unrolled.reconstruction.pipeline import measure, picture
from unrolled.solvers.methods import STRENGTHS, classical
from unrolled.training.runs.checkpoint import Checkpoints
from unrolled.training.runs.run_folder import BEST
from unrolled.weights.networks import load

TITLES = {
    "estimate": "linear estimate",
    "tv": "total variation",
    "wavelet-l1": "wavelet l1",
    "reweighted": "reweighted l1",
    "least-squares": "least squares",
}
WEIGHTED = "-weighted"
"""At the end of a method's name: its least squares are weighted by 1/variance of the noise."""

FACTORS = (4.0, 2.0, math.sqrt(2.0))
"""By which a strength is made larger or smaller in search of the best."""


class Case(NamedTuple):
    """An image and its noisy measurements.

    truth : Tensor, (1, channel, height, width), clipped to black and white
    y : Tensor, its measurements
    """

    truth: Tensor
    y: Tensor


class Row(NamedTuple):
    """What a method reached on the test images.

    strength : float or None, as it was tuned
    seconds : float, of the processor for one image
    """

    method: str
    psnr: float
    ssim: float
    images: int
    strength: float | None
    seconds: float


def cases(
    images: list[Tensor], network: UnrolledNetwork, operator: LinearOperator, noise: Noise | None
) -> Iterator[Case]:
    """Images as `unrolled evaluate` measures them."""
    for index, image in enumerate(images):
        yield Case(image.clamp(0, 1)[None], measure(image, network, operator, noise, index))


def tuned(score: Callable[[float], float], start: float) -> float:
    """The strength with the highest score, on a grid that becomes finer around the best so far."""
    known = {start: score(start)}
    best = start
    for factor in FACTORS:
        while True:
            for strength in (best / factor, best * factor):
                if not any(math.isclose(strength, other) for other in known):
                    known[strength] = score(strength)
            before, best = best, max(known, key=known.__getitem__)
            if best == before:
                break
    return best


def by_method(
    method: str, operator: LinearOperator, noise: Noise | None, iterations: int
) -> Callable[[Tensor, float | None], Tensor]:
    """(y, strength) ↦ images by a classical method, whose name may end with `WEIGHTED`."""
    weighted, name = method.endswith(WEIGHTED), method.removesuffix(WEIGHTED)
    if weighted and noise is None:
        raise ValueError(f"methods: {method} needs noise, whose variance says what a measurement is worth")

    def reconstruct(y: Tensor, strength: float | None) -> Tensor:
        weights = 1 / noise.variance(y) if weighted and noise is not None else None
        return classical(name, y, operator, strength, iterations, scale=1.0, weights=weights)

    return reconstruct


def measured(
    title: str, reconstruct: Callable[[Tensor], Tensor], test: list[Case], strength: float | None = None
) -> Row:
    """A row of the table."""
    scores, began = [], time.process_time()
    for case in tqdm(test, desc=title, leave=False):
        found = _shown(reconstruct(case.y), case)
        scores.append((float(psnr(found, case.truth)), float(ssim(found, case.truth))))
    seconds = (time.process_time() - began) / len(test)
    means = torch.tensor(scores, dtype=torch.float64).mean(0).tolist()
    return Row(title, round(means[0], 4), round(means[1], 5), len(test), strength, round(seconds, 2))


def _shown(image: Tensor, case: Case) -> Tensor:
    return picture(image, (case.truth.shape[-2], case.truth.shape[-1]))


def classical_row(
    method: str,
    reconstruct: Callable[[Tensor, float | None], Tensor],
    held_out: list[Case],
    test: list[Case],
) -> Row:
    """A classical method, with its strength tuned on the held-out images if it has one."""
    strength = None
    name = method.removesuffix(WEIGHTED)
    if name in STRENGTHS:

        def score(strength: float) -> float:
            scores = [float(psnr(_shown(reconstruct(case.y, strength), case), case.truth)) for case in held_out]
            print(f"  {method} {strength:.3g}: {sum(scores) / len(scores):.2f} dB", flush=True)
            return sum(scores) / len(scores)

        strength = tuned(score, STRENGTHS[name])
    title = TITLES[name] + (", weighted" if name != method else "")
    return measured(title, lambda y: reconstruct(y, strength), test, strength)


def markdown(rows: list[Row]) -> str:
    """The table of a page."""
    lines = ["| | PSNR | SSIM | images | strength | CPU seconds an image |", "|---|---|---|---|---|---|"]
    for row in rows:
        strength = "" if row.strength is None else f"{row.strength:.2g}"
        lines.append(
            f"| {row.method} | {row.psnr:.2f} dB | {row.ssim:.4f} | {row.images} | {strength} | {row.seconds:.1f} |"
        )
    return "\n".join(lines)


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    """Train, tune, measure, print, and write what is asked for."""
    parser = command.parser(__doc__)
    parser.add_argument("config", help="of `unrolled train`")
    parser.add_argument("--test", required=True, help="a folder or file of test images")
    parser.add_argument("--methods", nargs="*", default=["estimate", "tv", "tv-weighted", "wavelet-l1"])
    parser.add_argument("--every", type=int, default=4, help="classical methods see one test image of so many")
    parser.add_argument("--tune", type=int, default=2, help="held-out images that strengths are tuned on")
    parser.add_argument("--iterations", type=int, default=100, help="of the classical methods")
    options, others = parser.parse_known_args(argv)
    settings = ["--config", options.config, *others]
    trainer = training_parser()
    config = trainer.parse_args(settings)
    made = trainer.instantiate(config)
    folder = Path(config.folder)
    resume = ["--resume"] if Checkpoints(folder).exist() else []  # one that has ended ends at once
    with torch.enable_grad():
        status = cli.main(["train", *settings, *resume])
    if status:
        raise SystemExit(status)
    network, operator = load(folder / BEST, config.device)
    size = None if operator.image_shape is None else operator.image_shape[1:]
    _, validation = made.data.load(operator.multiple, config.seed, size)
    held_out = list(cases(validation[: options.tune], network, operator, made.noise))
    pictures = [to_float(image.read()) for _, image in named_images(options.test, made.data.scale)]
    test = list(cases(pictures, network, operator, made.noise))
    rows = [measured(type(network).__name__, lambda y: network(y, operator), test)]
    rows.append(measured(f"{rows[0].method}, the same images", lambda y: network(y, operator), test[:: options.every]))
    for method in options.methods:
        reconstruct = by_method(method, operator, made.noise, options.iterations)
        rows.append(classical_row(method, reconstruct, held_out, test[:: options.every]))
        print(markdown(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{markdown(rows)}\n\nPSNR's peak is {peak_text(made.data.scale)}.")
    command.write(options.json, {"config": options.config, "rows": [row._asdict() for row in rows]})


if __name__ == "__main__":
    main()
