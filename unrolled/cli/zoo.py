"""unrolled zoo [NAME]"""

import json
from typing import Any

from unrolled.cli import command_line
from unrolled.weights.card import find, names, read_card

PROBLEMS = {
    "BlockCompressedSensing": "compressive sensing",
    "MaskedFourier": "magnetic resonance",
    "MultiCoilFourier": "magnetic resonance",
    "Radon": "tomography",
    "FanBeam": "tomography",
    "Blur": "deblurring",
    "Downsampling": "super-resolution",
    "Inpainting": "inpainting",
    "Identity": "denoising",
}
"""What measurements by an operator are the problem of."""

TOLD = ("ratio", "acceleration", "angles", "factor", "keep")
"""Arguments that say how much an operator measures."""


def run(argv: list[str]) -> int:
    """Show the shipped weights."""
    return command_line.run("zoo", show_weights, argv)


def show_weights(name: str | None = None, /) -> None:
    """List the shipped weights, or print the card of one: training data and config, licence, hash.

    Parameters
    ----------
    name : str, optional
        weights whose card is printed, by a name of the list or a file.
    """
    if name is not None:
        print(json.dumps(read_card(name), indent=2, ensure_ascii=False))
        return
    rows: list[tuple[str, ...]] = [("name", "problem", "operator", "network", "parameters", "kB", "PSNR dB (test set)")]
    rows += [row_of(each) for each in names()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())
    print("\nunrolled zoo NAME prints the card: training data and config, licence, hash.")


def row_of(name: str) -> tuple[str, ...]:
    """What the list says of weights."""
    card = read_card(name)
    kind = card["operator"]["class_path"]
    figures = ", ".join(f"{value['psnr']:.2f} ({test})" for test, value in card.get("evaluation", {}).items())
    size = f"{find(name).stat().st_size / 1000:,.0f}"
    return (
        name, PROBLEMS.get(kind, "–"), _in_short(card), card["network"]["class_path"], f"{card['parameters']:,}", size,
        figures or "–",
    )  # fmt: skip


def _in_short(card: dict[str, Any]) -> str:
    """The operator that weights were trained for, with the numbers that say how much it measures."""
    if "operators" in card:
        return "drawn"
    arguments = card["operator"]["init_args"]
    mask = arguments.get("mask")
    numbers = {**(mask.get("init_args", {}) if isinstance(mask, dict) else {}), **arguments}
    told = [f"{name}={numbers[name]:g}" for name in TOLD if isinstance(numbers.get(name), (int, float))]
    return card["operator"]["class_path"] + (f"({', '.join(told)})" if told else "")
