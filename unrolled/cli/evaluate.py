"""unrolled evaluate --weights epgn-cs25 --data FOLDER"""

import json
from pathlib import Path

from jsonargparse import ArgumentParser

from unrolled.reconstruction.evaluation import evaluate, table
from unrolled.system.files import check_writable, replacing
from unrolled.weights.card import record
from unrolled.weights.networks import load


def run(argv: list[str]) -> int:
    """Print the table, and write it as JSON if asked."""
    parser = ArgumentParser(prog="unrolled evaluate", description="PSNR and SSIM on images.", allow_abbrev=False)
    parser.add_argument("--weights", type=str, required=True, help="a name of `unrolled zoo`, or a file")
    parser.add_argument("--data", type=str, required=True, help="a folder of images, or one image")
    parser.add_argument("--json", type=str | None, default=None, help="write the figures to this file")
    parser.add_argument(
        "--record",
        type=str | None,
        default=None,
        metavar="NAME",
        help="keep the means in the weights' card, under NAME",
    )
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, …; auto takes the GPU if there is one")
    parser.add_argument("--bfloat16", type=bool, default=False, help="run the learned part in bfloat16")
    options = parser.parse_args(argv)
    network, operator = load(options.weights, options.device)
    if options.json is not None:
        check_writable(options.json)
    result = evaluate(network, options.data, operator, bfloat16=options.bfloat16, progress=True)
    print(table(result))
    if options.json is not None:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=1) + "\n")
    if options.record is not None:
        means = {key: round(result[key], 4) for key in ("psnr", "ssim", "start_psnr")}
        record(options.weights, {"evaluation": {options.record: {**means, "images": len(result["images"])}}})
    return 0
