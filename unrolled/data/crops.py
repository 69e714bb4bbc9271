"""The size of training crops: a number of pixels for squares, or height and width."""

from unrolled.system.scalars import whole_numbers

Crop = int | tuple[int, int]
"""Pixels: the side of a square, or (height, width)."""

SIDE = 66
"""Of crops whose size nobody says: two blocks of 33, the block of the tables of compressive sensing."""


def crop_sides(crop: Crop | None, multiple: int = 1, exactly: tuple[int, int] | None = None) -> tuple[int, int]:
    """The height and width of crops that an operator can measure.

    Parameters
    ----------
    crop : int, (height, width) or None
        None: of the only size that the operator measures, otherwise squares of 66, or of the next multiple.
    multiple : int
        the operator measures only sides that are multiples of this.
    exactly : (height, width), optional
        the operator measures only this size.

    Raises
    ------
    ValueError
        if the crop is not a size, or not one that the operator measures.
    """
    if crop is None:
        side = -(-SIDE // multiple) * multiple
        return (side, side) if exactly is None else exactly
    sides = whole_numbers((crop, crop), 2) or whole_numbers(crop, 2)
    if sides is None:
        raise ValueError(f"data: crop must be >= 1, a number of pixels or (height, width), got {crop!r}")
    height, width = sides
    if height % multiple or width % multiple:
        raise ValueError(f"data: crop must be a multiple of {multiple} for this operator, got {crop!r}")
    if exactly is not None and (height, width) != tuple(exactly):
        raise ValueError(
            f"data: crop must be {tuple(exactly)} (height, width), the size that this operator measures, got {crop!r}"
        )
    return height, width


def crop_text(sides: tuple[int, int]) -> str:
    """A size as messages name it: 66 of a square, or 640×368."""
    height, width = sides
    return str(height) if height == width else f"{height}×{width}"
