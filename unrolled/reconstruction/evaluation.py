"""How good weights are: PSNR and SSIM per image, and their means."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from unrolled.data.complex_phase import with_fixed_phase
from unrolled.data.sources import open_images
from unrolled.data.stores import StoredImage, as_stored_image, check_bright, stored, to_float
from unrolled.metrics import psnr, ssim
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, OperatorDraw
from unrolled.reconstruction.noise_level import StatedNoise, checked, told
from unrolled.reconstruction.pipeline import (
    device_of,
    gains_by_compiling,
    invert,
    linear_start,
    measure,
    picture,
)
from unrolled.system.scales import Scale, as_scale
from unrolled.weights.chosen import operator_for, resolve


def evaluate(
    network: UnrolledNetwork | str | Path,
    images: str | Path | dict[str, Any] | Sequence[Any],
    operator: LinearOperator | OperatorDraw | None = None,
    *,
    device: str = "cpu",
    bfloat16: bool = False,
    compile: bool | None = None,
    progress: bool = False,
    scale: Scale | None = None,
    key: str | None = None,
    noise: StatedNoise | None = None,
) -> dict[str, Any]:
    """Measure, reconstruct and compare every image, by the protocol of the literature on Set11.

    Luma of 8-bit images / 255; padded with zeros to whole blocks, cropped back, clipped; PSNR with peak 1 and SSIM per
    image, then the mean over images. No rounding.

    For an operator on complex images, real images are magnitudes that get a smooth phase, the one which validation
    gives to the image of the same number (`unrolled.data.with_fixed_phase`), and figures are those of magnitudes.

    Parameters
    ----------
    network : UnrolledNetwork, or the name or file of weights
    images : a folder or file of images or HDF5, a dict of names and images, or a list of images
        (channel, height, width) or (height, width): tensors, arrays, pictures of Pillow.
    operator : LinearOperator or OperatorDraw, optional
        needed with a network. Weights bring the operator that they were trained for; another one may be given, and a
        warning says so unless they were trained for operators that are drawn. Of a draw every image gets the operator
        that validation gives to the image of the same number, made for its size; `DrawnOperator(operator)`, without
        ranges, follows the sizes of images alone.
    device : str
        where weights are loaded to; "auto" takes the GPU if there is one.
    bfloat16 : bool
        run the learned part in bfloat16.
    compile : bool, optional
        let torch.compile make code for the network; by default for sizes of which there are many images on a CPU, 36
        megapixels or more.
    progress : bool
    scale : float, (black, white), "max" or a percentile such as "99.5%", optional
        what white is in the images, which is the peak of PSNR and the data range of SSIM: truth and reconstruction are
        both clipped to black and white. By default what the type says: 255 of bytes, 65535 of unsigned 16-bit numbers,
        1 of floating point.
    key : str, optional
        of the images in HDF5 files, see `unrolled.data.ImageData`.
    noise : float >= 0 or Noise, optional
        added to the measurements, for the image of a number always the same: a law of noise, or the standard deviation
        of white noise where white is 1. A network that takes the noise level is told it.

    Returns
    -------
    dict
        "psnr", "ssim", "start_psnr" (of the linear start), "peak", a sentence that says what PSNR's peak is, and
        "images", a list of the same per image with "name" and "seconds" (of measuring and reconstructing)

    Raises
    ------
    ValueError
        if there are no images, one cannot be read, their white is not known, or the weights cannot be loaded.
    """
    scale, noise = as_scale("images", scale), checked(noise)
    network, chosen = resolve(network, operator, device)
    rows = []
    pairs = named_images(images, scale, key)
    pixels = Counter[tuple[int, ...]]()
    for _, stored_image in pairs:
        pixels[stored_image.shape] += math.prod(stored_image.shape)
    for index, (name, stored_image) in enumerate(tqdm(pairs, disable=not progress, unit="image", leave=False)):
        try:
            truth = to_float(stored_image.read())
            operator = operator_for(truth, index, chosen, device_of(network))
            x = with_fixed_phase(truth, index) if operator.complex_images else truth
            size = (x.shape[-2], x.shape[-1])
            began = time.perf_counter()
            y = measure(x, network, operator, noise, seed=index)
            many = pixels[stored_image.shape]
            worth = gains_by_compiling(many, network, operator, bfloat16) if compile is None else compile
            how: dict[str, Any] = {"bfloat16": bfloat16, "compile": worth, "noise": told(noise, network)}
            image = picture(invert(y, network, operator, **how)[0], size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        seconds = time.perf_counter() - began
        start = linear_start(y, network, operator, size)
        seen = picture(truth.unsqueeze(0), size) if scale is not None else truth.unsqueeze(0)
        rows.append(
            {
                "name": name,
                "psnr": float(psnr(image.cpu().unsqueeze(0), seen)),
                "ssim": float(ssim(image.cpu().unsqueeze(0), seen)),
                "start_psnr": float(psnr(start.cpu().unsqueeze(0), seen)),
                "seconds": round(seconds, 4),
            }
        )
    means = {key: float(torch.tensor([row[key] for row in rows]).mean()) for key in ("psnr", "ssim", "start_psnr")}
    return {**means, "peak": peak_text(scale), "images": rows}


def peak_text(scale: Scale | None) -> str:
    """What PSNR's peak is, in words."""
    scale = as_scale("scale", scale)
    if scale is None:
        return "white, which is 255 of bytes, 65535 of 16 bits and 1 of floating point"
    if isinstance(scale, str):
        return (
            f"white, which is {'the largest magnitude' if scale == 'max' else f'the {scale} percentile'} of each image"
        )
    if isinstance(scale, tuple):
        return f"white − black = {scale[1] - scale[0]:g}, from {scale[0]:g} to {scale[1]:g}"
    return f"white = {scale:g}"


