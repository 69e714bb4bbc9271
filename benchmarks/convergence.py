"""How fast the proximal gradient methods converge: on three problems, by iterations and by applications of A.

    python -m benchmarks.convergence --json docs/convergence.json --out docs/figures/convergence.png

The minimum is what FISTA with restarts reaches in ten times as many iterations, in double precision.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import command
from unrolled.data import embedded_images
from unrolled.operators import BlockCompressedSensing, Blur, GaussianKernel, LinearOperator, MaskedFourier, RadialMask
from unrolled.penalties import L1
from unrolled.solvers import extra_proximal_gradient, fista, proximal_gradient
from unrolled.solvers.priors import Prior, SparsePrior
from unrolled.solvers.transforms import DCT, Wavelet
from unrolled.system.files import replacing

# Applications of A in an iteration (and as many of its adjoint), and how it is called.
METHODS: dict[str, tuple[int, Any]] = {
    "proximal gradient": (1, proximal_gradient),
    "FISTA with restarts": (1, fista),
    "extra proximal gradient, plain": (2, lambda *a, **k: extra_proximal_gradient(*a, variant="plain", **k)),
    "extra proximal gradient, γ = 0.3": (2, lambda *a, **k: extra_proximal_gradient(*a, momentum=0.3, **k)),
    "extra proximal gradient, accelerated": (2, extra_proximal_gradient),
}
LEVELS = (1e-2, 1e-4, 1e-6)


def problems() -> dict[str, tuple[LinearOperator, Prior, Tensor]]:
    """By name: the operator, the prior and an image."""
    camera = next(iter(embedded_images("test").values())).double()
    image = camera[None, :, 128:224, 208:304]  # 96×96
    blocks = BlockCompressedSensing(ratio=0.25, block=32).double()
    fourier = MaskedFourier(RadialMask(0.2), 96, 96).double()
    blur = Blur(GaussianKernel(1.5, 9)).double()
    return {
        "block compressive sensing, 25 %, l1 in DCT": (blocks, SparsePrior(L1(), 1e-2, DCT()), image),
        "radial Fourier, 20 %, l1 in wavelets": (fourier, SparsePrior(L1(), 1e-2, Wavelet(4, 3), True), image),
        "deblurring, l1 in wavelets": (blur, SparsePrior(L1(), 1e-3, Wavelet(4, 3), True), image),
    }


def measure(iterations: int) -> dict[str, Any]:
    """Relative distances of the objective from its minimum, per problem and method."""
    found: dict[str, Any] = {}
    for name, (operator, prior, image) in problems().items():
        y = operator(image)
        start = torch.zeros_like(image)  # the same for all, and far away
        least = fista(y, operator, prior, start, 10 * iterations).history
        lowest = min(each["objective"] for each in least)
        first = float(y.abs().square().sum() / 2 + prior.value(start).sum())
        curves = {}
        for method, (cost, run) in METHODS.items():
            history = run(y, operator, prior, start, 2 * iterations // cost).history
            curves[method] = [max(0.0, (each["objective"] - lowest) / (first - lowest)) for each in history]
        found[name] = curves
    return found


def reached(curve: list[float], level: float) -> int | None:
    """The first iteration that is below a level."""
    return next((index + 1 for index, value in enumerate(curve) if value <= level), None)


def table(found: dict[str, Any]) -> str:
    """Applications of A until the distance is below each level, and the ratio to FISTA at the middle one."""
    lines = [f"{'applications of A until':<44}" + "".join(f"{level:>10.0e}" for level in LEVELS) + "   ratio to FISTA"]
    for problem, curves in found.items():
        lines.append(problem)
        base = reached(curves["FISTA with restarts"], LEVELS[1])
        for method, curve in curves.items():
            cost = METHODS[method][0]
            counts = [None if (at := reached(curve, level)) is None else cost * at for level in LEVELS]
            ratio = f"{counts[1] / base:.2f}" if counts[1] and base else "–"
            lines.append(
                f"  {method:<42}" + "".join(f"{'–' if c is None else c:>10}" for c in counts) + f"   {ratio:>8}"
            )
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Against iterations above, and against applications of A below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), layout="constrained")
    rows = figure.subplots(2, len(found), sharey=True, squeeze=False)
    for column, (problem, curves) in enumerate(found.items()):
        for row, unit in enumerate(("iterations", "applications of A, and of its adjoint")):
            axes = rows[row][column]
            for index, (method, curve) in enumerate(curves.items()):
                cost = METHODS[method][0] if row else 1
                places = [cost * (number + 1) for number in range(len(curve))]
                style = "--" if "accelerated" in method else "-"
                axes.semilogy(places, [max(value, 1e-12) for value in curve], style, color=f"C{index}", label=method)
            axes.set_xlabel(unit)
            axes.set_ylim(1e-9, 2)
            axes.grid(alpha=0.3)
        rows[0][column].set_title(problem, fontsize=10)
    for row in rows:
        row[0].set_ylabel("objective above its minimum")
    figure.legend(*rows[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=90)


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and write what is asked for."""
    parser = command.parser(__doc__)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None, metavar="PNG", help="draw the curves into this picture")
    options = parser.parse_args(argv)
    found = measure(options.iterations)
    print(table(found))
    command.write(options.json, {"iterations": options.iterations, "problems": found})
    if options.out is not None:
        draw(found, options.out)


if __name__ == "__main__":
    main()
