"""The numbers in image files: their type, their white, and where Pillow gives others than the file has."""

from typing import Any

import torch
from PIL import Image
from PIL.ExifTags import Base as Exif

MAX_SAMPLE, SAMPLE_FORMAT = 281, 339
"""TIFF's tags MaxSampleValue and SampleFormat."""

SIGNED = 2
"""Of SampleFormat: whole numbers with a sign."""


class Refused(ValueError):
    """An image that is whole, but has no single meaning."""


def kind_of(picture: Image.Image) -> torch.dtype:
    """The type of the numbers of a picture or of an open file: of bytes, of 16 bits, or of floating point."""
    if picture.mode == "F":
        return torch.float32
    return torch.uint16 if picture.mode[0] == "I" or is_deep_color(picture) else torch.uint8


def is_deep_color(picture: Image.Image) -> bool:
    """Whether an open file has several numbers of more than 8 bits a pixel, of which Pillow reads the upper 8."""
    if picture.mode[0] in "1IF":
        return False
    bits = _tags(picture).get(Exif.BitsPerSample, (8,))
    packing, largest = _packing(picture)
    return max(bits) > 8 or ";16" in packing or largest > 255


def pillow_misreads(file: Image.Image) -> bool:
    """Whether Pillow reads other numbers than a TIFF has: bytes with a sign, 32 bits without, deep colors in planes."""
    if file.format != "TIFF":
        return False
    tags = _tags(file)
    bits, signed = tags.get(Exif.BitsPerSample, (1,)), SIGNED in tags.get(SAMPLE_FORMAT, (1,))
    apart = tags.get(Exif.PlanarConfiguration) == 2
    return (file.mode == "L" and signed) or (file.mode == "I" and not signed) or (apart and max(bits) > 8)


def is_deep_tiff(file: Image.Image) -> bool:
    """Whether a file is TIFF with deep colors and nothing else, whose numbers can be read."""
    return is_deep_color(file) and len(_tags(file).get(Exif.BitsPerSample, ())) == 3


def stated_white(file: Image.Image) -> float:
    """What a file states to be white, if it has numbers of 16 bits."""
    tags = _tags(file)
    stated = tags.get(MAX_SAMPLE)
    stated = stated[0] if isinstance(stated, tuple) and stated else stated
    if isinstance(stated, int) and 0 < stated < 65535:
        return float(stated)
    bits = tags.get(Exif.BitsPerSample, (16,))
    return float(2 ** bits[0] - 1) if bits == (12,) else 65535.0


def stretch(file: Image.Image) -> float:
    """By how much Pillow makes the numbers of PNM larger, to fill 8 bits or 16."""
    _, largest = _packing(file)
    return (65535.0 if file.mode == "I" else 255.0) / largest if largest else 1.0


def _packing(file: Image.Image) -> tuple[str, int]:
    """How the numbers of a pixel lie in an open file, in Pillow's words, and of PNM the largest, or 0."""
    for tile in getattr(file, "tile", ())[:1]:
        arguments: Any = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if tile.codec_name in ("ppm", "ppm_plain") and len(arguments) > 1:
            return str(arguments[0]), int(arguments[1])
        return str(arguments[0]) if arguments else "", 0
    return "", 0


def _tags(file: Image.Image) -> Any:
    return getattr(file, "tag_v2", {})
