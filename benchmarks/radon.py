"""Tomography beside scikit-image: time and difference, 180 angles of a square image, one thread or all.

python -m benchmarks.radon --side 256
"""

import numpy as np
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import iradon, radon, resize

from benchmarks import command
from benchmarks.machine import interleaved
from unrolled.operators import Radon


def measure(side: int, angles: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of ours and theirs, and the relative difference of the results, per task."""
    image = resize(shepp_logan_phantom(), (side, side), anti_aliasing=True)
    rows, columns = np.mgrid[:side, :side] - side // 2
    image = np.where(rows**2 + columns**2 < (side // 2 - 1) ** 2, image, 0)
    degrees = (180 / angles * np.arange(angles)).tolist()
    x = torch.from_numpy(image)[None, None].float()
    operator = Radon(degrees, side, side, detectors=side, spacing=1.0, circle=True)
    y = operator(x)
    sinogram = y[0, 0].T.double().numpy()  # theirs is (detector, angle)
    tasks = {
        "forward": (lambda: operator(x), lambda: radon(image, degrees, circle=True)),
        "adjoint": (lambda: operator.adjoint(y), lambda: iradon(sinogram, degrees, filter_name=None, circle=True)),
        "filtered back-projection": (lambda: operator.estimate(y), lambda: iradon(sinogram, degrees, circle=True)),
    }
    found = {}
    for name, (ours, theirs) in tasks.items():
        times = interleaved({"ours": ours, "theirs": theirs}, torch.device("cpu"), rounds)
        a, b = ours()[0, 0].double().numpy(), theirs()
        if name == "forward":
            a = a.T
        scale = float((a * b).sum() / (b * b).sum()) if name == "adjoint" else 1.0  # their back-projection is a mean
        found[name] = {
            "ours": times["ours"]["median"],
            "theirs": times["theirs"]["median"],
            "difference": float(np.linalg.norm(a - scale * b) / np.linalg.norm(a)),
        }
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = command.parser(__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--angles", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    found = measure(options.side, options.angles, options.rounds)
    print(
        f"{options.side}², {options.angles} angles, float32, {options.threads} thread(s); medians of {options.rounds}"
    )
    print(f"{'':<26}{'ours, ms':>10}{'skimage, ms':>13}{'ours/theirs':>13}{'difference':>12}")
    for name, row in found.items():
        ratio = row["ours"] / row["theirs"]
        line = f"{1e3 * row['ours']:>10.1f}{1e3 * row['theirs']:>13.1f}{ratio:>13.3f}{row['difference']:>12.1e}"
        print(f"{name:<26}{line}")
    command.write(options.json, {"side": options.side, "angles": options.angles, "tasks": found})


if __name__ == "__main__":
    main()
