"""How good weights are: PSNR and SSIM per image, and their means."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from unrolled.data.complex_phase import with_fixed_phase
from unrolled.data.images import list_images, read_image
from unrolled.metrics import psnr, ssim
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.reconstruction.pipeline import from_measurements, linear_start, measure, resolve


def evaluate(
    network: UnrolledNetwork | str | Path,
    images: str | Path | dict[str, Tensor],
    operator: LinearOperator | None = None,
    *,
    bfloat16: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure, reconstruct and compare every image, by the protocol of the literature on Set11.

    Luma of 8-bit images / 255; padded with zeros to whole blocks, cropped back, clipped; PSNR with peak 1 and SSIM per
    image, then the mean over images. No rounding.

    For an operator on complex images the images are magnitudes that get a smooth phase, the one which validation gives
    to the image of the same number (`unrolled.data.with_fixed_phase`), and figures are those of magnitudes.

    Parameters
    ----------
    network : UnrolledNetwork, or the name or file of weights
    images : a folder, an image file, or a dict of names and images (channel, height, width) in [0, 1]
    operator : LinearOperator
        needed with a network; weights bring their own.
    bfloat16 : bool
        run the learned part in bfloat16.
    progress : bool

    Returns
    -------
    dict
        "psnr", "ssim", "start_psnr" (of the linear start) and "images", a list of the same per image with "name" and
        "seconds" (of measuring and reconstructing)

    Raises
    ------
    ValueError
        if there are no images, one cannot be read, or the weights cannot be loaded.
    """
    network, operator = resolve(network, operator)
    rows = []
    pairs = list(_named(images))
    for index, (name, read) in enumerate(tqdm(pairs, disable=not progress, unit="image", leave=False)):
        truth = read()
        x = with_fixed_phase(truth, index) if operator.complex_images and truth.ndim == 3 else truth
        size = (x.shape[-2], x.shape[-1])
        began = time.perf_counter()
        try:
            y = measure(x, network, operator)
            image = from_measurements(y, network, operator, size, bfloat16=bfloat16)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        seconds = time.perf_counter() - began
        start = linear_start(y, network, operator, size)
        truth = truth.unsqueeze(0)
        rows.append(
            {
                "name": name,
                "psnr": float(psnr(image.cpu().unsqueeze(0), truth)),
                "ssim": float(ssim(image.cpu().unsqueeze(0), truth)),
                "start_psnr": float(psnr(start.cpu().unsqueeze(0), truth)),
                "seconds": round(seconds, 4),
            }
        )
    means = {key: float(torch.tensor([row[key] for row in rows]).mean()) for key in ("psnr", "ssim", "start_psnr")}
    return {**means, "images": rows}


def _named(images: str | Path | dict[str, Tensor]) -> Iterable[tuple[str, Any]]:
    if isinstance(images, dict):
        return [(name, lambda image=image: image) for name, image in images.items()]
    return [(path.name, lambda path=path: read_image(path)) for path in list_images(images)]


def table(result: dict[str, Any]) -> str:
    """The result as a table of text: a row per image, and the mean."""
    width = max(len("image"), *(len(row["name"]) for row in result["images"]))
    lines = [f"{'image':<{width}}   PSNR dB   SSIM    start dB   seconds"]
    for row in result["images"]:
        figures = f"{row['psnr']:7.2f}   {row['ssim']:.4f}   {row['start_psnr']:7.2f}   {row['seconds']:7.2f}"
        lines.append(f"{row['name']:<{width}}   {figures}")
    lines.append(f"{'mean':<{width}}   {result['psnr']:7.2f}   {result['ssim']:.4f}   {result['start_psnr']:7.2f}")
    return "\n".join(lines)
