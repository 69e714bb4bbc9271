"""unrolled robustness --weights epgn-cs25 --data FOLDER --out robustness.png"""

import importlib.util
import json
from pathlib import Path

from jsonargparse import ArgumentParser

from unrolled.data.images import list_images, read_image
from unrolled.reconstruction.perturbations import NOISE, PERTURBATIONS, RATIOS, robustness
from unrolled.system.files import check_writable, replacing
from unrolled.weights.networks import load

TITLES = {
    "noise": "noise, standard deviation",
    "operator": "measured by",
    "ratio": "measurements per pixel",
    "perturbation": "worst case, of the measurements' norm",
}


def run(argv: list[str]) -> int:
    """Print a table for each test, and draw the curves."""
    parser = ArgumentParser(
        prog="unrolled robustness",
        description="PSNR when the measurements are not those of training: noise, other operators and ratios, and the "
        "perturbations that are worst; of a network and of classical methods.",
        allow_abbrev=False,
    )
    parser.add_argument("--weights", type=str, required=True, help="a name of `unrolled zoo`, or a file")
    parser.add_argument("--data", type=str, required=True, help="a folder of images, or one image")
    parser.add_argument("--images", type=int, default=3, help="how many of them, evenly chosen; worst cases take long")
    parser.add_argument("--methods", type=list[str], default=["wavelet-l1", "tv"], help="classical ones")
    parser.add_argument("--noise", type=list[float], default=list(NOISE), help="standard deviations")
    parser.add_argument("--ratios", type=list[float], default=list(RATIOS), help="measurements per pixel")
    parser.add_argument("--perturbations", type=list[float], default=list(PERTURBATIONS), help="relative norms")
    parser.add_argument("--steps", type=int, default=8, help="of the search for the worst perturbation")
    parser.add_argument("--out", type=str | None, default=None, help="draw the curves into this picture (.png)")
    parser.add_argument("--json", type=str | None, default=None, help="write the figures to this file")
    parser.add_argument("--seed", type=int, default=0, help="of noise and other operators")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, …; auto takes the GPU if there is one")
    options = parser.parse_args(argv)
    if options.images < 1:
        raise ValueError(f"images must be >= 1, got {options.images}")
    if options.out is not None and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("out: drawing needs matplotlib: pip install 'unrolled[plots]'")
    for path in (options.out, options.json):
        if path is not None:
            check_writable(path)
    network, operator = load(options.weights, options.device)
    paths = list_images(options.data)
    count = min(options.images, len(paths))
    chosen = {paths[index * len(paths) // count].name: paths[index * len(paths) // count] for index in range(count)}
    result = robustness(
        network,
        operator,
        {name: read_image(path) for name, path in chosen.items()},
        methods=options.methods,
        noise=options.noise,
        ratios=options.ratios,
        perturbations=options.perturbations,
        steps=options.steps,
        seed=options.seed,
        progress=True,
    )
    print(f"mean PSNR in dB over {', '.join(chosen)}")
    for test, rows in result.items():
        print("\n" + table(test, rows))
    if options.json is not None:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps({"images": list(chosen), **result}, indent=1) + "\n")
        print(f"\nwrote {options.json}")
    if options.out is not None:
        from unrolled.figures.robustness_plot import robustness_curves

        robustness_curves(options.out, result, TITLES, type(network).__name__)
        print(f"wrote {options.out}")
    return 0


def table(test: str, rows: dict) -> str:
    """The figures of one test as text."""
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in rows["values"]]
    width = max(10, *(len(value) + 2 for value in values))
    lines = [f"{TITLES[test]:<40}" + "".join(f"{value:>{width}}" for value in values)]
    for name, figures in rows.items():
        if name != "values":
            lines.append(f"  {name:<38}" + "".join(f"{figure:>{width}.2f}" for figure in figures))
    return "\n".join(lines)
