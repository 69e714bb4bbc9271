"""Sensitivities of the coils of whole volumes, estimated once and kept in files beside them."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unrolled.data.kspace_files import read_kspace
from unrolled.data.kspace_slices import MAPS, open_volumes
from unrolled.operators import CoilMaps, Espirit
from unrolled.system.files import as_path, check_writable, replacing


def write_maps(
    sources: Sequence[str | Path],
    out: str | Path,
    maps: CoilMaps | None = None,
    *,
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
    maps : CoilMaps, optional
        how they are estimated, one set of each slice; by default `Espirit()`.
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
        for several sets, volumes that cannot be read, have one coil, or share a name, or if the middle of k-space is
        not sampled.
    """
    import h5py

    out, estimator = as_path("out", out), Espirit() if maps is None else maps
    if (sets := getattr(estimator, "sets", 1)) > 1:
        raise ValueError(f"maps: must be of one set, got {sets} sets")
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
        found = []
        for number in range(volume.slices):
            kspace = read_kspace(volume.path, number, key, centered)
            try:
                found.append(estimator.estimate(kspace.y, kspace.mask, kspace.centered).numpy())
            except ValueError as error:
                raise ValueError(f"maps: {volume.path}: slice {number}: {error}") from error
        # Made in memory, for HDF5 crashes where a disk is full.
        buffer = BytesIO()
        with h5py.File(buffer, "w") as file:
            file[MAPS] = np.stack(found)
        with replacing(out / volume.path.name) as temporary:
            temporary.write_bytes(buffer.getvalue())
    return [out / volume.path.name for volume in left]
