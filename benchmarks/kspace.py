"""Measured k-space of several coils: networks beside classical methods whose strengths are tuned on other volumes.

    python -m benchmarks.kspace --test VOLUMES --tune VOLUMES --weights TITLE:FILE … --json FILE

Each slice is sampled by a Cartesian mask of its own, and its maps are estimated from what that samples, for all methods
alike. The truth is the root of the sum of squares over the coils, in the file or made of it; PSNR's peak and SSIM's
data range are its largest value in the slice. Of each classical method that strength is taken, of a geometric grid,
which has the best mean PSNR on the slices to tune on.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import command
from unrolled.data.kspace_slices import KSpaceSlices, open_volumes
from unrolled.metrics import nmse, psnr, ssim
from unrolled.operators import CartesianMask, LinearOperator
from unrolled.operators.units import image_scale, over
from unrolled.solvers.methods import STRENGTHS, classical
from unrolled.training.kspace_data import KSpaceData
from unrolled.training.tasks.from_measurements import kspace_operator_of, middle_like
from unrolled.weights.networks import load

Method = Callable[[Tensor, LinearOperator], Tensor]

CLASSICAL = {"wavelet-l1": "wavelet l1", "tv": "total variation"}
GRID = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Multiples of the strengths that suit measurements without noise."""


def scores(method: Method, samples: KSpaceSlices, title: str) -> Tensor:
    """PSNR, SSIM and NMSE of every slice, (slice, 3)."""
    rows = []
    for index in tqdm(range(len(samples)), desc=title, leave=False):
        measured, truth = samples.sample(index), samples.shown(index)
        assert truth is not None
        with torch.no_grad():
            found = middle_like(method(measured.y, kspace_operator_of(measured)), truth).abs()
        peak = float(truth.max())
        quality = psnr(found, truth, peak), ssim(found, truth, peak=peak), nmse(found, truth)
        rows.append([float(each) for each in quality])
    return torch.tensor(rows, dtype=torch.float64)


def tuned(name: str, samples: KSpaceSlices, iterations: int) -> float:
    """The strength of a classical method that does best on some slices."""

    def quality(factor: float) -> float:
        method = partial(classical, name, strength=factor * STRENGTHS[name], iterations=iterations)
        return float(scores(method, samples, f"tuning {name}")[:, 0].mean())

    return max(GRID, key=quality) * STRENGTHS[name]


def reconstructor(file: str) -> Method:
    """A network on k-space of any units."""
    network, _ = load(file)

    def reconstruct(y: Tensor, operator: LinearOperator) -> Tensor:
        scale = image_scale(y, operator)
        return over(scale, y[:, 0]) * network(y / over(scale, y), operator)

    return reconstruct


def row(title: str, method: Method, samples: KSpaceSlices, **facts: Any) -> dict[str, Any]:
    """The means of a method, printed."""
    quality = scores(method, samples, title).mean(0).tolist()
    found = {
        "method": title,
        "slices": len(samples),
        **dict(zip(("psnr", "ssim", "nmse"), quality, strict=True)),
        **facts,
    }
    print(f"{title:<32}{quality[0]:7.2f} dB  {quality[1]:.4f}  {quality[2]:.5f}  {facts or ''}", flush=True)
    return found


def main(argv: list[str] | None = None) -> None:
    """Tune, measure, print, and write what is asked for."""
    parser = command.parser(__doc__)
    parser.add_argument("--test", type=Path, required=True, help="volumes of fully sampled k-space")
    parser.add_argument("--tune", type=Path, required=True, help="others, to choose strengths on")
    parser.add_argument("--weights", nargs="*", default=[], metavar="TITLE:FILE", help="files of weights")
    parser.add_argument("--acceleration", type=float, default=4.0, help="of the masks")
    parser.add_argument("--center", type=float, default=0.08, help="of the masks: the part that is the middle")
    parser.add_argument("--slices", type=int, default=1000, help="at most so many are measured")
    parser.add_argument("--tune-slices", type=int, default=4, help="at most so many are tuned on")
    parser.add_argument("--iterations", type=int, default=100, help="of the classical methods")
    options = parser.parse_args(argv)

    def slices(folder: Path, count: int) -> KSpaceSlices:
        mask = CartesianMask(options.acceleration, options.center)
        return KSpaceData([str(folder)], mask=mask, validation_slices=count).validated(open_volumes([folder]))

    test, tune = slices(options.test, options.slices), slices(options.tune, options.tune_slices)
    rows = [row("zero-filled", lambda y, operator: operator.adjoint(y), test)]
    for entry in options.weights:
        title, _, file = entry.rpartition(":")
        rows.append(row(title or file, reconstructor(file), test))
    for name, title in CLASSICAL.items():
        strength = tuned(name, tune, options.iterations)
        method = partial(classical, name, strength=strength, iterations=options.iterations)
        rows.append(row(title, method, test, strength=strength))
    command.write(options.json, {"iterations": options.iterations, "rows": rows})


if __name__ == "__main__":
    main()
