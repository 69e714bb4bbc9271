"""Pictures as files: single ones, and labelled ones side by side."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from unrolled.data.images import to_uint8
from unrolled.system.files import check_writable, replacing

FORMATS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


MADE_BY = "unrolled"
"""What PNG files that are written beside a picture name as their software."""


def check_format(path: str | Path) -> None:
    """Raise ValueError unless the name ends like a picture."""
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"out: {path} must end in one of {', '.join(FORMATS)}")


def check_beside(path: Path, *inputs: str | Path | None) -> None:
    """Raise ValueError if a PNG cannot be written beside a picture: what another made there stays."""
    check_writable(path, *inputs)
    if path.exists() and not _made_here(path):
        raise ValueError(f"cannot write {path}: it was not written by unrolled; move it away, or choose another --out")


def _made_here(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as file:
            return file.info.get("Software") == MADE_BY
    except Exception:  # of a file of anything
        return False


def save_picture(path: str | Path, image: Tensor) -> None:
    """Write an image tensor, (1 or 3, height, width) in [0, 1], with 8 bits; the format is that of the name."""
    check_format(path)
    with replacing(path) as temporary:
        Image.fromarray(to_uint8(image)).save(temporary)


def save_side_by_side(path: str | Path, panels: dict[str, Tensor], columns: int | None = None) -> None:
    """Write several images of one size into one picture, each under its label.

    Parameters
    ----------
    path : str or Path
    panels : dict of label → Tensor, (1 or 3, height, width) in [0, 1]
        a label may have several lines.
    columns : int, optional
        after how many panels a new row begins.
    """
    check_format(path)
    pictures = [Image.fromarray(to_uint8(image)).convert("RGB") for image in panels.values()]
    # Small images are shown in whole multiples, so that labels fit and pixels stay pixels.
    zoom = max(1, round(220 / pictures[0].width))
    pictures = [
        picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST) for picture in pictures
    ]
    size = int(np.clip(pictures[0].width / 16, 11, 40))
    font = ImageFont.load_default(size)
    gap, head = size // 2, round(1.4 * size) * max(label.count("\n") + 1 for label in panels)
    columns = min(columns or len(pictures), len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + head + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (label, picture) in enumerate(zip(panels, pictures, strict=True)):
        left = gap + (index % columns) * (width + gap)
        top = gap + (index // columns) * (height + head + gap)
        draw.multiline_text((left, top), label, fill="black", font=font)
        sheet.paste(picture, (left, top + head))
    made_by = PngInfo()
    made_by.add_text("Software", MADE_BY)
    with replacing(path) as temporary:
        sheet.save(temporary, pnginfo=made_by)
