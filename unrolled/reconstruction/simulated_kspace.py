"""Measured k-space of several coils, simulated from images, in the layout of fastMRI."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.data import open_images, with_phase
from unrolled.data.kspace_fastmri import RSS
from unrolled.data.kspace_layout import magnitude
from unrolled.data.stores import StoredImage, to_float
from unrolled.operators import Coils, ComplexGaussianNoise, MultiCoilFourier
from unrolled.system.files import as_path, check_writable, replacing
from unrolled.system.scalars import plain_number, whole_number

RADIUS = (1.2, 2.0)
"""Between these lies the radius of the ring of coils, in halves of the side of the image."""

WITHOUT_NAME = "images"


def simulate_kspace(
    images: str | Path,
    out: str | Path,
    *,
    coils: int = 8,
    noise: float = 0.005,
    unit: float = 1e-5,
    slices: int = 8,
    key: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> list[Path]:
    """Write volumes of fully sampled k-space as several coils would have measured it of images.

    Every volume has a ring of coils of its own, around the image at a random distance, each with a random phase; the
    sum of their squared sensitivities is 1 everywhere. Real images get a smooth random phase first. Files are in the
    layout of fastMRI, with the zero frequency in the middle: `kspace` (slice, coil, height, width), complex64, and
    `reconstruction_rss`.

    Parameters
    ----------
    images : str or Path
        as in `open_images`: a folder, an HDF5 file, …; complex images keep their phase.
    out : str or Path
        the folder of the volumes, which may not hold any of their names.
    coils : int
    noise : float >= 0
        standard deviation of the complex noise in k-space, of images whose largest magnitude is 1.
    unit : float > 0
        the largest magnitude of every image, without noise.
    slices : int
        images in a volume, all of one size; the last volume may have fewer.
    key : str, optional
        of the images in HDF5 files.
    seed : int
    progress : bool
        whether to show a progress bar.

    Returns
    -------
    list of Path
        the files

    Raises
    ------
    ValueError
        for a wrong argument, images that cannot be read or are black, or files that exist already.
    """
    out, source = as_path("out", out), as_path("images", images)
    coils, slices = whole_number("coils:", coils), whole_number("slices:", slices)
    noise, unit = plain_number("noise", noise, float), plain_number("unit", unit, float)
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise: must be a finite number >= 0, got {noise!r}")
    if not 0 < unit < float("inf"):
        raise ValueError(f"unit: must be a finite number > 0, got {unit!r}")
    stored = open_images(images, key=key, scale="max")
    sizes = dict.fromkeys(image.shape[1:] for image in stored)
    groups = [
        same[first : first + slices]
        for same in ([image for image in stored if image.shape[1:] == size] for size in sizes)
        for first in range(0, len(same), slices)
    ]
    names = "-".join(part for part in (source.stem or WITHOUT_NAME, key) if part)
    paths = [out / f"{names}-{number:04}.h5" for number in range(1, len(groups) + 1)]
    for path in paths:
        check_writable(path, source)
        if path.exists():
            raise ValueError(f"out: {path} exists already; choose another folder")
    volumes = enumerate(zip(paths, groups, strict=True))
    for number, (path, group) in tqdm(
        volumes, desc="simulating", total=len(paths), unit="volume", disable=not progress
    ):
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))
        with replacing(path) as temporary:
            temporary.write_bytes(_as_hdf5(unit * _volume(group, coils, noise, generator)))
    return paths


def _volume(images: list[StoredImage], coils: int, noise: float, generator: torch.Generator) -> Tensor:
    """k-space of images whose largest magnitude is 1, (slice, coil, height, width)."""
    _, height, width = images[0].shape
    low, high = RADIUS
    maps = Coils(coils, low + (high - low) * float(torch.rand(1, generator=generator))).draw(height, width)
    phase = 2 * math.pi * torch.rand(coils, 1, 1, generator=generator)
    operator = MultiCoilFourier(
        maps * torch.polar(torch.ones_like(phase), phase), torch.ones(height, width), centered=True
    )
    measured = []
    for image in images:
        x = with_phase(to_float(image.read())[None, :1], generator)
        measured.append(ComplexGaussianNoise(noise)(operator(x), generator)[0, 0])
    return torch.stack(measured)


def _as_hdf5(y: Tensor) -> bytes:
    """A file in fastMRI's layout. It is made in memory, for HDF5 crashes where a disk is full."""
    import h5py

    truth = torch.stack([magnitude(each, True) for each in y])
    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        file["kspace"], file[RSS] = y.numpy(), truth.numpy()
        file.attrs.update(acquisition="simulated", max=float(truth.max()), norm=float(truth.norm()))
    return buffer.getvalue()
