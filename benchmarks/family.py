"""Every network on every kind of operator: trained a hundred steps from its config, saved, loaded, evaluated, used.

    python -m benchmarks.family --out runs/family --json docs/family.json
    python -m benchmarks.family --networks EPGN MoDL --operators blocks coils --json family.json

Each cell is what a user does on the command line: `unrolled train` with the config of configs/networks, of which the
operator, the images and the steps are others, `unrolled evaluate` on images that were held out, and `unrolled
reconstruct`. A cell has the gain over the network's start on these, in dB, or why the network does not take the
operator. The exit status is 1 if a gain is below .5 dB, if a command fails, or if a refusal is none that the network
announces by its `demands`.

A cell that came out well is kept in the folder of its run, and is not run again with the same config unless `--again`
asks for it; so the networks can be shared among processes, and what was interrupted goes on. Who changed the code of a
network asks for it. With `--json docs/family.json` the figures also go into the table of docs/networks.md.
"""

import contextlib
import inspect
import io
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.nn import functional as F

from benchmarks import command
from benchmarks.report import machine
from unrolled import operators
from unrolled.cli import main as unrolled_main
from unrolled.cli.network_list import by_default, preset_classes
from unrolled.data import embedded_images
from unrolled.figures.pictures import save_picture
from unrolled.networks import UnrolledNetwork
from unrolled.system.files import write_json

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
FIGURES = Path(__file__).parents[1] / "docs" / "family.json"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

CONFIGS = Path(__file__).parents[1] / "configs" / "networks"
LEAST = 0.5
"""dB by which a network has to beat its start."""

SIDE, BLOCK = 32, 16
"""Of images in pixels, and of the blocks that some are measured in."""

TRAINED_ON = 96
"""Side of the training images, of which random crops are taken."""

