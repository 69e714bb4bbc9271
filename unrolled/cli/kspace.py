"""unrolled kspace FILE --weights epgn-mri20 --out slice.png"""

import warnings
from dataclasses import replace
from inspect import isabstract
from pathlib import Path

from jsonargparse import set_parsing_settings
from torch import Tensor

from unrolled.cli import command_line
from unrolled.cli.panels import panels_beside, write_panels
from unrolled.data.kspace_files import KSpace, read_kspace
from unrolled.data.kspace_layout import middle
from unrolled.figures.pictures import check_beside, check_format, save_picture
from unrolled.metrics import psnr
from unrolled.operators import CoilMaps, LinearOperator, SampledFourier, SamplingMask
from unrolled.operators.coil_mixing import compression, mixed, whitening
from unrolled.operators.frequencies import sampling_mask
from unrolled.reconstruction.mri import METHODS, coil_magnitude, kspace_operator, reconstruct_kspace, zero_fill
from unrolled.system.arrays import read_array
from unrolled.system.devices import torch_device
from unrolled.system.files import check_writable
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
    bfloat16: bool = False,
    device: str = "auto",
) -> None:
    """Reconstruct a slice of measured k-space (magnetic resonance), by weights or by a classical method.

    A second picture shows the mask, k-space, the zero-filled image and the reconstruction. If the true image is known,
    it shows their errors too, and their PSNR is printed.

    Parameters
    ----------
    file : str
        k-space: .npy of one coil or several, or HDF5 in the layout of fastMRI.
    out : str
        the file of the picture; another is written beside it.
    weights : str, optional
        a name that `unrolled zoo` lists, or a file.
    method : str, optional
        a classical method instead of weights: zero-fill, wavelet-l1, tv or reweighted.
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
        --maps.sets 2, of several, or LowResolution.
    center : int, optional
        by default the sensitivities are estimated from a square of this side in the middle of k-space.
    coils : int, optional
        mix the coils to so many virtual ones, which hold as much of the energy as possible; that takes less time.
    noise : str, optional
        a file of noise alone, (coil, samples), by which the noise of the coils is made white.
    size : (int, int), optional
        [HEIGHT,WIDTH] of the part in the middle of the image that is kept.
    bfloat16 : bool
        compute the learned part in bfloat16.
    device : str
        cpu, cuda, …; auto takes the GPU if there is one.
    """
    if (weights is None) == (method is None):
        raise ValueError(f"give --weights, or --method (of {', '.join(METHODS)}), one of them")
    if method is not None and method not in METHODS:
        raise ValueError(f"--method: must be one of {', '.join(METHODS)}, got {method!r}")
    for name, value, base in (("mask", mask, SamplingMask), ("maps", maps, CoilMaps)):
        if isinstance(value, str) and not Path(value).exists():
            kinds = ", ".join(sorted(kind.__name__ for kind in subclasses(base) if not isabstract(kind)))
            raise ValueError(f"--{name}: there is no file {value}, and no such kind of {name}; known: {kinds}")
    check_format(out)
    inputs = file, weights, *(given for given in (maps, mask, noise) if isinstance(given, str))
    check_writable(out, *inputs)
    check_beside(panels_beside(Path(out)), *inputs)
    kspace = read_kspace(file, slice, key, centered, axes)
    sensitivities = read_array(maps, dimensions=(3, 4, 5)) if isinstance(maps, str) else maps
    if noise is not None:
        kspace, sensitivities = _mixed(kspace, sensitivities, whitening(read_array(noise, dimensions=2)))
        kspace = replace(kspace, truth=None)  # which is of the coils as they were
    truth = kspace.truth
    if mask is not None:
        truth = coil_magnitude(kspace).float() if truth is None else truth
        kspace = kspace.undersampled(sampling_mask("--mask", mask, *_sides(kspace.mask), centered=kspace.centered))
    if coils is not None:
        kspace, sensitivities = _mixed(kspace, sensitivities, compression(kspace.y, coils))
    if weights is None:
        name, reconstruct, complex_images = str(method), METHODS[str(method)], True
    else:
        reconstruct, trained = load(weights, device)
        _check_trained(trained, kspace)
        name, complex_images = type(reconstruct).__name__, trained.complex_images
    operator = kspace_operator(kspace, complex_images, sensitivities, center).to(torch_device(device))
    size = size or _smaller(kspace.mask, truth)
    found = reconstruct_kspace(kspace, reconstruct, operator, size, bfloat16=bfloat16)
    images = {"zero-filled": reconstruct_kspace(kspace, zero_fill, operator, size)}
    if reconstruct is not zero_fill:
        images[name] = found
    if truth is not None:
        truth = middle(truth, size)
    peak = float((found if truth is None else truth).max())
    if not peak > 0:
        raise ValueError("k-space: its reconstruction is 0 everywhere")
    save_picture(out, (found / peak).clamp(0, 1)[None])
    print(f"{100 * kspace.ratio:.1f} % of the frequencies, {len(kspace.y)} coil{'s' * (len(kspace.y) > 1)}")
    if truth is not None:
        for label, image in images.items():
            print(f"{label}: {_quality(image, truth, peak)}")
    print(f"wrote {out}")
    shown = {label: image / peak for label, image in images.items()}
    write_panels(Path(out), kspace.mask, kspace.y, kspace.centered, shown, None if truth is None else truth / peak)


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


def _smaller(whole: Tensor, truth: Tensor | None) -> tuple[int, int]:
    """The size of the true image if it is known, but no larger than what was measured."""
    height, width = _sides(whole)
    if truth is None:
        return height, width
    return min(height, truth.shape[0]), min(width, truth.shape[1])
