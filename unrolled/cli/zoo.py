"""unrolled zoo [NAME]"""

import json

from unrolled.cli import command_line
from unrolled.weights.card import names, read_card


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
    print(f"{'name':<24} {'network':<12} {'parameters':>10}   PSNR dB (test set)")
    for each in names():
        card = read_card(each)
        figures = ", ".join(f"{value['psnr']:.2f} ({test})" for test, value in card.get("evaluation", {}).items())
        print(f"{each:<24} {card['network']['class_path']:<12} {card['parameters']:>10,}   {figures or '–'}")
    print("\nunrolled zoo NAME prints the card: training data and config, licence, hash.")
