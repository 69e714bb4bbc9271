"""What `unrolled reconstruct` does with k-space and with weights of magnetic resonance."""

import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from unrolled.data.kspace_files import KSpace, read_kspace
from unrolled.figures.pictures import save_picture
from unrolled.metrics import psnr
from unrolled.operators import LinearOperator, MaskedFourier, MultiCoilFourier, SamplingMask
from unrolled.operators.sampled_fourier import sampling_mask
from unrolled.reconstruction.mri import METHODS, coil_magnitude, kspace_operator, middle, reconstruct_kspace, zero_fill
from unrolled.system.arrays import read_array
from unrolled.system.devices import torch_device
from unrolled.weights.networks import load

DIFFERS = 0.1
"""Part by which the sampling ratio may differ from the one in training before a warning is given."""


def reconstruct_file(options: Any, out: Path) -> None:
    """Reconstruct one slice of a file, write picture and panels, and print its PSNR if the truth is known."""
    kspace = read_kspace(options.kspace, options.slice, options.key, options.centered)
    truth = kspace.truth
    if options.mask is not None:
        truth = coil_magnitude(kspace).float() if truth is None else truth
        mask = sampling_mask("--mask", options.mask, *_sides(kspace.mask), centered=kspace.centered)
        kspace = kspace.undersampled(mask)
    device = torch_device(options.device)
    maps = None if options.maps is None else read_array(options.maps, dimensions=3)
    if options.method is not None:
        name, method, complex_images = options.method, METHODS[options.method], True
    else:
        method, trained = load(options.weights, options.device)
        _check_trained(trained, kspace)
        name, complex_images = type(method).__name__, trained.complex_images
    operator = kspace_operator(kspace, complex_images, maps, options.center).to(device)
    size = options.size or _smaller(kspace.mask, truth)
    found = reconstruct_kspace(kspace, method, operator, size, bfloat16=options.bfloat16)
    images = {"zero-filled": reconstruct_kspace(kspace, zero_fill, operator, size)}
    if method is not zero_fill:
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
            print(f"{label}: PSNR {float(psnr((image / peak)[None, None], (truth / peak)[None, None])):.2f} dB")
    print(f"wrote {out}")
    shown = {label: image / peak for label, image in images.items()}
    write_panels(out, kspace.mask, kspace.y, kspace.centered, shown, None if truth is None else truth / peak)


def write_panels(
    out: Path, mask: Tensor, y: Tensor, centered: bool, images: dict[str, Tensor], truth: Tensor | None
) -> None:
    """Mask, k-space (coil, height, width), images and errors beside the picture; without matplotlib only a warning."""
    try:
        from unrolled.figures.kspace_panels import mri_panels
    except ImportError:
        warnings.warn("the panels need matplotlib: pip install 'unrolled[plots]'", stacklevel=2)
        return
    panels = out.with_name(f"{out.stem}-mri.png")
    spectrum = y.abs().square().sum(0).sqrt()
    if not centered:
        mask, spectrum = torch.fft.fftshift(mask), torch.fft.fftshift(spectrum)
    mri_panels(panels, mask, spectrum, images, truth)
    print(f"wrote {panels}")


def add_options(parser: ArgumentParser) -> None:
    """The options of `unrolled reconstruct` that are for k-space."""
    group = parser.add_argument_group("measured k-space (magnetic resonance)")
    group.add_argument("--kspace", type=str | None, default=None, help="a file, .npy or HDF5 in the layout of fastMRI")
    group.add_argument("--slice", type=int | None, default=None, help="of the volume; by default the middle one")
    group.add_argument("--key", type=str, default="kspace", help="the name of the data set in HDF5")
    group.add_argument(
        "--centered", type=bool | None, default=None, help="DC in the middle: as in HDF5, by default not so in .npy"
    )
    group.add_argument("--method", type=str | None, default=None, help=f"instead of weights: {', '.join(METHODS)}")
    group.add_argument(
        "--mask",
        type=SamplingMask | str | None,
        default=None,
        help="keep only what a mask samples, a file or e.g. CartesianMask, and compare with the whole",
    )
    group.add_argument("--maps", type=str | None, default=None, help="sensitivities of coils, otherwise estimated")
    group.add_argument("--center", type=int | None, default=None, help="side of the middle they are estimated from")


def check_options(options: Any) -> None:
    """Raise ValueError for options that would be left unheard, and for k-space without a way to reconstruct it."""
    if options.kspace is None:
        for name in ("slice", "centered", "method", "mask", "maps", "center"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} is for --kspace")
        return
    if (options.weights is None) == (options.method is None):
        raise ValueError(f"--kspace: give --weights, or --method (of {', '.join(METHODS)}), one of them")
    if options.method is not None and options.method not in METHODS:
        raise ValueError(f"--method: must be one of {', '.join(METHODS)}, got {options.method!r}")


def _check_trained(trained: LinearOperator, kspace: KSpace) -> None:
    if not isinstance(trained, (MaskedFourier, MultiCoilFourier)):
        raise ValueError(f"--weights: were trained for {type(trained).__name__}, not for k-space")
    ratio = float(trained.mask.mean())
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
