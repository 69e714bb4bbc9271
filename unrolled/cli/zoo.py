"""unrolled zoo [NAME]"""

import json

from jsonargparse import ArgumentParser

from unrolled.weights.card import names, read_card


def run(argv: list[str]) -> int:
    """List the shipped weights, or print one card."""
    parser = ArgumentParser(prog="unrolled zoo", description="The shipped weights.", allow_abbrev=False)
    parser.add_argument("name", nargs="?", help="print the card of these weights (a name or a file)")
    options = parser.parse_args(argv)
    if options.name is not None:
        print(json.dumps(read_card(options.name), indent=2, ensure_ascii=False))
        return 0
    print(f"{'name':<24} {'network':<12} {'parameters':>10}   PSNR dB (test set)")
    for name in names():
        card = read_card(name)
        figures = ", ".join(f"{value['psnr']:.2f} ({test})" for test, value in card.get("evaluation", {}).items())
        print(f"{name:<24} {card['network']['class_path']:<12} {card['parameters']:>10,}   {figures or '–'}")
    print("\nunrolled zoo NAME prints the card: training data and config, licence, hash.")
    return 0
