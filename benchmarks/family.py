"""Every network on every kind of operator: trained a hundred steps from its config, saved, loaded, evaluated, used.

    python -m benchmarks.family --out runs/family
    python -m benchmarks.family --networks EPGN MoDL --operators blocks coils --json family.json

Each cell is what a user does on the command line: `unrolled train` with the config of configs/networks, of which the
operator, the images and the steps are others, `unrolled evaluate` on images that were held out, and `unrolled
reconstruct`. A cell has the gain over the network's start on these, in dB, or why the network does not take the
operator. The exit status is 1 if a gain is below .5 dB, if a command fails, or if a refusal is none that the network
announces by its `demands`.
"""

import contextlib
import inspect
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.nn import functional as F

from benchmarks import command
from unrolled.cli import main as unrolled_main
from unrolled.cli.network_list import preset_classes
from unrolled.data import embedded_images
from unrolled.figures.pictures import save_picture
from unrolled.networks import UnrolledNetwork

CONFIGS = Path(__file__).parents[1] / "configs" / "networks"
LEAST = 0.5
"""dB by which a network has to beat its start."""

SIDE, BLOCKS = 48, 66
"""Of images, and of those that are measured in blocks of 33×33."""

TRAINED_ON = 96
"""Side of the training images, of which random crops are taken."""

Settings = dict[str, Any]


def _one_size(class_path: str, **arguments: Any) -> Settings:
    return _operator(class_path, **arguments, height=SIDE, width=SIDE)


def _operator(class_path: str, **arguments: Any) -> Settings:
    return {"class_path": class_path, "init_args": arguments}


def _dense(folder: Path) -> Settings:
    """A quarter as many random measurements as pixels."""
    rows, pixels = SIDE**2 // 4, SIDE**2
    matrix = np.random.RandomState(0).randn(rows, pixels).astype(np.float32) / pixels**0.5
    np.save(folder / "matrix.npy", matrix)
    return _one_size("Dense", matrix=str(folder / "matrix.npy"))


@dataclass(frozen=True)
class Kind:
    """A kind of operator.

    Parameters
    ----------
    settings : function of a folder, for files that the operator is made of
        the operator, as a config states it.
    side : int
        of images.
    complex_images, complex_measurements : bool
    """

    settings: Callable[[Path], Settings]
    side: int = SIDE
    complex_images: bool = False
    complex_measurements: bool = False


KINDS = {
    "blocks": Kind(lambda _: _operator("BlockCompressedSensing", ratio=0.25), BLOCKS),
    "inpainting": Kind(lambda _: _one_size("Inpainting", keep=0.4)),
    "blur": Kind(lambda _: _operator("Blur", kernel=_operator("GaussianKernel", sigma=1.2))),
    "fourier": Kind(
        lambda _: _one_size("MaskedFourier", mask=_operator("RadialMask", ratio=0.25)), complex_measurements=True
    ),
    "complex fourier": Kind(
        lambda _: _one_size("MaskedFourier", mask=_operator("RadialMask", ratio=0.25), complex_images=True),
        complex_images=True,
        complex_measurements=True,
    ),
    "coils": Kind(
        lambda _: _one_size(
            "MultiCoilFourier", maps=_operator("Coils", coils=4), mask=_operator("CartesianMask", acceleration=4)
        ),
        complex_images=True,
        complex_measurements=True,
    ),
    "radon": Kind(lambda _: _one_size("Radon", angles=12)),
    "downsampling": Kind(lambda _: _operator("Downsampling", factor=2)),
    "dense": Kind(_dense),
}


def cell(name: str, cls: type[UnrolledNetwork], kind: str, folder: Path, steps: int, overrides: Settings) -> Settings:
    """One network on one kind of operator.

    Returns
    -------
    dict
        "network", "operator", "ok", and either "start", "psnr" and "gain" in dB, or "reason" why there are none
    """
    what = KINDS[kind]
    place = folder / f"{name}-{kind.replace(' ', '-')}"
    place.mkdir(parents=True, exist_ok=True)
    test = images(folder, what.side)
    (place / "config.yaml").write_text(yaml.safe_dump(config(name, cls, what, place, folder, steps, overrides)))
    weights, figures = str(place / "run" / "best.safetensors"), place / "figures.json"
    found: Settings = {"network": name, "operator": kind}
    for argv in (
        ["train", "--config", str(place / "config.yaml")],
        ["evaluate", "--weights", weights, "--data", str(test), "--json", str(figures)],
        ["reconstruct", str(next(test.iterdir())), "--weights", weights, "--out", str(place / "x.png")],
    ):
        status, said = run(argv)
        if status:
            words = [*demands(cls), f"made for {'real' if what.complex_images else 'complex'} images"]
            refused = argv[0] == "train" and any(word in said for word in words)
            return {**found, "ok": refused, "reason": said if refused else f"unrolled {argv[0]}: {said}"}
    quality = json.loads(figures.read_text())
    gain = quality["psnr"] - quality["start_psnr"]
    return {**found, "ok": gain >= LEAST, "start": quality["start_psnr"], "psnr": quality["psnr"], "gain": gain}


