"""unrolled evaluate --weights epgn-cs25 --data FOLDER"""

import os
from typing import Any

from jsonargparse import set_parsing_settings

from unrolled.cli import command_line
from unrolled.operators import Noise
from unrolled.reconstruction.evaluation import evaluate, table
from unrolled.system.files import check_writable, write_json
from unrolled.system.scales import Scale
from unrolled.weights.card import find
from unrolled.weights.card import record as record_in_card
from unrolled.weights.networks import load


def run(argv: list[str]) -> int:
    """Evaluate weights."""
    set_parsing_settings(subclasses_enabled=[Noise])
    return command_line.run("evaluate", evaluate_weights, argv, own_classes=True)


def evaluate_weights(
    *,
    weights: str,
    data: str,
    json: str | None = None,
    record: str | None = None,
    scale: Scale | None = None,
    key: str | None = None,
    device: str = "auto",
    bfloat16: bool = False,
    compile: bool | None = None,
    noise: Noise | None = None,
) -> None:
    """Measure images, reconstruct them with trained weights, and print PSNR and SSIM of each.

    Parameters
    ----------
    weights : str
        a name that `unrolled zoo` lists, or a file.
    data : str
        a folder or file of images or HDF5.
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
    noise : Noise, optional
        added to the measurements, such as PhotonNoise; its arguments are --noise.NAME.
    """
    if record is not None and not os.path.isfile(weights):
        raise ValueError(
            f"record: is kept in a file of weights, got the shipped {weights!r}; copy {find(weights)} first"
        )
    network, operator = load(weights, device)
    if json is not None:
        check_writable(json, weights, data)
    if record is not None:
        check_writable(find(weights))
    how: dict[str, Any] = {"bfloat16": bfloat16, "compile": compile, "scale": scale, "key": key, "noise": noise}
    result = evaluate(network, data, operator, progress=True, **how)
    print(table(result))
    if json is not None:
        write_json(json, result, indent=1)
    if record is not None:
        means = {key: round(result[key], 4) for key in ("psnr", "ssim", "start_psnr")}
        record_in_card(weights, {"evaluation": {record: {**means, "images": len(result["images"])}}})