SIGNALLED = 128
"""An exit status above it says which signal has stopped a command."""

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
    complex_images, complex_measurements : bool
    batch : int, optional
        crops in a step, where few of them teach less than their noise: by default as the config says, which means
        larger ones.
    rate : float
        by which the learning rate of the config is multiplied, as is usual with larger batches.
    """

    settings: Callable[[Path], Settings]
    complex_images: bool = False
    complex_measurements: bool = False
    batch: int | None = None
    rate: float = 1.0


KINDS = {
    "blocks": Kind(lambda _: _operator("BlockCompressedSensing", ratio=0.25, block=BLOCK), batch=32),
    "inpainting": Kind(lambda _: _one_size("Inpainting", keep=0.4), batch=12),
    "blur": Kind(lambda _: _operator("Blur", kernel=_operator("GaussianKernel", sigma=1.2))),
    "fourier": Kind(
        lambda _: _one_size("MaskedFourier", mask=_operator("RadialMask", ratio=0.25)),
        complex_measurements=True,
        batch=24,
    ),
    "complex fourier": Kind(
        lambda _: _one_size("MaskedFourier", mask=_operator("RadialMask", ratio=0.25), complex_images=True),
        complex_images=True,
        complex_measurements=True,
        batch=80,
        rate=2.0,
    ),
    "coils": Kind(  # with six columns in the middle, of which maps can be estimated in so small an image
        lambda _: _one_size(
            "MultiCoilFourier",
            maps=_operator("Coils", coils=4),
            mask=_operator("CartesianMask", acceleration=3, center=0.1875),
        ),
        complex_images=True,
        complex_measurements=True,
    ),
    "radon": Kind(lambda _: _one_size("Radon", angles=12)),
    "downsampling": Kind(lambda _: _operator("Downsampling", factor=2), batch=16),
    "dense": Kind(_dense),
}


def cell(
    name: str,
    cls: type[UnrolledNetwork],
    kind: str,
    folder: Path,
    steps: int = 100,
    overrides: Settings | None = None,
    again: bool = False,
) -> Settings:
    """One network on one kind of operator, as it was found before if that came out well with the same config.

    Returns
    -------
    dict
        "network", "operator", "ok", "seconds" of the processor, and either "start", "psnr" and "gain" in dB, or
        "reason" why there are none
    """
    place = folder / f"{name}-{kind.replace(' ', '-')}"
    place.mkdir(parents=True, exist_ok=True)
    settings, kept = config(name, cls, KINDS[kind], place, folder, steps, overrides or {}), place / "cell.json"
    if not again and kept.exists():
        before: Settings = json.loads(kept.read_text())
        if before["config"] == settings and before["cell"]["ok"]:
            found: Settings = before["cell"]
            return found
    shutil.rmtree(place / "run", ignore_errors=True)
    (place / "config.yaml").write_text(yaml.safe_dump(settings))
    began = time.process_time()
    found = {"network": name, "operator": kind, **tried(cls, KINDS[kind], place, images(folder))}
    found["seconds"] = round(time.process_time() - began, 1)
    write_json(kept, {"config": settings, "cell": found}, indent=1)
    return found


def tried(cls: type[UnrolledNetwork], kind: Kind, place: Path, test: Path) -> Settings:
    """What comes of a config: it is trained, evaluated on some images, and reconstructs one of them."""
    weights, figures = str(place / "run" / "best.safetensors"), place / "figures.json"
    for argv in (
        ["train", "--config", str(place / "config.yaml")],
        ["evaluate", "--weights", weights, "--data", str(test), "--json", str(figures)],
        ["reconstruct", str(next(test.iterdir())), "--weights", weights, "--out", str(place / "x.png")],
    ):
        status, said = run(argv)
        if status > SIGNALLED:
            raise SystemExit(status)
        if status:
            words = [*demands(cls), f"made for {'real' if kind.complex_images else 'complex'} images"]
            refused = argv[0] == "train" and any(word in said for word in words)
            return {"ok": refused, "reason": said.partition(": error: ")[2] if refused else said}
    quality = json.loads(figures.read_text())
    gain = quality["psnr"] - quality["start_psnr"]
    return {"ok": gain >= LEAST, "start": quality["start_psnr"], "psnr": quality["psnr"], "gain": gain}


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
    path, options = CONFIGS / f"{name}.yaml", inspect.signature(cls).parameters
    settings: Settings = yaml.safe_load(path.read_text()) if path.exists() else of_a_matrix(name)
    arguments = settings["network"].setdefault("init_args", {})
    if "rows" in options:
        arguments |= {"rows": SIDE**2 // 4, "height": SIDE, "width": SIDE}
    if "complex_images" in options:
        arguments["complex_images"] = kind.complex_images
    if "complex_measurements" in options:
        arguments["complex_measurements"] = kind.complex_measurements
    training = {key: value for key, value in settings["training"].items() if key not in ("minutes", "epochs")}
    training |= {"steps": steps, "validations": 1, "average": 0.0} | ({"batch": kind.batch} if kind.batch else {})
    training["learning_rate"] *= kind.rate
    training |= overrides
    settings.pop("noise", None)
    return settings | {
        "operator": kind.settings(place),
        "data": {"train": [str(folder / "train")], "validation": str(images(folder)), "crop": SIDE},
        "training": training,
        "folder": str(place / "run"),
    }


def of_a_matrix(name: str) -> Settings:
    """A config of a network that is made for one matrix, which no config can hold."""
    return {
        "network": _operator(name, phases=4, threshold=0.01),
        "training": {"batch": 4, "learning_rate": 0.1 if name == "ALISTA" else 1.0e-3},  # nine numbers are learned
    }


def demands(cls: type[UnrolledNetwork]) -> list[str]:
    """What a network says that it needs of operators."""
    return by_default(cls).demands


def images(folder: Path) -> Path:
    """A folder of images of scenes that are not trained on; those that are lie beside it, in `train`."""
    test = folder / f"test-{SIDE}"
    if not test.exists():
        for split, where, size in (("train", folder / "train", TRAINED_ON), ("test", test, SIDE)):
            where.mkdir(parents=True, exist_ok=True)
            for name, image in embedded_images(split).items():
                half = F.avg_pool2d(image, 2)  # finer detail for so few pixels
                top, left = (max(length - size, 0) // 2 for length in half.shape[-2:])
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


def section(result: Settings) -> str:
    """The part of docs/networks.md that is made of figures: gains in dB, and why there are none."""
    cells = result["cells"]
    kinds, reasons = list(dict.fromkeys(each["operator"] for each in cells)), list[str]()
    rows: dict[str, list[str]] = {}
    for each in cells:
        if (reason := _of_any_operator(each.get("reason", ""))) and reason not in reasons:
            reasons.append(reason)
        shown = f"{each['gain']:+.2f}" if "gain" in each else f"({reasons.index(reason) + 1})"
        rows.setdefault(each["network"], []).append(shown)
    lines = [
        f"PSNR above the start in dB after {result['steps']} steps from configs/networks, on held-out images of "
        f"{SIDE}×{SIDE}; {machine(result['environment'])}, {sum(each['seconds'] for each in cells) / 60:.0f} minutes "
        "of one core in all.",
        "",
        f"| network | {' | '.join(kinds)} |",
        "|---|" + "---:|" * len(kinds),
        *(f"| `{name}` | {' | '.join(row)} |" for name, row in rows.items()),
        "",
        *(f"({number}) {reason}  " for number, reason in enumerate(reasons, 1)),
    ]
    return "\n".join(lines).rstrip()


def _of_any_operator(reason: str) -> str:
    """A reason without the name of the operator that was refused, so that it is said once for all of them."""
    return re.sub(rf"\b({'|'.join(operators.__all__)})(?= (is|are) )", "the operator", reason)


def main(argv: Sequence[str] | None = None) -> int:
    """Try what is asked for; returns the exit status."""
    known = preset_classes()
    parser = command.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=list(known), default=list(known), metavar="NETWORK")
    parser.add_argument("--operators", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=None, help="samples in a step; by default as the configs say")
    parser.add_argument("--out", type=Path, default=Path("runs/family"), help="where runs and images lie")
    parser.add_argument("--again", action="store_true", help="also what is finished there")
    options = parser.parse_args(argv)
    overrides = {} if options.batch is None else {"batch": options.batch}
    cells = []
    torch.manual_seed(0)
    print(table([]))
    for name in options.networks:
        for kind in options.operators:
            cells.append(cell(name, known[name], kind, options.out, options.steps, overrides, options.again))
            print(table(cells[-1:]).splitlines()[1], flush=True)
    command.write(options.json, {"steps": options.steps, "cells": cells})
    if options.json is not None and options.json.resolve() == FIGURES:
        command.put(PAGE, section(json.loads(FIGURES.read_text())), BEGIN, END)
    return 0 if all(each["ok"] for each in cells) else 1


if __name__ == "__main__":
    sys.exit(main())
