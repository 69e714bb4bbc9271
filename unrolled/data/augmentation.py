"""How training images are varied: orientation, brightness, and a bias field as receiver coils leave it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unrolled.data.stores import to_float
from unrolled.system.scalars import PlainNumbers, as_number

STRONGEST = 5.0
"""Of a bias field, which then has a range of e⁵ = 148."""

BRIGHTEST = 2.0
"""Training takes no images that are brighter than twice their white."""


@dataclass(frozen=True)
class Augmentation(PlainNumbers):
    """What is done to every crop, drawn anew for each.

    Parameters
    ----------
    orientations : bool
        crops come in random orientations: squares in all eight, others in the four that keep their sides.
    intensity : (low, high), 0 < low <= high
        crops are multiplied by a number that is drawn evenly from here.
    bias_field : float >= 0
        crops are multiplied by a smooth field with values in [e^−b, 1], b drawn evenly from 0 to this, as the
        sensitivity of a receiver coil shades images of magnetic resonance: exp of a polynomial of the second order with
        random coefficients. The brightest place stays as it is.
    """

    orientations: bool = True
    intensity: tuple[float, float] = (1.0, 1.0)
    bias_field: float = 0.0

    def __post_init__(self) -> None:
        given = self.intensity if isinstance(self.intensity, (list, tuple)) else ()
        numbers = [number for number in map(as_number, given) if number is not None]
        if not (len(given) == len(numbers) == 2 and 0 < numbers[0] <= numbers[1] <= BRIGHTEST):
            raise ValueError(
                f"data: intensity must be two numbers, 0 < low <= high <= {BRIGHTEST:g}, got {self.intensity!r}"
            )
        if not 0 <= self.bias_field <= STRONGEST:
            raise ValueError(f"data: bias_field must be in [0, {STRONGEST:g}], got {self.bias_field!r}")

    def vary(self, crop: Tensor, random: np.random.Generator) -> Tensor:
        """A crop (channel, height, width) varied: as it is stored if its numbers do not change, else floating point."""
        if self.orientations:
            square = crop.shape[-2] == crop.shape[-1]
            quarters = int(random.integers(4)) if square else 2 * int(random.integers(2))  # a quarter turn swaps sides
            crop = torch.rot90(crop, quarters, dims=(-2, -1))
            crop = crop.flip(-1) if random.integers(2) else crop
        low, high = self.intensity
        if (low, high) != (1, 1):
            crop = to_float(crop) * random.uniform(low, high)
        if self.bias_field:
            crop = to_float(crop) * bias_field(crop.shape[-2], crop.shape[-1], self.bias_field, random)
        return crop


def bias_field(height: int, width: int, strongest: float, random: np.random.Generator) -> Tensor:
    """A smooth field, (height, width): its largest value is 1 and its least e^−b, b drawn from 0 to `strongest`."""
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([rows, columns, rows * columns, (3 * rows**2 - 1) / 2, (3 * columns**2 - 1) / 2])  # of Legendre
    field = np.tensordot(random.standard_normal(len(terms)), terms, 1)
    span = float(field.max() - field.min()) or math.inf
    exponent = random.uniform(0, strongest) * (field - field.max()) / span
    return torch.from_numpy(np.exp(exponent)).float()
