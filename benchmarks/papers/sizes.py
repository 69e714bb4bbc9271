"""How many weights of a study's classifiers are larger than a size, and what it costs to do without the others.

python -m benchmarks.papers.sizes --folder runs/duality --json docs/papers/duality-sizes.json

A weight that an optimiser moves to and fro around 0 is not 0, and counts. This says how many there are.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks import command
from unrolled.classifiers.classifier import Classifier
from unrolled.data import LabelledData, LabelledImages
from unrolled.weights.classifiers import load_classifier


def sizes(folder: Path, test: LabelledImages, cut: float) -> dict[str, Any]:
    """Of a finished run: the share of its weights that are larger than the cut, and the test error with only those."""
    row = json.loads((folder / "finished.json").read_text())
    classifier = load_classifier(folder / "sparse.safetensors")
    weights = [parameter for parameter in classifier.parameters() if parameter.ndim > 1]
    with torch.no_grad():
        for weight in weights:
            weight[weight.abs() <= cut] = 0
    larger = sum(int(weight.count_nonzero()) for weight in weights)
    share = larger / sum(weight.numel() for weight in weights)
    return {"name": row["name"], "seed": row["seed"], "share": share, "error": error(classifier, test)}


@torch.no_grad()
def error(classifier: Classifier, test: LabelledImages) -> float:
    """In %."""
    answers = [classifier(images.float() / 255).argmax(1) for images in test.images.split(1000)]
    return 100 * float((torch.cat(answers) != test.labels).float().mean())


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the study, with its finished runs")
    parser.add_argument("--source", default="MNIST", help="of the test images")
    parser.add_argument("--data-folder", default=None, help="where they lie")
    parser.add_argument("--cut", type=float, default=1e-3)
    options: argparse.Namespace = parser.parse_args(argv)
    test = LabelledData(options.source, options.data_folder).load().test
    if test is None:
        parser.error(f"--source: {options.source} has no test images")
    rows = [sizes(path.parent, test, options.cut) for path in sorted(options.folder.glob("*/finished.json"))]
    for row in rows:
        print(f"{row['name']:16} {row['seed']}  {row['share']:.4f}  {row['error']:.2f} %")
    command.write(options.json, {"cut": options.cut, "runs": rows})


if __name__ == "__main__":
    main()
