"""Two parts of the measurements of an image, each with the operator that measures it: one to reconstruct from, and one
that is to be predicted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unrolled.operators.block_compressed_sensing import BlockCompressedSensing
from unrolled.operators.blur import Blur
from unrolled.operators.downsampling import Downsampling
from unrolled.operators.frequencies import near_zero
from unrolled.operators.identity import Identity
from unrolled.operators.inpainting import Inpainting
from unrolled.operators.masked_samples import MaskedSamples
from unrolled.operators.operator import Composition, LinearOperator, Scaled
from unrolled.operators.operator_draws import made_with
from unrolled.operators.sampled_fourier import MaskedFourier, SampledFourier
from unrolled.operators.tomography import Tomography

CENTER = 2
"""Frequencies at most so far from zero in both directions are always reconstructed from."""


@dataclass(frozen=True)
class Part:
    """A part of the measurements.

    Parameters
    ----------
    operator : LinearOperator
        that measures this part alone.
    axis : int, optional
        of the measurements, along which some are taken; None: those outside of the part are 0.
    places : Tensor of int, optional
        which are taken along the axis.
    mask : Tensor of 0 and 1, optional
        without an axis, where the part is.
    """

    operator: LinearOperator
    axis: int | None = None
    places: Tensor | None = None
    mask: Tensor | None = None

    def of(self, y: Tensor) -> Tensor:
        """This part of measurements."""
        if self.axis is None:
            assert self.mask is not None
            return y * self.mask.to(y.device)
        assert self.places is not None
        return y.index_select(self.axis, self.places.to(y.device))


def split(operator: LinearOperator, y: Tensor, share: float, random: np.random.Generator) -> tuple[Part, Part]:
    """Divide the measurements of an operator at random.

    Samples of frequencies and of pixels are divided one by one, where real images tell a frequency's value by that of
    its negative both together; tomography by its angles; block compressed sensing by the rows of its matrix; pictures,
    such as those that are blurred or made smaller, by their pixels.

    Parameters
    ----------
    operator : LinearOperator
    y : Tensor, (batch, …)
        measurements, whose shape matters.
    share : float in (0, 1)
        of the measurements that are in the second part, about.
    random : numpy Generator

    Returns
    -------
    shown, hidden : Part

    Raises
    ------
    ValueError
        for an operator whose measurements are not known to have parts, or that has too few.
    """
    if not 0 < share < 1:
        raise ValueError(f"split: share must be in (0, 1), got {share!r}")
    if type(operator) is Scaled:
        factor = operator.factor
        return _each(split(operator.operator, y, share, random), lambda part: Scaled(part, factor))
    if type(operator) is Composition and isinstance(operator.outer, MaskedSamples):
        inner = operator.inner
        return _each(_of_samples(operator.outer, share, random), lambda part: Composition(part, inner))
    if isinstance(operator, MaskedSamples):
        return _of_samples(operator, share, random)
    if isinstance(operator, Tomography):
        return _along(2, len(operator.angles), share, random, lambda places: _angles(operator, places))
    if isinstance(operator, BlockCompressedSensing):
        return _along(2, operator.measurements, share, random, lambda places: _rows(operator, places))
    if isinstance(operator, (Identity, Blur, Downsampling)):
        hidden = torch.from_numpy(random.random(y.shape[-2:]) < share).to(y.real.dtype)
        pixels = (Part(Inpainting(mask).to(y.device, y.real.dtype), mask=mask) for mask in (1 - hidden, hidden))
        return _each(pixels, lambda part: Composition(part, operator))
    raise ValueError(
        f"split: measurements by {type(operator).__name__} are not known to have parts; those of samples of "
        "frequencies or pixels, tomography, block compressed sensing, blur and downsampling have"
    )


def _each(parts: Iterable[Part], around: Callable[[LinearOperator], LinearOperator]) -> tuple[Part, Part]:
    """Parts with something around their operators."""
    shown, hidden = (replace(part, operator=around(part.operator)) for part in parts)
    return shown, hidden


def is_centered(operator: LinearOperator) -> bool:
    """Whether the zero frequency lies in the middle of the measurements."""
    return isinstance(operator, SampledFourier) and operator.centered


def tells_negative(operator: LinearOperator) -> bool:
    """Whether what is measured at a frequency tells what is measured at its negative."""
    return isinstance(operator, MaskedFourier) and not operator.complex_images


def at_negative(plane: Tensor, operator: LinearOperator) -> Tensor:
    """Numbers (…, height, width) at the negative of every frequency of an operator."""
    axes = (-2, -1)
    centered = is_centered(operator)
    plane = torch.fft.ifftshift(plane, axes) if centered else plane
    plane = plane.flip(axes).roll((1, 1), axes)
    return torch.fft.fftshift(plane, axes) if centered else plane


def _of_samples(operator: MaskedSamples, share: float, random: np.random.Generator) -> tuple[Part, Part]:
    mask = operator.mask
    score = torch.from_numpy(random.random(mask.shape[-2:])).to(mask.device)
    if tells_negative(operator):
        score = torch.maximum(score, at_negative(score, operator)).square()  # of two the larger: as likely as of one
    hidden = (score < share).to(mask.dtype) * mask
    if isinstance(operator, SampledFourier):
        hidden = hidden * ~near_zero(mask.shape[-2:], CENTER, operator.centered, mask.device)
    masks = mask - hidden, hidden
    if not all(bool(part.flatten(-2).any(-1).all()) for part in masks):
        raise ValueError(f"split: {type(operator).__name__} has too few samples to be divided")
    shown, rest = (Part(operator.with_mask(part), mask=part) for part in masks)
    return shown, rest


def _along(
    axis: int, count: int, share: float, random: np.random.Generator, make: Callable[[Tensor], LinearOperator]
) -> tuple[Part, Part]:
    """Some of the measurements along an axis, at least one on each side."""
    if count < 2:
        raise ValueError(f"split: needs at least 2 measurements along the axis {axis}, got {count}")
    number = min(max(1, round(share * count)), count - 1)
    order = torch.from_numpy(random.permutation(count))
    shown, hidden = (
        Part(make(each), axis, each) for each in (order[number:].sort().values, order[:number].sort().values)
    )
    return shown, hidden


def _angles(operator: Tomography, places: Tensor) -> LinearOperator:
    angles = operator.angles[places.to(operator.angles.device)]
    changes = {"angles": angles, "first_angle": 0.0, "span": None}
    made: LinearOperator = made_with(operator, changes).to(angles.device)
    return made


def _rows(operator: BlockCompressedSensing, places: Tensor) -> LinearOperator:
    rows = operator.matrix.detach()[places.to(operator.matrix.device)]
    made = BlockCompressedSensing(matrix=rows, block=operator.block).to(rows.device)
    made.take_fit(operator)
    return made
