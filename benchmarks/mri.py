"""Magnetic resonance on radial masks: PSNR and SSIM of networks and of classical methods, image by image.

    python -m benchmarks.mri --test BRAIN --masks mask_10.mat … --weights 20:epgn-mri20 … --json docs/mri.json

Test images only: strengths of the classical methods are those of `unrolled.solvers.methods`, set on training images. A
weights file is evaluated with the operator it carries; its ratio in per cent says in which column it stands.
"""

from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import command
from unrolled.data.images import list_images, read_image
from unrolled.metrics import psnr, ssim
from unrolled.operators import MaskedFourier
from unrolled.reconstruction.evaluation import evaluate
from unrolled.solvers.methods import classical
from unrolled.weights.card import read_card
from unrolled.weights.networks import load

CLASSICAL = {
    "estimate": "zero-filled",
    "wavelet-l1": "wavelet l1",
    "tv": "total variation",
    "reweighted": "reweighted l1",
}


def classical_rows(test: Path, masks: list[Path], every: int, iterations: int) -> list[dict[str, Any]]:
    """A row for each method and mask: means over every so many of the images, all of them for zero-filling."""
    paths = list_images(test)
    rows = []
    for mask in masks:
        operator = MaskedFourier(mask)
        for method, title in CLASSICAL.items():
            chosen = paths if method == "estimate" else paths[::every]
            scores = []
            for path in tqdm(chosen, desc=f"{title}, {mask.stem}", leave=False):
                x = read_image(path)[None]
                found = classical(method, operator(x), operator, iterations=iterations, scale=1.0)
                scores.append((float(psnr(found, x)), float(ssim(found, x))))
            rows.append(_row(title, operator, scores))
            print(_line(rows[-1]), flush=True)
    return rows


def network_rows(test: Path, weights: list[str]) -> list[dict[str, Any]]:
    """A row for each file of weights, named TITLE:FILE or only FILE."""
    rows = []
    for entry in weights:
        title, _, file = entry.rpartition(":")
        network, operator = load(file)
        if not isinstance(operator, MaskedFourier):
            raise ValueError(f"weights: {file} must be for a MaskedFourier, got {type(operator).__name__}")
        result = evaluate(network, test, operator)
        scores = [(each["psnr"], each["ssim"]) for each in result["images"]]
        card = read_card(file)
        rows.append({**_row(title or file, operator, scores), "parameters": card["parameters"]})
        print(_line(rows[-1]), flush=True)
    return rows


def _row(title: str, operator: MaskedFourier, scores: list[tuple[float, float]]) -> dict[str, Any]:
    means = torch.tensor(scores, dtype=torch.float64).mean(0)
    return {
        "method": title,
        "ratio": round(operator.ratio, 4),
        "psnr": round(float(means[0]), 4),
        "ssim": round(float(means[1]), 5),
        "images": len(scores),
    }


def _line(row: dict[str, Any]) -> str:
    return f"{row['method']:<28}{row['ratio']:7.3f}  {row['psnr']:6.2f} dB  {row['ssim']:.4f}  {row['images']} images"


RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5)
PUBLISHED = {
    "ISTA-Net+, its authors' weights, trained on brains": (34.63, 38.70, 40.97, 42.65, 44.12),
    "COAST, as published": (35.57, 39.08, 41.17, None, None),
    "HiTDUN, as published": (35.71, 39.27, 41.37, None, None),
}
"""PSNR on the same images and masks, of networks that were trained on brain images, which are not to be had."""


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of the page: a line for each method, PSNR and SSIM at each ratio, and what was published."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = ["| | images | " + " | ".join(f"{100 * ratio:.0f} %" for ratio in RATIOS) + " |", "|---|---|" + "---|" * 5]
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        cells = []
        for ratio in RATIOS:
            found = [row for row in own if abs(row["ratio"] - ratio) < 0.02]
            cells.append(f"{found[0]['psnr']:.2f} / {found[0]['ssim']:.4f}" if found else "")
        counts = sorted({row["images"] for row in own})
        lines.append(f"| {method} | {' or '.join(map(str, counts))} | " + " | ".join(cells) + " |")
    for method, figures in PUBLISHED.items():
        cells = [f"{figure:.2f}" if figure is not None else "" for figure in figures]
        lines.append(f"| *{method}* | 50 | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and write what is asked for."""
    parser = command.parser(__doc__)
    parser.add_argument("--test", type=Path, required=True, help="a folder of images of the masks' size")
    parser.add_argument("--masks", type=Path, nargs="*", default=[], help="files of masks, for the classical methods")
    parser.add_argument("--weights", nargs="*", default=[], metavar="TITLE:FILE", help="names or files of weights")
    parser.add_argument("--every", type=int, default=5, help="classical methods see one image of so many")
    parser.add_argument("--iterations", type=int, default=60, help="of the classical methods")
    options = parser.parse_args(argv)
    rows = network_rows(options.test, options.weights)
    rows += classical_rows(options.test, options.masks, options.every, options.iterations)
    print("\n" + markdown(rows))
    command.write(options.json, {"every": options.every, "iterations": options.iterations, "rows": rows})


if __name__ == "__main__":
    main()
