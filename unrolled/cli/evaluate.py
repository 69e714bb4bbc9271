"""unrolled evaluate --weights epgn-cs25 --data FOLDER"""

import os
from typing import Any

from unrolled.cli import operator_option
from unrolled.operators import LinearOperator, Noise, OperatorDraw
from unrolled.reconstruction.evaluation import evaluate, table
from unrolled.system.files import check_writable, write_json
from unrolled.system.scales import Scale
from unrolled.weights.card import find
from unrolled.weights.card import record as record_in_card


def run(argv: list[str]) -> int:
    """Evaluate weights."""
    return operator_option.run("evaluate", evaluate_weights, argv)


def evaluate_weights(
    *,
    weights: str,
    data: str,
    operator: LinearOperator | OperatorDraw | None = None,
    json: str | None = None,
    record: str | None = None,
    scale: Scale | None = None,
    key: str | None = None,
    device: str = "auto",
    bfloat16: bool = False,
    compile: bool | None = None,
    noise: Noise | float | None = None,
) -> None:
    """Measure images, reconstruct them with trained weights, and print PSNR and SSIM of each.

    Parameters
    ----------
    weights : str
        a name that `unrolled zoo` lists, or a file.
    data : str
        a folder or file of images or HDF5.
    operator : optional
        measure by another operator than that of the weights: its class, whose arguments are --operator.NAME. Where no
        height is given, it is made for the size of each image.
    json : str, optional
        write the figures to this file.
    record : str, optional
        keep the means in the card of the weights, under this name; the weights are then a file, not a name.
    scale : optional
        what white is in the files, and with it PSNR's peak: a number, [BLACK,WHITE], max (each image's own largest
        magnitude), a percentile such as 99.5%, or hu (Hounsfield units); by default what the type says, 255, 65535
        or 1.
    key : str, optional
        of the images in HDF5 files, where several data sets can be images.
    device : str
        cpu, cuda, …; auto takes the GPU if there is one.
    bfloat16 : bool
        compute the learned part in bfloat16.
    compile : bool, optional
        compile the network first, which takes a minute; by default from 150 megapixels on, on a CPU, in float32.
    noise : optional
        added to the measurements: the standard deviation of white noise, where white is 1, which weights that take the
        noise level are told; or a law, such as PhotonNoise, whose arguments are --noise.NAME.
    """
    if record is not None and not os.path.isfile(weights):
        raise ValueError(
            f"record: is kept in a file of weights, got the shipped {weights!r}; copy {find(weights)} first"
        )
    if json is not None:
        check_writable(json, weights, data)
    if record is not None:
        check_writable(find(weights))
    how: dict[str, Any] = {"bfloat16": bfloat16, "compile": compile, "scale": scale, "key": key, "device": device}
    result = evaluate(weights, data, operator, progress=True, noise=noise, **how)
    print(table(result))
    if json is not None:
        write_json(json, result, indent=1)
    if record is not None:
        means = {key: round(result[key], 4) for key in ("psnr", "ssim", "start_psnr")}
        record_in_card(weights, {"evaluation": {record: {**means, "images": len(result["images"])}}})
