"""Drawn digits: a small data set for classification that needs no download."""

from functools import cache

import numpy as np
import torch

from unrolled.data.labelled import LabelledImages

SIZES = {"train": 2000, "test": 1000}
SIDE = 28

# The seven strokes of a digital clock between six points, (row, column) in [−1, 1]², and which of them a digit has.
_POINTS = np.array([(-1, -0.6), (-1, 0.6), (0, -0.6), (0, 0.6), (1, -0.6), (1, 0.6)], np.float32)
_STROKES = np.array([(0, 1), (0, 2), (1, 3), (2, 3), (2, 4), (3, 5), (4, 5)])
_DIGITS = ("0 1 2 4 5 6", "2 5", "0 2 3 4 6", "0 2 3 5 6", "1 2 3 5", "0 1 3 5 6", "0 1 3 4 5 6", "0 2 5",
           "0 1 2 3 4 5 6", "0 1 2 3 5 6")  # fmt: skip


@cache
def drawn_digits(split: str, count: int | None = None) -> LabelledImages:
    """Digits of seven strokes, shifted, turned, sheared, thick or thin, in noise: easy, but not trivial.

    Parameters
    ----------
    split : {"train", "test"}
    count : int, optional
        how many; by default 2,000 and 1,000.

    Returns
    -------
    LabelledImages
        grey, 28 × 28, the classes "0" to "9" equally often.
    """
    count = SIZES[split] if count is None else count
    random = np.random.default_rng(list(SIZES).index(split))
    labels = random.permutation(np.arange(count) % 10)
    parts = [_draw(labels[start : start + 250], random) for start in range(0, count, 250)]
    images = torch.from_numpy(np.concatenate(parts)).unsqueeze(1)
    return LabelledImages(images, torch.from_numpy(labels), tuple("0123456789"))


def _draw(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Digits as pixels, (n, 28, 28), uint8."""
    count = len(labels)

    def draw(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, (count, 1, 1)).astype(np.float32)

    angle, shear, height, width = draw(-0.25, 0.25), draw(-0.3, 0.3), draw(0.55, 0.85), draw(0.55, 0.95)
    grid = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32).reshape(2, 1, -1, 1)
    rows, columns = grid[0] - draw(-0.15, 0.15), grid[1] - draw(-0.2, 0.2)
    turned = np.cos(angle) * rows - np.sin(angle) * columns, np.sin(angle) * rows + np.cos(angle) * columns
    row, column = turned[0] / height, (turned[1] + shear * turned[0]) / width
    start, end = _POINTS[_STROKES[:, 0]], _POINTS[_STROKES[:, 1]]
    (down, right), length = (end - start).T, ((end - start) ** 2).sum(1)
    along = np.clip(((row - start[:, 0]) * down + (column - start[:, 1]) * right) / length, 0, 1)
    distance = np.hypot(row - start[:, 0] - along * down, column - start[:, 1] - along * right)
    has = np.array([[str(stroke) in digit.split() for stroke in range(7)] for digit in _DIGITS])[labels]
    nearest = np.where(has[:, None], distance, np.inf).min(-1, keepdims=True)
    ink = draw(0.6, 1) / (1 + np.exp((nearest - draw(0.1, 0.25)) / 0.05))
    noisy = ink[..., 0] + random.normal(0, 0.15, (count, SIDE**2)).astype(np.float32)
    return (noisy.clip(0, 1) * 255).round().astype(np.uint8).reshape(count, SIDE, SIDE)
