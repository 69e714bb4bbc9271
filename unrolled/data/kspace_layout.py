"""The layout of k-space in files: what its axes are, and where the zero frequency and the origin of images lie."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from unrolled.system.scalars import sides_within

NAMES = ("slice", "coil", "height", "width")

CLEAR = 10.0
"""How many times more energy lies around the zero frequency than elsewhere, where it is clear where that is."""

QUARTERED = 4.0
"""How many times more energy lies at the borders of a picture than in its middle, where its origin is at [0, 0]."""


def axis_names(axes: str) -> tuple[str, ...]:
    """The names of axes that are separated by commas.

    Raises
    ------
    ValueError
        unless they are height, width, and any of slice and coil, in any order.
    """
    names = tuple(name.strip() for name in axes.split(",")) if isinstance(axes, str) else ()
    if len({*names}) != len(names) or not {"height", "width"} <= {*names} <= {*NAMES}:
        raise ValueError(f"axes: must be height, width and any of slice and coil, in their order, got {axes!r}")
    return names


def in_one_layout(y: Tensor, centered: bool | None, path: Path, usual: bool) -> tuple[Tensor, bool]:
    """k-space as one of both layouts has it: zero frequency and origin in the middle, or both at [0, 0].

    Parameters
    ----------
    y : Tensor, (coil, height, width)
    centered : bool or None
        what somebody said; None: decided by where the energy lies.
    path : Path
        for messages.
    usual : bool
        whether the file's layout has the zero frequency in the middle, where its energy does not tell.

    Returns
    -------
    y, centered : Tensor and bool
        y is shifted where it had the zero frequency in the middle and the origin of images at [0, 0], as
        fftshift ∘ fft2 has it, or the other way round: then the picture would be cut in quarters.

    Raises
    ------
    ValueError
        if it is not clear where the zero frequency lies.
    """
    found = zero_frequency_in_the_middle(y)
    if centered is not None:
        if found is not None and found != centered:
            there = ("at [0, 0]", "in the middle")
            warnings.warn(
                f"k-space: {path}: with centered={centered} the zero frequency is {there[centered]}, but nearly all "
                f"energy lies {there[found]}",
                stacklevel=4,
            )
        return y, bool(centered)
    if found is None and not usual:
        raise ValueError(
            f"k-space: {path}: it is not clear from its energy whether the zero frequency is in the middle or at "
            "[0, 0]; give centered"
        )
    centered = usual if found is None else found
    if not _quartered(y, centered):
        return y, centered
    warnings.warn(
        f"k-space: {path}: the zero frequency is {'in the middle' if centered else 'at [0, 0]'}, but the picture would "
        "be cut in quarters, so the origin of images is taken to lie elsewhere; give centered to prevent it",
        stacklevel=4,
    )
    return (torch.fft.ifftshift if centered else torch.fft.fftshift)(y, (-2, -1)), not centered


def nonzero(y: Tensor) -> Tensor:
    """1 where any coil of k-space (coil, height, width) is not 0, (height, width)."""
    return (y != 0).any(0).float()


def coil_images(y: Tensor, centered: bool) -> Tensor:
    """The images of coils from k-space (coil, height, width), with zeros where nothing was sampled."""
    if not centered:
        return torch.fft.ifft2(y, norm="ortho")
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(y, (-2, -1)), norm="ortho"), (-2, -1))


def magnitude(y: Tensor, centered: bool) -> Tensor:
    """The root of the sum of squares over the coils' images, (height, width)."""
    return coil_images(y, centered).abs().square().sum(0).sqrt()