def run(argv: list[str]) -> tuple[int, str]:
    """A command as it is typed: its status, and the line that says what went wrong."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            status = unrolled_main(argv)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
    lines = [line for line in said.getvalue().splitlines() if line.strip()]
    wrong = [line for line in lines if "error: " in line] or lines[-1:]
    return status, "".join(wrong[:1])


def config(
    name: str, cls: type[UnrolledNetwork], kind: Kind, place: Path, folder: Path, steps: int, overrides: Settings
) -> Settings:
    """The config of a network, for another operator, small images and so many steps."""
    settings: Settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    arguments = settings["network"].setdefault("init_args", {})
    options = inspect.signature(cls).parameters
    if "complex_images" in options:
        arguments["complex_images"] = kind.complex_images
    if "complex_measurements" in options:
        arguments["complex_measurements"] = kind.complex_measurements
    training = {key: value for key, value in settings["training"].items() if key not in ("minutes", "epochs")}
    training |= {"steps": steps, "validations": 1, "average": 0.0, **overrides}
    settings.pop("noise", None)
    return settings | {
        "operator": kind.settings(place),
        "data": {"train": [str(folder / "train")], "validation": str(images(folder, kind.side)), "crop": kind.side},
        "training": training,
        "folder": str(place / "run"),
    }


def demands(cls: type[UnrolledNetwork]) -> list[str]:
    """What a network says that it needs of operators."""
    return cls().demands


def images(folder: Path, side: int) -> Path:
    """A folder of images of a side, of scenes that are not trained on; those that are lie beside it, in `train`."""
    test = folder / f"test-{side}"
    if not test.exists():
        for split, where, size in (("train", folder / "train", TRAINED_ON), ("test", test, side)):
            where.mkdir(parents=True, exist_ok=True)
            for name, image in embedded_images(split).items():
                half = F.avg_pool2d(image, 2)  # finer detail for so few pixels
                top, left = ((length - size) // 2 for length in half.shape[-2:])
                save_picture(where / f"{name}.png", half[..., top : top + size, left : left + size])
    return test


def table(cells: Sequence[Settings]) -> str:
    """All cells: start, trained and gain in dB, or the reason."""
    lines = [f"{'network':<22} {'operator':<16} {'start dB':>9} {'trained dB':>11} {'gain dB':>8}"]
    for each in cells:
        head = f"{each['network']:<22} {each['operator']:<16}"
        if "reason" in each:
            lines.append(f"{head} {'refused' if each['ok'] else 'FAILED'}: {each['reason']}")
        else:
            mark = "" if each["ok"] else f"  below {LEAST} dB"
            lines.append(f"{head} {each['start']:9.2f} {each['psnr']:11.2f} {each['gain']:8.2f}{mark}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Try what is asked for; returns the exit status."""
    known = preset_classes()
    parser = command.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=list(known), default=list(known), metavar="NETWORK")
    parser.add_argument("--operators", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=None, help="samples in a step; by default as the configs say")
    parser.add_argument("--out", type=Path, default=Path("runs/family"), help="where runs and images lie")
    options = parser.parse_args(argv)
    overrides = {} if options.batch is None else {"batch": options.batch}
    cells = []
    torch.manual_seed(0)
    print(table([]))
    for name in options.networks:
        for kind in options.operators:
            cells.append(cell(name, known[name], kind, options.out, options.steps, overrides))
            print(table(cells[-1:]).splitlines()[1], flush=True)
    command.write(options.json, {"steps": options.steps, "cells": cells})
    return 0 if all(each["ok"] for each in cells) else 1


if __name__ == "__main__":
    sys.exit(main())
