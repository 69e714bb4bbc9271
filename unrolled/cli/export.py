"""unrolled export WEIGHTS --out program.pt2"""

from unrolled.cli import command_line
from unrolled.cli.command_line import Flag
from unrolled.programs.exporting import export
from unrolled.system.files import check_writable
from unrolled.weights.card import find, read_card
from unrolled.weights.networks import load


def run(argv: list[str]) -> int:
    """Export weights."""
    return command_line.run("export", export_weights, argv, own_classes=True)


def export_weights(
    weights: str,
    /,
    *,
    out: str,
    size: tuple[int, int] | None = None,
    channels: int = 1,
    any_size: Flag = False,
    tolerance: float = 1e-4,
) -> None:
    """Write a network with its operator as one program of the measurements, which runs without this library.

    The program is loaded and compared with the network before the file gets its name. What it takes and returns is
    printed, and stands in the file, with the card of the weights.

    Parameters
    ----------
    weights : str
        a name that `unrolled zoo` lists, or a file.
    out : str
        file of the program: .pt2 for torch.export.load in Python and C++, .onnx for onnxruntime and others.
    size : [HEIGHT,WIDTH], optional
        of the images, in pixels; not needed where the operator knows it.
    channels : int
        of the images.
    any_size : bool
        take measurements of images of any size, where the operator measures them.
    tolerance : float
        the most by which a picture may differ from that of the network, of its largest magnitude.
    """
    check_writable(out, find(weights))
    network, operator = load(weights)
    card = read_card(weights)
    found = export(
        network, operator, out, size=size, channels=channels, any_size=any_size, tolerance=tolerance, card=card
    )
    print(found)
    if "licence" in card:
        print(f"licence of the weights: {card['licence']}")
    print(f"wrote {out}")
