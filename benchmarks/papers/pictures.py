"""What the pictures of all papers share."""

from pathlib import Path

from matplotlib.figure import Figure

from unrolled.system.files import replacing


def save_picture(figure: Figure, path: Path) -> None:
    """Paint a figure; a picture that was there is replaced when the new one is whole."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