def middle(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of an image (height, width) in its middle, of a size.

    Raises
    ------
    ValueError
        for a size that is larger than the image, or not >= 1.
    """
    height, width = image.shape
    rows, columns = sides_within("size", size, (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def symmetric_reach(lines: Tensor) -> int:
    """How far lines, (count,) of truth values, are sampled on both sides of the middle one without a gap, or −1."""
    middle = len(lines) // 2
    outward = lines[middle:], lines[: middle + 1].flip(0)
    both = outward[0] & outward[1][: len(outward[0])]
    return int(both.int().cumprod(0).sum()) - 1


def one_sided(mask: Tensor, centered: bool) -> dict[str, float]:
    """Along which axes one side of k-space was measured farther than the other: partial Fourier, asymmetric echoes.

    The shorter side must end a tenth of the longer one before it, and twice the largest gap between sampled lines, so
    that masks that were drawn at random are not taken for it.

    Parameters
    ----------
    mask : Tensor, (height, width), of 0 and 1
    centered : bool

    Returns
    -------
    dict of "height" or "width" → the part of the frequencies between the outermost that were sampled
    """
    mask = mask if centered else torch.fft.fftshift(mask)
    found = {}
    for name, axis in (("height", 1), ("width", 0)):
        lines = mask.any(axis).nonzero().flatten()
        count, first, last = mask.shape[1 - axis], int(lines[0]), int(lines[-1])
        low, high = count // 2 - first, last - count // 2
        gap = int(lines.diff().max()) if len(lines) > 1 else 0
        if abs(low - high) > max(0.1 * max(low, high), 2 * gap):
            found[name] = (last - first + 1) / count
    return found


def kspace_of_middle(y: Tensor, mask: Tensor, centered: bool, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The k-space of the part of the images in their middle, of a size, and its mask.

    Along an axis that becomes shorter every line must be sampled throughout, or not at all: then nothing is lost but
    the borders of the images, and their units stay.

    Parameters
    ----------
    y : Tensor, (coil, height, width)
    mask : Tensor, (height, width)
    centered : bool
    size : (height, width)

    Raises
    ------
    ValueError
        for a size that is larger than the image, or not >= 1; and if lines are sampled in part.
    """
    size = sides_within("size", size, (mask.shape[0], mask.shape[1]))
    for axis, name in ((-2, "height"), (-1, "width")):
        whole, kept = mask.shape[axis], size[axis]
        if kept == whole:
            continue
        if not bool((mask == mask.narrow(axis, 0, 1)).all()):
            raise ValueError(
                f"size: k-space cannot be cut to a {name} of {kept}, because its lines along the {name} are sampled in "
                "part; the image that is made of it can"
            )
        there, back = (torch.fft.ifftshift, torch.fft.fftshift) if centered else (_same, _same)
        lines = back(torch.fft.ifft(there(y, axis), dim=axis, norm="ortho"), axis)
        lines = lines.narrow(axis, (whole - kept) // 2, kept)
        y = back(torch.fft.fft(there(lines, axis), dim=axis, norm="ortho"), axis)
        mask = mask.narrow(axis, 0, kept)
    return y, mask.clone()


def _same(x: Tensor, axis: int) -> Tensor:
    return x


def zero_frequency_in_the_middle(y: Tensor) -> bool | None:
    """Whether nearly all energy of k-space (coil, height, width) lies in the middle, or at [0, 0]; None: not clear.

    Images have most of their energy at low frequencies. The energies within a sixteenth of the sides around both places
    are compared.
    """
    corner, middle = _energies(y, 1 / 16)
    if max(corner, middle) < CLEAR * min(corner, middle) or max(corner, middle) == 0:
        return None
    return middle > corner


def _quartered(y: Tensor, centered: bool) -> bool:
    """Whether most of the picture lies at its borders, and would lie in the middle with the other origin."""
    borders, inside = _energies(coil_images(y, centered), 1 / 4)
    return borders > QUARTERED * inside


def _energies(y: Tensor, reach: float) -> tuple[float, float]:
    """The energies around [0, 0] and around the middle, within a part of the sides."""
    power = y.to(torch.complex128).abs().square().sum(0)
    window = [torch.fft.fftfreq(side, dtype=torch.float64).abs() <= reach for side in power.shape]
    near = window[0][:, None] & window[1]
    return float(power[near].sum()), float(power[torch.fft.fftshift(near)].sum())
