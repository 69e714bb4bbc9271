"""Sensitivities of coils, estimated from the middle of k-space; kept in files beside the volumes."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.data.kspace_files import KSpace, read_kspace
from unrolled.data.kspace_layout import coil_images
from unrolled.data.kspace_slices import MAPS, open_volumes
from unrolled.system.files import as_path, check_writable, replacing

LARGEST_CENTER = 33
"""Lines of the middle of k-space that coils are estimated from, at most: their sensitivities are smoother than that."""

SMALLEST_CENTER = 5
"""And at least, unless it is asked for."""


def estimate_maps(kspace: KSpace, center: int | None = None) -> Tensor:
    """Sensitivities of the coils from the fully sampled middle of k-space.

    Every coil's image of the middle, apodised by a Hann window, divided by the root of the sum of their squares. This
    is simple and makes smooth maps; it is not ESPIRiT, which would leave out what is no signal and sharpen edges. The
    maps carry the smooth part of the image's phase, so that images by these maps are nearly real; that of one coil is
    its phase alone.

    Parameters
    ----------
    kspace : KSpace
    center : int >= 1, optional
        side of the square in the middle, in frequencies, of which all must be sampled; by default the largest that is,
        of at least 5 and at most 33.

    Returns
    -------
    Tensor, (coil, height, width), complex64, Σ|S|² = 1

    Raises
    ------
    ValueError
        if the middle is not sampled.
    """
    mask = kspace.mask if kspace.centered else torch.fft.fftshift(kspace.mask)
    height, width = mask.shape
    reach = _reach(mask, center)
    window = _hann(height, reach)[:, None] * _hann(width, reach)
    window = window if kspace.centered else torch.fft.ifftshift(window)
    y = kspace.y.to(torch.complex128)
    low = coil_images(window * y / y.abs().max(), kspace.centered)
    total = low.abs().square().sum(0).sqrt()
    if not bool(total.any()):
        raise ValueError("maps: the middle of k-space is 0, so that nothing can be estimated from it")
    return (low / total.clamp(min=torch.finfo(total.dtype).tiny)).to(torch.complex64)


def _reach(mask: Tensor, center: int | None) -> int:
    """How far the square around the middle reaches that is sampled, or that was asked for and is sampled."""
    row, column = mask.shape[0] // 2, mask.shape[1] // 2
    most = min(*mask.shape, LARGEST_CENTER if center is None else center)
    if center is not None and not 1 <= center <= min(mask.shape):
        raise ValueError(f"center: must be in 1 … {min(mask.shape)}, got {center!r}")
    reach = next(
        reach
        for reach in range((most - 1) // 2, -2, -1)
        if bool(mask[row - reach : row + reach + 1, column - reach : column + reach + 1].all())
    )
    least = SMALLEST_CENTER if center is None else 2 * ((center - 1) // 2) + 1
    if 2 * reach + 1 < least:
        raise ValueError(
            f"maps: the middle of k-space must be sampled to estimate them, {least}×{least} frequencies around zero, "
            f"but only {max(0, 2 * reach + 1)}×{max(0, 2 * reach + 1)} are; give maps of your own"
        )
    return reach


def _hann(count: int, reach: int) -> Tensor:
    distance = (torch.arange(count, dtype=torch.float64) - count // 2).abs()
    return torch.where(distance <= reach, (1 + (math.pi * distance / (reach + 1)).cos()) / 2, 0)


def write_maps(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    center: int | None = None,
    key: str = "kspace",
    centered: bool | None = None,
    progress: bool = True,
) -> list[Path]:
    """Estimate the sensitivities of the coils of volumes, and write a file for each, under its name.

    Files hold the data set `maps`, (slice, coil, height, width), complex64.

    Parameters
    ----------
    sources : list of str or Path
        HDF5 files in the layout of fastMRI, and folders of them.
    out : str or Path
        the folder of the maps; files that are there already stay as they are.
    center : int, optional
        as in `estimate_maps`.
    key, centered
        as in `read_kspace`.
    progress : bool
        whether to show a progress bar.

    Returns
    -------
    list of Path
        the files that were written

    Raises
    ------
    ValueError
        for volumes that cannot be read, have one coil, or share a name, or if the middle of k-space is not sampled.
    """
    out = as_path("out", out)
    volumes = open_volumes(sources, key, centered)
    names = [volume.path.name for volume in volumes]
    for volume in volumes:
        if names.count(volume.path.name) > 1:
            raise ValueError(f"maps: several volumes are called {volume.path.name}, and each needs a file of its own")
        if volume.shape[0] == 1:
            raise ValueError(f"maps: {volume.path} holds k-space of one coil, which needs no maps")
        check_writable(out / volume.path.name, volume.path)
    left = [volume for volume in volumes if not (out / volume.path.name).exists()]
    for volume in tqdm(left, desc="estimating maps", unit="volume", disable=not progress, dynamic_ncols=True):
        maps = []
        for number in range(volume.slices):
            try:
                maps.append(estimate_maps(read_kspace(volume.path, number, key, centered), center).numpy())
            except ValueError as error:
                raise ValueError(f"maps: {volume.path}: slice {number}: {error}") from error
        with replacing(out / volume.path.name) as temporary:
            temporary.write_bytes(_as_hdf5(np.stack(maps)))
    return [out / volume.path.name for volume in left]


def _as_hdf5(maps: np.ndarray) -> bytes:
    """A file of maps. It is made in memory, for HDF5 crashes where a disk is full."""
    import h5py

    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        file[MAPS] = maps
    return buffer.getvalue()
