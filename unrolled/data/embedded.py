"""The images that ship inside scikit-image, as a small data set that needs no download."""

from typing import Literal

import numpy as np
from torch import Tensor

from unrolled.data.images import array_to_image

# Only names that scikit-image carries in its wheel. Every scene stands in one split alone.
SPLITS = {
    "train": ("astronaut", "brick", "coins", "grass", "gravel", "immunohistochemistry", "moon", "stereo_motorcycle",
              "text"),
    "validation": ("clock", "rocket", "page"),
    "test": ("camera", "cat", "coffee"),
}  # fmt: skip

Split = Literal["train", "validation", "test"]


def embedded_images(split: Split, color: bool = False) -> dict[str, Tensor]:
    """The images of a split by their names, each (1 or 3, height, width), float32 in [0, 1].

    Raises
    ------
    ValueError
        for an unknown split.
    """
    from skimage import data
    from skimage.util import img_as_ubyte

    if split not in SPLITS:
        raise ValueError(f"embedded images: split must be one of {', '.join(SPLITS)}, got {split!r}")
    images = {}
    for name in SPLITS[split]:
        pixels = getattr(data, name)()
        left = pixels[0] if isinstance(pixels, tuple) else pixels  # of a stereo pair
        images[name] = array_to_image(np.asarray(img_as_ubyte(left)), color)
    return images
