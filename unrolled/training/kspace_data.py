"""Measured k-space to train on, as a config states it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from unrolled.data.holding_out import held_out
from unrolled.data.kspace_files import KSpace
from unrolled.data.kspace_slices import KSpaceSlices, Volume, open_volumes
from unrolled.data.measured import Measured, Seed, check_sigma
from unrolled.data.sources import TrainingData
from unrolled.data.stores import CACHE_MIB
from unrolled.operators import CoilMaps, Coils, Espirit, LinearOperator, MaskedFourier, MultiCoilFourier, SamplingMask
from unrolled.operators.drawn_values import Among, Between
from unrolled.operators.operator_draws import drawn_arguments, made_at_the_ends, made_with
from unrolled.system.files import one_or_several
from unrolled.system.scalars import PlainNumbers


@dataclass
class KSpaceData(TrainingData, PlainNumbers):
    """Measured k-space to train on: volumes in fastMRI's layout.

    Parameters
    ----------
    train : list of str
        HDF5 files (`kspace`: (slice, height, width) of one coil, (slice, coil, height, width) of several), and folders
        of them. Slices may differ in size; those of one size share a batch.
    validation : str or None
        volumes to validate on, given likewise, which need not be fully sampled if they hold their true image
        (`reconstruction_rss`, of one coil `reconstruction_esc`); by default some of the training volumes are held out.
    hold_out_volumes : int
        how many volumes are held out, drawn by the seed, if validation is not given.
    mask : SamplingMask or None
        what is sampled of fully sampled k-space; by default what the files say is sampled.
    anew : bool
        whether every sample of training is sampled by a mask of its own, drawn with another seed, where the kind of
        mask is drawn; otherwise each slice has one mask for good, as slices of validation have.
    mask_ranges : dict or None
        of arguments of the mask that are drawn for every sample, such as {"acceleration": [2, 8]}; ranges are stated as
        those of `DrawnOperator`. Slices of validation keep what is drawn for them.
    truth : "rss", "combined" or None
        what the true image is. "rss": the root of the sum of squares over the coils, with the phase of their
        combination by the maps; validation takes the image in the file if there is one. "combined": that combination.
        None: no image is ever made, for losses that learn from measurements alone.
    maps : CoilMaps, str or None
        how the coils' sensitivities are estimated from the middle of what the slice's own mask samples, by default
        `Espirit`, or `LowResolution` for networks that estimate the maps themselves, as `unrolled kspace` does; or a
        folder with a file of them for every volume, under its name: `maps`, (slice, coil, height, width), as
        `unrolled data estimate-maps` writes.
    mirrors : bool
        whether samples of training come mirrored at random, with their masks and maps, up and down, and left and right:
        four images of each.
    validation_slices : int
        at most so many slices are validated, from all over the volumes.
    key : str
        the name of k-space in the files.
    centered : bool or None
        whether the frequency 0 is in the middle, or at [0, 0]; by default it is where most of the energy lies.
    sigma : float or None
        standard deviation of the noise in k-space, √E|noise|², in the units of the files; losses and networks that
        take it are told.
    cache_mib : int
        the most memory for training slices with their maps, in MiB; what does not fit is read, and its maps are
        estimated, each time it is drawn.
    """

    train: list[str]
    validation: str | None = None
    hold_out_volumes: int = 1
    mask: SamplingMask | None = None
    anew: bool = True
    mask_ranges: dict[str, Any] | None = None
    truth: Literal["rss", "combined"] | None = "rss"
    maps: CoilMaps | str | None = None
    mirrors: bool = False
    validation_slices: int = 16
    key: str = "kspace"
    centered: bool | None = None
    sigma: float | None = None
    cache_mib: int = CACHE_MIB

    def __post_init__(self) -> None:
        self.train = one_or_several(self.train)
        if not self.train:
            raise ValueError("data: train must name at least one folder or file of k-space")
        for name in ("hold_out_volumes", "validation_slices", "cache_mib"):
            least = 0 if name == "cache_mib" else 1
            if getattr(self, name) < least:
                raise ValueError(f"data: {name} must be >= {least}, got {getattr(self, name)!r}")
        check_sigma(self.sigma)
        _ = self._drawn_of_mask
        if (sets := getattr(self.maps, "sets", 1)) > 1:
            raise ValueError(f"data: maps must be of one set for training, got {sets} sets")
        if self.truth not in ("rss", "combined", None):
            raise ValueError(f"data: truth must be 'rss', 'combined' or null, got {self.truth!r}")

    def load(self, seed: int = 0, needs_truth: bool = True) -> tuple[KSpaceSlices, KSpaceSlices]:
        """Open the volumes, and read those slices that fit into the cache.

        Parameters
        ----------
        seed : int
            draws the volumes to hold out.
        needs_truth : bool
            whether training needs the true images; otherwise only validation makes them.

        Returns
        -------
        training, validation

        Raises
        ------
        ValueError
            if files cannot be read, or too few volumes are left.
        """
        if needs_truth and self.truth is None:
            raise ValueError("data: truth must be 'rss' or 'combined' for a loss that needs the true images, got null")
        folder = self.maps if isinstance(self.maps, str) else None
        volumes = open_volumes(self.train, self.key, self.centered, folder)
        if self.validation is not None:
            held = open_volumes([self.validation], self.key, self.centered, folder)
        else:
            if self.hold_out_volumes >= len(volumes):
                raise ValueError(
                    f"data: hold_out_volumes must be below the {len(volumes)} volumes found, got "
                    f"{self.hold_out_volumes}; or give validation"
                )
            held, volumes = held_out(volumes, self.hold_out_volumes, seed)
        training = self._samples(_slices(volumes), targets=needs_truth, mirrors=self.mirrors)
        return training, self.validated(held)

    def validated(self, volumes: Sequence[Volume]) -> KSpaceSlices:
        """The slices of volumes as they are validated, at most `validation_slices` of them, from all over."""
        slices = _slices(volumes)
        return self._samples(slices[:: -(-len(slices) // self.validation_slices)], targets=False)

    def _samples(self, slices: Sequence[tuple[Volume, int]], targets: bool, mirrors: bool = False) -> KSpaceSlices:
        draw = None if self.mask is None else self._draw
        how: dict[str, Any] = {"key": self.key, "centered": self.centered, "cache_mib": self.cache_mib}
        return KSpaceSlices(slices, self._estimate, draw, self.anew, self.truth, targets, mirrors, **how)

    def _estimate(self, kspace: KSpace) -> Tensor:
        maps = self.maps if isinstance(self.maps, CoilMaps) else Espirit()
        return maps.estimate(kspace.y, kspace.mask, kspace.centered)

    def _draw(self, height: int, width: int, centered: bool, seed: Seed) -> Tensor:
        assert self.mask is not None
        random = np.random.default_rng(seed)
        changes = {name: drawn.at(random.random()) for name, drawn in self._drawn_of_mask.items()}
        mask: SamplingMask = made_with(self.mask, changes)
        return drawn_mask(mask, height, width, centered, seed)

    @functools.cached_property
    def _drawn_of_mask(self) -> dict[str, Between | Among]:
        """What is drawn of the mask's arguments, checked; every mask has a seed of its own already."""
        if "seed" in (self.mask_ranges or {}):
            raise ValueError("data: mask_ranges must not have seed: every sample has one of its own")
        drawn = drawn_arguments("data: mask_ranges", self.mask, self.mask_ranges)
        made_at_the_ends(self.mask, drawn)
        return drawn

    def operator_like(self, first: Measured) -> LinearOperator:
        """An operator of the kind that measured a sample, with simulated coils: what weights are saved with."""
        assert first.mask is not None
        height, width = first.mask.shape[-2:]
        mask: SamplingMask | Tensor = first.mask[0, 0] if self.mask is None else self.mask
        how: dict[str, Any] = {"complex_images": True, "centered": first.centered}
        if first.maps is None:
            return MaskedFourier(mask, height, width, **how)
        return MultiCoilFourier(Coils(first.maps.shape[1]), mask, height, width, **how)


def drawn_mask(mask: SamplingMask, height: int, width: int, centered: bool, seed: Seed) -> Tensor:
    """A mask of a kind, drawn with the seed that some numbers give; kinds without a seed are always the same.

    Returns
    -------
    Tensor, (height, width), float32 of 0 and 1
    """
    if hasattr(mask, "seed"):
        mask = replace(mask, seed=int(np.random.SeedSequence((mask.seed, *seed)).generate_state(1)[0]))  # type: ignore[call-arg]
    drawn = mask.draw(height, width).float()
    return torch.fft.fftshift(drawn) if centered else drawn


def _slices(volumes: Sequence[Volume]) -> list[tuple[Volume, int]]:
    return [(volume, number) for volume in volumes for number in range(volume.slices)]
