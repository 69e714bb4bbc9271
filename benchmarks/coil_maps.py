"""Maps of coils beside sigpy's ESPIRiT: how much of k-space they leave unexplained, how far they agree, and time.

python -m benchmarks.coil_maps brain_8_coils.npy brain_small_fov_8_coils.npy --json docs/coil-maps.json

The maps are estimated from the middle of k-space. An image is fitted to nine tenths of what was sampled outside of it
and to the middle itself, by least squares with a small ridge. Unexplained is the part of the norm of the remaining
tenth that this image does not predict. Agreement is over the pixels where both maps are not 0, and where one set is
enough (where two eigenvalues are near 1, any mixture of their vectors is as good): the largest and the mean distance of
the projections s sᴴ.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import command
from unrolled.data.kspace_files import KSpace, read_kspace
from unrolled.operators import Espirit, LowResolution, MultiCoilFourier
from unrolled.reconstruction.mri import measurements

RIDGE = 1e-3
"""Of the fit, for maps whose sum of squares is 1."""


def sigpy_maps(kspace: KSpace, center: int) -> Tensor:
    """sigpy's, with the settings that are ours by default."""
    from sigpy.mri.app import EspiritCalib

    assert kspace.centered
    calibration = EspiritCalib(kspace.y.numpy(), calib_width=center, thresh=0.02, crop=0.95, show_pbar=False)
    return torch.from_numpy(calibration.run())


def unpredicted(kspace: KSpace, maps: Tensor, center: int, seed: int = 0) -> float:
    """The part of the norm of a tenth of k-space, outside of the middle, that a fit to the rest does not predict."""
    middle = torch.zeros_like(kspace.mask)
    top, left = (side // 2 - center // 2 for side in middle.shape)
    middle[top : top + center, left : left + center] = 1
    drawn = torch.rand(middle.shape, generator=torch.Generator().manual_seed(seed)) < 0.1
    held_out = kspace.mask * drawn * (1 - middle)
    fitted = MultiCoilFourier(maps, kspace.mask - held_out, centered=kspace.centered)
    whole = MultiCoilFourier(maps, kspace.mask, centered=kspace.centered)
    y = measurements(kspace, whole)
    image = fitted.solve(fitted.adjoint(y), RIDGE, tolerance=1e-4)
    return float((held_out * (whole(image) - y)).norm() / (held_out * y).norm())


def agreement(ours: Tensor, theirs: Tensor, enough: Tensor) -> dict[str, float]:
    """Distances of the projections on maps (coil, height, width) of unit length, where neither is 0 and one is enough.

    All parts are of the pixels of the image.
    """
    some, others = (maps.norm(dim=0) > 0 for maps in (ours, theirs))
    both = some & others & enough
    a, b = (maps[:, both].to(torch.complex128) for maps in (ours, theirs))
    inner = (a.conj() * b).sum(0).abs() / a.norm(dim=0) / b.norm(dim=0)
    distance = (2 * (1 - inner.square()).clamp(min=0)).sqrt()  # of projections, by Frobenius' norm
    return {
        "pixels": float(both.float().mean()),
        "only ours": float((some & ~others).float().mean()),
        "only theirs": float((others & ~some).float().mean()),
        "largest": float(distance.max()),
        "mean": float(distance.mean()),
    }


def measure(file: Path, center: int) -> dict[str, Any]:
    """Of every way to estimate maps its unexplained part and CPU seconds, and how far ours and sigpy's agree."""
    kspace = read_kspace(file, axes="coil,height,width")
    ways: dict[str, Callable[[], Tensor]] = {
        "low resolution": lambda: LowResolution(center).estimate(kspace.y, kspace.mask, kspace.centered),
        "ESPIRiT": lambda: Espirit(center).estimate(kspace.y, kspace.mask, kspace.centered),
        "ESPIRiT, two sets": lambda: Espirit(center, sets=2).estimate(kspace.y, kspace.mask, kspace.centered),
        "sigpy's ESPIRiT": lambda: sigpy_maps(kspace, center),
    }
    rows, maps = {}, {}
    for name, way in ways.items():
        start = time.process_time()
        maps[name] = way()
        seconds = time.process_time() - start
        rows[name] = {"unexplained": unpredicted(kspace, maps[name], center), "CPU seconds": seconds}
    enough = maps["ESPIRiT, two sets"][0, 1].norm(dim=0) == 0
    return {"ways": rows, "agreement": agreement(maps["ESPIRiT"], maps["sigpy's ESPIRiT"], enough)}


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = command.parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="k-space of one slice, (coil, height, width), .npy")
    parser.add_argument("--center", type=int, default=24, help="side of the middle that maps are estimated from")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {file.stem: measure(file, options.center) for file in options.files}
    for name, one in found.items():
        print(name)
        for way, row in one["ways"].items():
            print(f"  {way:<20}{row['unexplained']:>8.1%} unexplained {row['CPU seconds']:>7.2f} s")
        print("  ours and sigpy's:", ", ".join(f"{what} {value:.2g}" for what, value in one["agreement"].items()))
    command.write(options.json, {"center": options.center, "files": found})


if __name__ == "__main__":
    main()
