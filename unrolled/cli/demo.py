"""unrolled demo: train, compare and look."""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from unrolled import weights
from unrolled.cli import command_line
from unrolled.data import ImageData, embedded_images
from unrolled.figures.pictures import save_picture, save_side_by_side
from unrolled.metrics import psnr, ssim
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import L1
from unrolled.reconstruction.evaluation import evaluate
from unrolled.reconstruction.pipeline import iterates, pad, reconstruct
from unrolled.solvers import fista
from unrolled.solvers.priors import SparsePrior
from unrolled.solvers.transforms import DCT
from unrolled.system.files import check_writable, replacing
from unrolled.training import TrainingOptions, fit
from unrolled.training.runs.lock import locked
from unrolled.training.runs.run_folder import BEST, CURVE, METRICS, remove_run

SHIPPED = "epgn-cs25"
MADE_BY = "unrolled demo"
"""By which a demo knows the checkpoints of a demo before."""

TABLE = "table.txt"
PICTURES = ("camera.png", "camera-comparison.png", "camera-iterates.png")


def run(argv: list[str]) -> int:
    """Run the demonstration."""
    return command_line.run("demo", show, argv)


def show(*, folder: str = "demo", minutes: float | None = None, steps: int | None = None) -> None:
    """Train a small network on embedded images, compare it with its peers on images it never saw, and draw them.

    Parameters
    ----------
    folder : str
        where weights and pictures are written; what a demo before left there is replaced, anything else refused.
    minutes : float, optional
        how long to train; by default 800 steps.
    steps : int, optional
        how many steps to train, instead of minutes.
    """
    place = Path(folder)
    check_writable(place / TABLE)
    with locked(place):
        remove_run(place, MADE_BY, (*PICTURES, TABLE, CURVE, BEST, METRICS))  # of a demo before
        text = _demonstrate(place, minutes, 800 if minutes is None and steps is None else steps)
    print(f"\n{text}\n\nPictures: {', '.join(f'{folder}/{name}' for name in PICTURES)}")
    print(f"The run:  {', '.join(f'{folder}/{name}' for name in (CURVE, BEST) if (place / name).exists())}")
    print(
        "\nNext:\n"
        "  unrolled reconstruct photo.jpg --out photo.png --color     your own picture, with the shipped weights\n"
        "  unrolled train --config configs/cs/epgn_25.yaml            your own network\n"
        "  unrolled zoo                                               the shipped weights"
    )


def _demonstrate(place: Path, minutes: float | None, steps: int | None) -> str:
    """Train, compare and draw; returns the table."""
    torch.manual_seed(0)
    network = EPGN(phases=3, features=16)
    operator = BlockCompressedSensing(ratio=0.25)
    size = f"3 phases ({network.parameter_count:,} parameters)"
    print(f"1. Training an EPGN of {size} on images that ship inside scikit-image:")
    print(f"   every block of 33×33 = 1089 pixels is seen through {operator.measurements} random measurements (25 %).")
    training = TrainingOptions(
        steps=steps, minutes=minutes, batch=8, learning_rate=2e-3, warmup=50, average=0.99, validations=5
    )
    fit(network, operator, ImageData(), training, folder=place, card={"made_by": MADE_BY})

    print("2. Reconstructing images that it never saw:")
    test = embedded_images("test")
    rows = {"linear start": None, "proximal gradient, l1 in DCT": _classical(test, operator, network.start)}
    trained = evaluate(network, test, operator)
    rows["linear start"] = {name: (row["start_psnr"], None) for name, row in _by_name(trained).items()}
    rows["EPGN, trained just now"] = {name: (row["psnr"], row["ssim"]) for name, row in _by_name(trained).items()}
    if SHIPPED in weights.names():
        shipped = evaluate(SHIPPED, test)
        rows[f"EPGN, shipped ({SHIPPED})"] = {n: (row["psnr"], row["ssim"]) for n, row in _by_name(shipped).items()}
    text = _table({name: row for name, row in rows.items() if row is not None}, list(test))
    _pictures(place, test, network, operator)
    with replacing(place / TABLE) as temporary:
        temporary.write_text(text + "\n")
    return text


Figures = dict[str, tuple[float, float | None]]


def _classical(images: dict[str, Tensor], operator: BlockCompressedSensing, start: nn.Module) -> Figures:
    """The classical baseline: strength and iterations were set on the embedded validation images."""
    prior = SparsePrior(L1(), 0.01, DCT())
    figures: Figures = {}
    for name, image in images.items():
        began = time.perf_counter()
        y = operator(pad(image.unsqueeze(0), operator.multiple))
        x = fista(y, operator, prior, start(y, operator), 60, restart=False, record=False).image
        x = x[..., : image.shape[-2], : image.shape[-1]]
        figures[name] = (float(psnr(x, image.unsqueeze(0))), float(ssim(x, image.unsqueeze(0))))
        print(f"   proximal gradient on {name}: {time.perf_counter() - began:.1f} s")
    return figures


def _by_name(result: dict) -> dict[str, dict]:
    return {row["name"]: row for row in result["images"]}


def _table(rows: dict[str, Figures], images: list[str]) -> str:
    lines = [f"{'PSNR, dB':<30}" + "".join(f"{name:>10}" for name in [*images, "mean"]) + "   SSIM"]
    for method, figures in rows.items():
        values = [figures[name][0] for name in images]
        similarity = [value for name in images if (value := figures[name][1]) is not None]
        cells = "".join(f"{value:10.2f}" for value in [*values, sum(values) / len(values)])
        lines.append(f"{method:<30}{cells}" + (f"   {sum(similarity) / len(similarity):.3f}" if similarity else ""))
    return "\n".join(lines)


def _pictures(folder: Path, images: dict[str, Tensor], network: EPGN, operator: BlockCompressedSensing) -> None:
    camera = images["camera"]
    found = iterates(camera, network, operator)
    window = (slice(None), slice(40, 240), slice(150, 350))  # the head and the camera, large enough to see the blocks
    save_picture(folder / PICTURES[0], found[-1])
    panels = {"original": camera, "linear start": found[0], "EPGN, trained just now": found[-1]}
    if SHIPPED in weights.names():
        panels[SHIPPED] = reconstruct(camera, SHIPPED)
    save_side_by_side(folder / PICTURES[1], {label: image[window] for label, image in panels.items()})
    names = ["start", *(f"phase {phase}" for phase in range(1, len(found)))]
    save_side_by_side(
        folder / PICTURES[2],
        {
            f"{name}\n{float(psnr(image[None], camera[None])):.2f} dB": image[window]
            for name, image in zip(names, found, strict=True)
        },
    )
