"""The images that several operators measure together."""

import math
from collections.abc import Sequence

from unrolled.operators.linear_map import LinearMap, fits


def take_common_images(operator: LinearMap, parts: Sequence[LinearMap]) -> None:
    """Give an operator the kind and the size of images that all its parts measure.

    Raises
    ------
    ValueError
        if there are no such images.
    """
    name = type(operator).__name__
    kinds = {part.complex_images for part in parts}
    batches = {part.batch for part in parts if part.batch is not None}
    if len(kinds) > 1:
        listed = ", ".join(f"{type(part).__name__} {'complex' if part.complex_images else 'real'}" for part in parts)
        raise ValueError(f"{name}: operators must all measure real images or all complex ones, got {listed}")
    if len(batches) > 1:
        raise ValueError(f"{name}: operators must measure batches of one size, got {sorted(batches)}")
    shape: tuple[int, int, int] | None = None
    for part in parts:
        own = part.image_shape
        if shape is not None and own is not None and not (fits(shape, own) or fits(own, shape)):
            raise ValueError(f"{name}: operators must measure images of one size, got {shape} and {own}")
        if own is not None and (shape is None or shape[0] == 0):
            shape = own
    operator.multiple = math.lcm(*(part.multiple for part in parts))
    operator.complex_images, operator.image_shape, operator.batch = kinds.pop(), shape, max(batches, default=None)
