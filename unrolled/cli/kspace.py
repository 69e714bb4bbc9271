"""unrolled kspace FILE --weights epgn-mri20 --out slice.png"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from inspect import isabstract
from pathlib import Path
from typing import NamedTuple

import torch
from jsonargparse import set_parsing_settings
from torch import Tensor
from tqdm import trange

from unrolled.cli import command_line
from unrolled.cli.command_line import Flag
from unrolled.cli.panels import panels_beside, write_panels
from unrolled.data.hdf5 import SUFFIXES
from unrolled.data.kspace_fastmri import VolumeFacts
from unrolled.data.kspace_files import KSpace, read_kspace, volume_facts
from unrolled.data.kspace_layout import middle, one_sided
from unrolled.figures.pictures import check_beside, check_format, save_picture
from unrolled.metrics import psnr, volume_figures
from unrolled.operators import CoilMaps, LinearOperator, LowResolution, SampledFourier, SamplingMask
from unrolled.operators.coil_mixing import compression, mixed, whitening
from unrolled.operators.frequencies import sampling_mask
from unrolled.reconstruction.mri import METHODS, Method, coil_magnitude, kspace_operator, reconstruct_kspace, zero_fill
from unrolled.system.arrays import read_array
from unrolled.system.cfl import check_header, write_cfl
from unrolled.system.devices import torch_device
from unrolled.system.files import check_writable, replacing
from unrolled.system.recipes import subclasses
from unrolled.weights.networks import load

DIFFERS = 0.1
"""Part by which the sampling ratio may differ from the one in training before a warning is given."""


def run(argv: list[str]) -> int:
    """Reconstruct k-space."""
    set_parsing_settings(subclasses_enabled=[SamplingMask, CoilMaps])
    return command_line.run("kspace", reconstruct_file, argv, own_classes=True)


def reconstruct_file(
    file: str,
    /,
    *,
    out: str,
    weights: str | None = None,
    method: str | None = None,
    slice: int | None = None,
    key: str = "kspace",
    centered: bool | None = None,
    axes: str | None = None,
    mask: SamplingMask | str | None = None,
    maps: CoilMaps | str | None = None,
    center: int | None = None,
    coils: int | None = None,
    noise: str | None = None,
    size: tuple[int, int] | None = None,
    crop: Flag = False,
    bfloat16: bool = False,
    device: str = "auto",
    noise_level: float | None = None,
) -> None:
    """Reconstruct a slice of measured k-space (magnetic resonance), by weights or by a classical method, or a volume.

    A second picture shows the mask, k-space, the zero-filled image and the reconstruction. If the true image is known,
    it shows their errors too, and their PSNR is printed. Of a volume NMSE, PSNR and SSIM are printed as fastMRI defines
    them, with the largest value of the true volume for the peak.

    Parameters
    ----------
    file : str
        k-space: .npy of one coil or several, HDF5 in the layout of fastMRI or of ISMRMRD, or .cfl of BART.
    out : str
        the file of the picture; another is written beside it. A name that ends in .h5 or .cfl is for the images of all
        slices, (slice, height, width); in HDF5 as fastMRI's submissions have them, under the name reconstruction.
    weights : str, optional
        a name that `unrolled zoo` lists, or a file.
    method : str, optional
        a classical method instead of weights: zero-fill, wavelet-l1, tv, reweighted or partial-fourier.
    slice : int, optional
        which slice of a volume, counted from 0; by default the middle one.
    key : str
        the name of the data set in HDF5.
    centered : bool, optional
        whether the frequency 0 is in the middle, or at [0, 0]; by default it is where most of the energy lies.
    axes : str, optional
        what the axes are, such as coil,height,width or slice,height,width; needed for .npy of three axes.
    mask : SamplingMask or str, optional
        a file, or a kind of mask such as CartesianMask: reconstruct from what it samples, and compare with the whole.
    maps : CoilMaps or str, optional
        a file of the coils' sensitivities, or a way to estimate them such as Espirit (the default), of one set or, by
        --maps.sets 2, of several, or LowResolution (the default for weights that estimate the maps themselves).
    center : int, optional
        by default the sensitivities are estimated from a square of this side in the middle of k-space.
    coils : int, optional
        mix the coils to so many virtual ones, which hold as much of the energy as possible; that takes less time.
    noise : str, optional
        a file of noise alone, (coil, samples), by which the noise of the coils is made white.
    size : (int, int), optional
        [HEIGHT,WIDTH] of the part in the middle of the image that is kept; by default that of the true image, or what
        the file states.
    crop : bool
        cut the height of k-space to that part first, which takes less time; its columns must be sampled throughout.
    bfloat16 : bool
        compute the learned part in bfloat16.
    device : str
        cpu, cuda, …; auto takes the GPU if there is one.
    noise_level : float, optional
        √E|noise|² of a number of k-space, in its units, for weights that take the noise level.
    """
    if (weights is None) == (method is None):
        raise ValueError(f"give --weights, or --method (of {', '.join(METHODS)}), one of them")
    if method is not None and method not in METHODS:
        raise ValueError(f"--method: must be one of {', '.join(METHODS)}, got {method!r}")
    for given, value, base in (("mask", mask, SamplingMask), ("maps", maps, CoilMaps)):
        if isinstance(value, str) and not Path(value).exists():
            kinds = ", ".join(sorted(kind.__name__ for kind in subclasses(base) if not isabstract(kind)))
            raise ValueError(f"--{given}: there is no file {value}, and no such kind of {given}; known: {kinds}")
    inputs = file, weights, *(given for given in (maps, mask, noise) if isinstance(given, str))
    whole_volume = Path(out).suffix.lower() in (*SUFFIXES, ".cfl")
    if whole_volume and slice is not None:
        raise ValueError(f"--slice: {out} is for all slices; leave --slice out, or name a picture")
    check_writable(out, *inputs)
    if Path(out).suffix.lower() == ".cfl":
        check_header(Path(out))
    if not whole_volume:
        check_format(out)
        check_beside(panels_beside(Path(out)), *inputs)
    given_maps = read_array(maps, dimensions=(3, 4, 5)) if isinstance(maps, str) else maps
    whitened = None if noise is None else whitening(read_array(noise, dimensions=2))
    if weights is None:
        name, reconstruct, trained, estimates_maps = str(method), METHODS[str(method)], None, False
    else:
        reconstruct, trained = load(weights, device)
        name, estimates_maps = type(reconstruct).__name__, reconstruct.estimates_maps
    complex_images = trained is None or trained.complex_images

    def prepare(index: int | None) -> _Prepared:
        kspace, sensitivities, middle_side = read_kspace(file, index, key, centered, axes), given_maps, center
        if whitened is not None:
            kspace, sensitivities = _mixed(kspace, sensitivities, whitened)
            kspace = replace(kspace, truth=None)  # which is of the coils as they were
        truth = kspace.truth
        if mask is not None:
            truth = coil_magnitude(kspace).float() if truth is None else truth
            kspace = kspace.undersampled(sampling_mask("--mask", mask, *_sides(kspace.mask), centered=kspace.centered))
        if coils is not None:
            kspace, sensitivities = _mixed(kspace, sensitivities, compression(kspace.y, coils))
        if trained is not None:
            _check_trained(trained, kspace)
        kept = size or _smaller(kspace, truth)
        kspace = kspace.cropped((kept[0], kspace.mask.shape[1])) if crop else kspace
        if estimates_maps and sensitivities is None and len(kspace.y) > 1:
            sensitivities, middle_side = LowResolution(center), None  # for the scale and the zero-filled image
        operator = kspace_operator(kspace, complex_images, sensitivities, middle_side).to(torch_device(device))
        return _Prepared(kspace, operator, kept, None if truth is None else middle(truth, kept))

    if whole_volume:
        _volume(Path(out), volume_facts(file, key, axes), prepare, reconstruct, bfloat16, noise_level)
    else:
        _picture(Path(out), prepare(slice), name, reconstruct, bfloat16, noise_level)


class _Prepared(NamedTuple):
    """A slice with its operator, the size of the image that is kept, and the true image of that size."""

    kspace: KSpace
    operator: SampledFourier
    size: tuple[int, int]
    truth: Tensor | None

    def image(self, reconstruct: Method, bfloat16: bool = False, noise: float | None = None) -> Tensor:
        return reconstruct_kspace(self.kspace, reconstruct, self.operator, self.size, bfloat16=bfloat16, noise=noise)


def _picture(
    out: Path, prepared: _Prepared, name: str, reconstruct: Method, bfloat16: bool, noise: float | None
) -> None:
    """Write the picture of a slice, and the panels beside it."""
    kspace, truth = prepared.kspace, prepared.truth
    found = prepared.image(reconstruct, bfloat16, noise)
    images = {"zero-filled": prepared.image(zero_fill)}
    if reconstruct is not zero_fill:
        images[name] = found
    peak = float((found if truth is None else truth).max())
    if not peak > 0:
        raise ValueError("k-space: its reconstruction is 0 everywhere")
    save_picture(out, (found / peak).clamp(0, 1)[None])
    print(f"{100 * kspace.ratio:.1f} % of the frequencies, {len(kspace.y)} coil{'s' * (len(kspace.y) > 1)}")
    for axis, part in one_sided(kspace.mask, kspace.centered).items():
        print(
            f"partial Fourier: {part:.0%} was measured along the {axis}, one side farther than the other; where the "
            "phase is smooth, --method partial-fourier fills in the rest"
        )
    if truth is not None:
        for label, image in images.items():
            print(f"{label}: {_quality(image, truth, peak)}")
    print(f"wrote {out}")
    shown = {label: image / peak for label, image in images.items()}
    write_panels(out, kspace.mask, kspace.y, kspace.centered, shown, None if truth is None else truth / peak)


def _volume(
    out: Path,
    facts: VolumeFacts,
    prepare: Callable[[int | None], _Prepared],
    reconstruct: Method,
    bfloat16: bool,
    noise: float | None,
) -> None:
    """Write the images of all slices, and print the figures of the volume."""
    images, truths = list[Tensor](), list[Tensor]()
    for index in trange(facts.slices, unit="slice", leave=False):
        try:
            prepared = prepare(index if facts.slices > 1 else None)  # a file of one slice may have no number for it
            images.append(prepared.image(reconstruct, bfloat16, noise))
        except ValueError as error:
            raise ValueError(f"slice {index}: {error}") from error
        if prepared.truth is not None:
            truths.append(prepared.truth)
    volume = torch.stack(images)
    _save(out, volume)
    what = "" if facts.acquisition is None else f", {facts.acquisition}"
    print(f"{len(images)} slice{'s' * (len(images) > 1)} of {volume.shape[1]} × {volume.shape[2]}{what}")
    if len(truths) == len(images):
        figures = volume_figures(volume, torch.stack(truths))
        print(f"NMSE {figures['nmse']:.4g}, PSNR {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.4f}")
        print("The peak is the largest value of the true volume.")
    print(f"wrote {out}")


def _save(out: Path, volume: Tensor) -> None:
    import h5py

    if out.suffix.lower() == ".cfl":
        write_cfl(out, volume, "slice, height, width")
        return
    # The file is locked already, by who replaces it.
    with replacing(out) as temporary, h5py.File(temporary, "w", locking=False) as file:
        file["reconstruction"] = volume.numpy()


def _mixed(kspace: KSpace, maps: CoilMaps | Tensor | None, matrix: Tensor) -> tuple[KSpace, CoilMaps | Tensor | None]:
    """k-space, and maps if they are given, of coils that are mixed."""
    for what, given in (("k-space", kspace.y), ("maps", maps)):
        if isinstance(given, Tensor) and given.shape[-3] != matrix.shape[1]:
            raise ValueError(f"{what}: must be of as many coils as are mixed, {matrix.shape[1]}, got {given.shape[-3]}")
    return replace(kspace, y=mixed(matrix, kspace.y)), mixed(matrix, maps) if isinstance(maps, Tensor) else maps


def _quality(image: Tensor, truth: Tensor, peak: float) -> str:
    try:
        db = float(psnr((image / peak)[None, None], (truth / peak)[None, None]))
    except ValueError as error:  # of a file whose true image has other units than its k-space
        return f"no PSNR, {error}"
    return f"PSNR {db:.2f} dB, its peak is the truth's largest value, {peak:.4g}"


def _check_trained(trained: LinearOperator, kspace: KSpace) -> None:
    if not isinstance(trained, SampledFourier):
        raise ValueError(f"--weights: were trained for {type(trained).__name__}, not for k-space")
    ratio = trained.ratio
    if abs(ratio - kspace.ratio) > DIFFERS * ratio:
        warnings.warn(
            f"{100 * kspace.ratio:.1f} % of the frequencies are sampled, and the weights were trained for "
            f"{100 * ratio:.1f} %",
            stacklevel=2,
        )


def _sides(image: Tensor) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _smaller(kspace: KSpace, truth: Tensor | None) -> tuple[int, int]:
    """The size of the true image if it is known, or what the file states, but no larger than what was measured."""
    height, width = _sides(kspace.mask)
    if truth is None:
        return kspace.size or (height, width)
    return min(height, truth.shape[0]), min(width, truth.shape[1])
