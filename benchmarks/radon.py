"""Tomography beside scikit-image, and ASTRA where it is installed: CPU time and difference, parallel rays of an image.

python -m benchmarks.radon --side 362 --angles 1000 --detectors 513     # as LoDoPaB-CT
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import iradon, radon, resize
from torch import Tensor

from benchmarks import command
from benchmarks.machine import peak_resident
from unrolled.operators import Radon

SLOW = 1.0
"""Seconds."""

Runs = dict[str, Callable[[], Any]]
"""What an implementation does, by the task's name."""


def ours(operator: Radon, x: Tensor) -> Runs:
    y = operator(x)

    def gradient() -> Tensor:
        image = x.clone().requires_grad_()
        (0.5 * (operator(image) - y).square().sum()).backward()
        return image.grad

    def norm() -> Tensor:
        operator._norm = None  # it would be kept
        return operator.norm()

    return {
        "forward": lambda: operator(x),
        "adjoint": lambda: operator.adjoint(y),
        "gradient": gradient,
        "filtered back-projection": lambda: operator.estimate(y),
        "norm": norm,
    }


def of_scikit_image(operator: Radon, x: Tensor) -> Runs:
    image, degrees, side = x[0, 0].double().numpy(), operator.angles.double().numpy(), operator.height
    sinogram = radon(image, degrees, circle=False)
    options = {"theta": degrees, "circle": False, "output_size": side}
    return {
        "forward": lambda: radon(image, degrees, circle=False),
        "adjoint": lambda: iradon(sinogram, filter_name=None, **options),
        "filtered back-projection": lambda: iradon(sinogram, **options),
    }


def of_astra(operator: Radon, x: Tensor, kind: str) -> Runs:
    import astra

    image, plane = x[0, 0].numpy(), astra.create_vol_geom(operator.height, operator.width)
    angles = np.deg2rad(operator.angles.double().numpy())
    rays = astra.create_proj_geom("parallel", 1.0, operator.detectors, angles)
    projector = astra.create_projector(kind, rays, plane)
    _, sinogram = astra.create_sino(image, projector)

    def filtered() -> np.ndarray:
        names = astra.data2d.create("-vol", plane), astra.data2d.create("-sino", rays, sinogram)
        options = dict(zip(("ReconstructionDataId", "ProjectionDataId"), names, strict=True))
        algorithm = astra.algorithm.create({**astra.astra_dict("FBP"), **options, "ProjectorId": projector})
        astra.algorithm.run(algorithm)
        found = astra.data2d.get(names[0])
        astra.algorithm.delete(algorithm)
        astra.data2d.delete(list(names))
        return found

    def kept(made: tuple[int, np.ndarray]) -> np.ndarray:
        astra.data2d.delete(made[0])
        return made[1]

    return {
        "forward": lambda: kept(astra.create_sino(image, projector)),
        "adjoint": lambda: kept(astra.create_backprojection(sinogram, projector)),
        "filtered back-projection": filtered,
    }


def cpu_seconds(runs: Runs, rounds: int) -> dict[str, float]:
    """Medians, over all threads, of runs in turn after a first one; what takes longer than SLOW runs once."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            if number and times[name][0] > SLOW:
                continue
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(values[1:] or values) for name, values in times.items()}


def differences(x: Tensor, operator: Radon, peers: dict[str, Runs]) -> dict[str, float]:
    """Relative differences to peers that do the same."""
    side, degrees = operator.height, operator.angles.tolist()
    disc = Radon(degrees, side, side, detectors=side, spacing=1.0, circle=True)
    sums = disc(x)
    sinogram = sums[0, 0].T.double().numpy()  # theirs is (detector, angle)
    image = (disc.disc * x)[0, 0].double().numpy()
    found = {
        "forward, scikit-image": relative(sinogram, radon(image, degrees, circle=True)),
        "filtered back-projection, scikit-image": relative(
            disc.estimate(sums)[0, 0].numpy(), iradon(sinogram, degrees, circle=True)
        ),
    }
    if "ASTRA linear" in peers:
        detectors = operator.detectors
        middle = {"axis": ((side - 1) / 2, (side - 1) / 2), "detector_offset": detectors // 2 - (detectors - 1) / 2}
        same = Radon(degrees, side, side, detectors=detectors, spacing=1.0, sums="joseph", **middle)
        found["forward, ASTRA linear"] = relative(same(x)[0, 0].numpy(), peers["ASTRA linear"]["forward"]())
    return found


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def measure(side: int, angles: int, detectors: int | None, rounds: int) -> dict[str, Any]:
    """CPU seconds by implementation and task; differences of results; bytes, of our implementations alone."""
    image = resize(shepp_logan_phantom(), (side, side), anti_aliasing=True)
    rows, columns = np.mgrid[:side, :side] - side // 2
    image = np.where(rows**2 + columns**2 < (side // 2 - 1) ** 2, image, 0)  # so that a disc shows all of it
    x = torch.from_numpy(image)[None, None].float()
    operators = {kind: Radon(angles, side, side, detectors=detectors, sums=kind) for kind in ("joseph", "bilinear")}
    began = time.process_time()
    operators["joseph"](x)
    found: dict[str, Any] = {"first": time.process_time() - began}
    runs = {name: ours(operator, x) for name, operator in operators.items()}
    times = {name: cpu_seconds(run, rounds) for name, run in runs.items()}
    found["peak"] = peak_resident()
    peers = {"scikit-image": of_scikit_image(operators["bilinear"], x)}
    try:
        peers |= {f"ASTRA {kind}": of_astra(operators["bilinear"], x, kind) for kind in ("line", "linear", "strip")}
    except ImportError:
        print("ASTRA is not installed: pip install 'unrolled[compare]'")
    times |= {name: cpu_seconds(run, rounds) for name, run in peers.items()}
    return {**found, "seconds": times, "differences": differences(x, operators["bilinear"], peers)}


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = command.parser(__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--angles", type=int, default=180)
    parser.add_argument("--detectors", type=int, default=None, help="by default as many as see the image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    found = measure(options.side, options.angles, options.detectors, options.rounds)
    size = f"{options.side}², {options.angles} angles, {options.detectors or 'all'} detectors"
    print(
        f"{size}, float32, {options.threads} thread(s); CPU ms, medians of {options.rounds}; in brackets joseph/theirs"
    )
    seconds = found["seconds"]
    print(f"{'':<26}" + "".join(f"{name:>20}" for name in seconds))
    for task, own in seconds["joseph"].items():
        cells = (
            "" if task not in row else f"{1e3 * row[task]:.1f} ({own / row[task]:.3f})" for row in seconds.values()
        )
        print(f"{task:<26}" + "".join(f"{cell:>20}" for cell in cells))
    print(f"joseph, the first time: {1e3 * found['first']:.0f} ms; peak of both: {found['peak'] / 2**20:.0f} MiB")
    for name, difference in found["differences"].items():
        print(f"difference, {name}: {difference:.1e}")
    shape = {name: getattr(options, name) for name in ("side", "angles", "detectors", "threads")}
    command.write(options.json, {**shape, **found})


if __name__ == "__main__":
    main()
