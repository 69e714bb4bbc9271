"""unrolled robustness --weights epgn-cs25 --data FOLDER --out robustness.png"""

from pathlib import Path
from typing import Any

from unrolled.cli import command_line
from unrolled.data.images import list_images
from unrolled.reconstruction.evaluation import peak_text
from unrolled.reconstruction.perturbations import robustness
from unrolled.system.files import check_writable, write_json
from unrolled.system.scales import Scale
from unrolled.weights.networks import load

TITLES = {
    "noise": "noise, standard deviation",
    "operator": "measured by",
    "ratio": "measurements per pixel",
    "perturbation": "worst case, of the measurements' norm",
}


def run(argv: list[str]) -> int:
    """Test how robust weights are."""
    return command_line.run("robustness", measure_robustness, argv, own_classes=True)


def measure_robustness(
    *,
    weights: str,
    data: str,
    images: int = 3,
    out: str | None = None,
    json: str | None = None,
    scale: Scale | None = None,
    device: str = "auto",
    **study: Any,
) -> None:
    """Measure the PSNR of a network and of classical methods where measurements differ from those in training.

    They are noisy, taken by other operators or at other ratios, or perturbed as is worst for the method.

    Parameters
    ----------
    weights : str
        a name that `unrolled zoo` lists, or a file.
    data : str
        a folder of images, or one image.
    images : int
        how many of them to take, evenly spread; worst cases take long.
    out : str, optional
        draw the curves into this file.
    json : str, optional
        write the figures to this file.
    scale : optional
        what white is in the files, and with it PSNR's peak: a number, [BLACK,WHITE], max or a percentile such as 99.5%.
    device : str
        cpu, cuda, …; auto takes the GPU if there is one.
    **study
        of `unrolled.reconstruction.perturbations.robustness`.
    """
    if images < 1:
        raise ValueError(f"images must be >= 1, got {images}")
    if out is not None:
        _check_drawable(out)
    paths = list_images(data)
    for path in (out, json):
        if path is not None:
            check_writable(path, weights, *paths)
    network, operator = load(weights, device)
    count = min(images, len(paths))
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    names = [path.name for path in chosen]
    result = robustness(network, operator, chosen, scale=scale, progress=True, **study)
    print(f"mean PSNR in dB over {', '.join(names)}; its peak is {peak_text(scale)}")
    for test, rows in result.items():
        print("\n" + table(test, rows))
    if json is not None:
        write_json(json, {"images": names, **result}, indent=1)
        print(f"\nwrote {json}")
    if out is not None:
        from unrolled.figures.robustness_plot import robustness_curves

        robustness_curves(out, result, TITLES, type(network).__name__)
        print(f"wrote {out}")


def _check_drawable(out: str) -> None:
    """Raise ValueError unless matplotlib is there and writes files that are named so."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ValueError("out: drawing needs matplotlib: pip install 'unrolled[plots]'") from None
    formats = FigureCanvasBase.get_supported_filetypes()
    if Path(out).suffix.lower().removeprefix(".") not in formats:
        raise ValueError(f"out: {out} must end in one of {', '.join(f'.{name}' for name in sorted(formats))}")


def table(test: str, rows: dict) -> str:
    """The figures of one test as text."""
    values = [f"{value:g}" if isinstance(value, float) else str(value) for value in rows["values"]]
    width = max([10, *(len(value) + 2 for value in values)])
    lines = [f"{TITLES[test]:<40}" + "".join(f"{value:>{width}}" for value in values)]
    for name, figures in rows.items():
        if name != "values":
            lines.append(f"  {name:<38}" + "".join(f"{figure:>{width}.2f}" for figure in figures))
    return "\n".join(lines)