def named_images(images: Any, scale: Scale | None = None, key: str | None = None) -> list[tuple[str, StoredImage]]:
    """Images with their names, not yet read where they are files.

    Parameters
    ----------
    images, scale, key
        as in `evaluate`.

    Raises
    ------
    ValueError
        if there are none, or all are so dark that they are probably in other units.
    """
    pairs = _named(images, as_scale("images", scale), key)
    if not pairs:
        raise ValueError("images: must be one at least, got none")
    check_bright([image for _, image in pairs])
    return pairs


def _named(images: Any, scale: Scale | None, key: str | None) -> list[tuple[str, StoredImage]]:
    if isinstance(images, (str, Path)):
        return _with_names(open_images(images, "test", key, scale=scale))
    if key is not None:
        raise ValueError(f"key: is for HDF5 files, got {key!r} with images of another kind")
    if isinstance(images, dict):
        return [(str(name), as_stored_image(image, scale, str(name))) for name, image in images.items()]
    each = list(images) if isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4 else None
    if each is None:
        raise ValueError(
            "images: must be a folder, a file, a dict of names and images or a list of images, got "
            f"{type(images).__name__}"
        )
    return _with_names(stored(each, scale))


def _with_names(images: Iterable[StoredImage]) -> list[tuple[str, StoredImage]]:
    return [(image.name or f"image {index}", image) for index, image in enumerate(images)]


def table(result: dict[str, Any]) -> str:
    """The result as a table of text: a row per image, and the mean."""
    width = max(len("image"), *(len(row["name"]) for row in result["images"]))
    lines = [f"{'image':<{width}}   PSNR dB   SSIM    start dB   seconds"]
    for row in result["images"]:
        figures = f"{row['psnr']:7.2f}   {row['ssim']:.4f}   {row['start_psnr']:7.2f}   {row['seconds']:7.2f}"
        lines.append(f"{row['name']:<{width}}   {figures}")
    lines.append(f"{'mean':<{width}}   {result['psnr']:7.2f}   {result['ssim']:.4f}   {result['start_psnr']:7.2f}")
    lines.append(f"PSNR's peak is {result['peak']}.")
    return "\n".join(lines)
