"""Volumes of measured k-space as training data: slices sampled by masks, their coils' maps, and their images."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.data.hdf5 import check_stored, list_hdf5, open_file
from unrolled.data.kspace_files import KSpace, read_kspace
from unrolled.data.kspace_layout import coil_images, magnitude
from unrolled.data.measured import Measured, MeasuredSamples, Seed
from unrolled.data.stores import CACHE_MIB
from unrolled.system.arraylike import are_complex, with_complex

Draw = Callable[[int, int, bool, Seed], Tensor]
"""(height, width, centered, seed) ↦ mask, (height, width), of 0 and 1."""

Estimate = Callable[[KSpace], Tensor]
"""A slice ↦ the sensitivities of its coils, (coil, height, width)."""

Truth = Literal["rss", "combined"]

MAPS = "maps"
"""The data set of sensitivities, (slice, coil, height, width), in a file beside that of the volume."""


MIRRORED = 1
"""Tells the random numbers of mirroring from those of masks."""

NAMED = 10
"""Files that cannot be used of which a message says why."""


class Volume(NamedTuple):
    """A file of k-space.

    Parameters
    ----------
    path : Path
    slices : int
    shape : (coil, height, width)
        of every slice.
    centered : bool
        where the zero frequency lies.
    maps : Path or None
        a file of the coils' sensitivities.
    """

    path: Path
    slices: int
    shape: tuple[int, int, int]
    centered: bool
    maps: Path | None = None


def open_volumes(
    sources: Sequence[str | Path], key: str = "kspace", centered: bool | None = None, maps: str | Path | None = None
) -> list[Volume]:
    """The volumes of folders and files; of each, one slice is read to find what is wrong before training begins.

    Parameters
    ----------
    sources : list of str or Path
        HDF5 files in the layout of fastMRI, see `read_kspace`, and folders of them.
    key : str
        the name of k-space in the files.
    centered : bool, optional
        as in `read_kspace`.
    maps : str or Path, optional
        a folder with a file of sensitivities for every volume of several coils, under the same name: the data set
        `maps`, complex, (slice, coil, height, width).

    Raises
    ------
    ValueError
        if a source has no HDF5 files, or files cannot be read or do not fit their maps: the first ten are named.
    """
    paths: list[Path] = []
    for source in sources:
        found = list_hdf5(Path(source))
        if not found:
            raise ValueError(f"k-space: {source} is no HDF5 file, and no folder of such files")
        paths += found
    if maps is not None and not Path(maps).is_dir():
        raise ValueError(f"maps: there is no folder {maps}")
    volumes, broken = list[Volume](), list[str]()
    for path in tqdm(paths, desc="opening k-space", unit="volume", delay=3, leave=False, disable=None):
        try:
            volumes.append(_opened(path, key, centered, None if maps is None else Path(maps)))
        except ValueError as error:
            broken.append(str(error))
    if broken:
        more = [f"and {len(broken) - NAMED} more"] if len(broken) > NAMED else []
        lines = [f"k-space: {len(broken)} of {len(paths)} files cannot be used:", *broken[:NAMED], *more]
        raise ValueError("\n".join(lines))
    return volumes


def _opened(path: Path, key: str, centered: bool | None, maps: Path | None) -> Volume:
    kspace = read_kspace(path, None, key, centered)
    with open_file(path) as file:
        slices = len(file[key])
    coil, height, width = kspace.y.shape
    volume = Volume(path, slices, (coil, height, width), kspace.centered, None if maps is None else maps / path.name)
    if volume.maps is not None and coil > 1:
        read_maps(volume, slices // 2)
    return volume


def read_maps(volume: Volume, index: int) -> Tensor:
    """The sensitivities of a slice, (coil, height, width), complex64, from the volume's file of maps.

    Raises
    ------
    ValueError
        if there is no such file, or its data set is missing, of another size, or not finite.
    """
    path, shape = volume.maps, (volume.slices, *volume.shape)
    assert path is not None
    with open_file(path) as file:
        data = file.get(MAPS)
        if data is None or not are_complex(data.dtype) or data.shape != shape:
            found = f"{data.dtype} {data.shape}" if hasattr(data, "dtype") else "nothing of that kind"
            raise ValueError(f"maps: {path} must hold {MAPS!r}, complex, {shape} like {volume.path}, it holds {found}")
        check_stored(data, path, MAPS)
        maps = torch.from_numpy(with_complex(data[index])).to(torch.complex64)
    largest = maps.abs().square().sum(0).max().sqrt()
    if not (bool(torch.isfinite(largest)) and largest > 0):
        raise ValueError(f"maps: {path}: must be finite, and not 0 everywhere, in slice {index}")
    return maps / largest


@dataclass(frozen=True)
class Slice:
    """A slice as it is kept: all that was measured, the maps of its coils, and the true image in the units of y."""

    kspace: KSpace
    maps: Tensor | None
    truth: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        parts = (self.kspace.y, self.kspace.mask, self.maps, self.truth)
        return sum(part.nbytes for part in parts if part is not None)


class KSpaceSlices(MeasuredSamples):
    """The slices of volumes, each sampled by a mask.

    The maps are estimated from what the slice's fixed mask samples, as they are where nothing else was measured, and
    kept with the slice as long as there is room.

    Parameters
    ----------
    slices : list of (Volume, int)
        the volume, and the number of the slice in it.
    estimate : callable KSpace ↦ maps
        for slices of several coils whose volume has no file of maps.
    draw : callable (height, width, centered, seed) ↦ mask, optional
        without it slices are sampled by the masks of their files.
    anew : bool
        whether every sample of training draws another mask; otherwise each slice has one of its own.
    truth : "rss" or "combined", optional
        what the image of a slice is: the root of the sum of squares over the coils, with the phase of their combination
        by the maps; or that combination. Without it no image is made.
    targets : bool
        whether samples come with their true image, which then must be known of all; otherwise it is only `shown`, and
        that in the file is taken where there is one.
    mirrors : bool
        whether samples of training come mirrored at random, up and down, and left and right.
    key, centered
        as in `read_kspace`.
    cache_mib : int
        the most memory for slices, in MiB; those that do not fit are read, and their maps are estimated, again
        whenever they are drawn.

    Raises
    ------
    ValueError
        for slices that cannot be read, are not as the one in the middle of their volume, or have no maps; where the
        true image is needed, for those that are not fully sampled.
    """

    def __init__(
        self,
        slices: Sequence[tuple[Volume, int]],
        estimate: Estimate,
        draw: Draw | None = None,
        anew: bool = True,
        truth: Truth | None = None,
        targets: bool = True,
        mirrors: bool = False,
        key: str = "kspace",
        centered: bool | None = None,
        cache_mib: int = CACHE_MIB,
    ):
        self.slices, self.estimate, self.draw, self.anew = slices, estimate, draw, anew
        self.truth: Truth | None = truth
        self.targets, self.mirrors = targets and truth is not None, mirrors
        self.key, self.centered = key, centered
        self.kinds = [(volume.shape, volume.centered) for volume, _ in slices]
        left, self.kept = cache_mib * 2**20, dict[int, Slice]()
        for index in tqdm(range(len(slices)), desc="reading k-space", unit="slice", delay=3, leave=False, disable=None):
            read = self._read(index)
            if read.nbytes > left:
                break
            left -= read.nbytes
            self.kept[index] = read

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return len(self.kept) < len(self)

    def sample(self, index: int, seed: Seed | None = None) -> Measured:
        volume, _ = self.slices[index]
        kept = self.kept.get(index) or self._read(index)
        mask = self._mask(index, seed if self.anew else None)
        part = kept.kspace if mask is None else _undersampled(volume, kept.kspace, mask)
        maps = None if kept.maps is None else kept.maps[None]
        truth = None if kept.truth is None else kept.truth[None, None]
        found = Measured(
            part.y[None, None] if maps is not None else part.y[None],
            truth,
            part.mask[None, None],
            maps,
            volume.centered,
        )
        if self.mirrors and seed is not None:
            for axis, turned in zip(
                (-2, -1), np.random.default_rng((*seed, MIRRORED)).integers(2, size=2), strict=True
            ):
                found = mirrored(found, axis) if turned else found
        return found

    def shown(self, index: int) -> Tensor | None:
        if self.truth is None:
            return None
        kept = self.kept.get(index) or self._read(index)
        if self.truth == "rss" and kept.kspace.truth is not None:
            return kept.kspace.truth[None, None]
        truth = self._truth(index, kept.kspace, kept.maps) if kept.truth is None else kept.truth
        return truth.abs()[None, None]

    def _mask(self, index: int, seed: Seed | None) -> Tensor | None:
        if self.draw is None:
            return None
        volume, number = self.slices[index]
        own = (zlib.crc32(volume.path.name.encode()), number)
        _, height, width = volume.shape
        return self.draw(height, width, volume.centered, own if seed is None else seed)

    def _read(self, index: int) -> Slice:
        volume, number = self.slices[index]
        kspace = read_kspace(volume.path, number, self.key, self.centered)
        if (tuple(kspace.y.shape), kspace.centered) != self.kinds[index]:
            raise ValueError(
                f"k-space: {volume.path}: slice {number} must be like the slice in the middle, (coil, height, width) "
                f"{volume.shape} with centered={volume.centered}, is {tuple(kspace.y.shape)} with "
                f"centered={kspace.centered}; give centered, if it is the same everywhere"
            )
        maps = self._maps(index, kspace) if len(kspace.y) > 1 else None
        return Slice(kspace, maps, self._truth(index, kspace, maps) if self.targets else None)

    def _maps(self, index: int, kspace: KSpace) -> Tensor:
        volume, number = self.slices[index]
        if volume.maps is not None:
            return read_maps(volume, number)
        mask = self._mask(index, None)
        try:
            return self.estimate(kspace if mask is None else kspace.undersampled(mask))
        except ValueError as error:
            raise ValueError(f"k-space: {volume.path}: slice {number}: {error}") from error

    def _truth(self, index: int, kspace: KSpace, maps: Tensor | None) -> Tensor:
        """The true image, (height, width), complex64."""
        volume, number = self.slices[index]
        if not _fully_sampled(kspace.mask):
            raise ValueError(
                f"k-space: {volume.path}: slice {number} is not fully sampled, so its true image is not known; give "
                "truth: null, and a loss that needs no truth"
            )
        images = coil_images(kspace.y, kspace.centered)
        if maps is None:
            return images[0]
        combined = (maps.conj() * images).sum(0)
        return torch.polar(magnitude(kspace.y, kspace.centered), combined.angle()) if self.truth == "rss" else combined


def mirrored(sample: Measured, axis: int) -> Measured:
    """What would have been measured of the mirrored image: k-space, mask, maps and truth about their origin.

    Parameters
    ----------
    sample : Measured
    axis : -2 or -1
    """

    def about_origin(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        turned = x.flip(axis)
        # Reversed, the origin has moved by one, but for that in the middle of an odd number.
        return turned if sample.centered and x.shape[axis] % 2 else turned.roll(1, axis)

    y, truth, mask, maps = map(about_origin, (sample.y, sample.truth, sample.mask, sample.maps))
    assert y is not None
    return sample._replace(y=y, truth=truth, mask=mask, maps=maps)


def _undersampled(volume: Volume, kspace: KSpace, mask: Tensor) -> KSpace:
    try:
        return kspace.undersampled(mask)
    except ValueError as error:
        raise ValueError(f"k-space: {volume.path}: {error}") from error


def _fully_sampled(mask: Tensor) -> bool:
    """Whether all frequencies between the outermost ones are sampled: what lies beyond them is padding."""
    rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
    return bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())
