"""unrolled reconstruct photo.jpg --weights epgn-cs25 --out photo.png"""

from pathlib import Path

from jsonargparse import ArgumentParser
from torch import Tensor

from unrolled.cli.kspace import add_options, check_options, reconstruct_file, write_panels
from unrolled.data.images import read_image
from unrolled.figures.pictures import check_format, save_picture, save_side_by_side
from unrolled.metrics import psnr
from unrolled.operators import MaskedFourier, MultiCoilFourier
from unrolled.reconstruction.pipeline import WHOLE, from_measurements, iterates, linear_start, measure, reconstruct
from unrolled.system.arrays import read_array
from unrolled.system.files import check_writable
from unrolled.weights.networks import load


def run(argv: list[str]) -> int:
    """Reconstruct one image and write the pictures."""
    parser = ArgumentParser(prog="unrolled reconstruct", description="Reconstruct an image.", allow_abbrev=False)
    parser.add_argument("image", nargs="?", help="an image, which is measured first; or --measurements or --kspace")
    parser.add_argument(
        "--weights", type=str | None, default=None, help="a name of `unrolled zoo`, or a file; default: epgn-cs25"
    )
    parser.add_argument("--out", type=str, required=True, help="the picture to write; others are written beside it")
    parser.add_argument("--color", action="store_true", help="red, green and blue, each for itself, instead of luma")
    parser.add_argument("--iterates", action="store_true", help="also a strip of the image after each phase")
    parser.add_argument(
        "--measurements",
        type=str | None,
        default=None,
        help="reconstruct from a file of measurements (.npy, .mat, .h5)",
    )
    parser.add_argument(
        "--size", type=tuple[int, int] | None, default=None, metavar="[HEIGHT,WIDTH]", help="of the image measured"
    )
    parser.add_argument("--tile", type=int | None, default=None, help="side of tiles in pixels; the result is the same")
    parser.add_argument("--bfloat16", type=bool, default=False, help="run the learned part in bfloat16")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, …; auto takes the GPU if there is one")
    add_options(parser)
    options = parser.instantiate(parser.parse_args(argv))
    if sum(given is not None for given in (options.image, options.measurements, options.kspace)) != 1:
        raise ValueError("give an image or --measurements or --kspace, one of them")
    check_options(options)
    out = Path(options.out)
    check_format(out)
    check_writable(out)
    if options.kspace is not None:
        reconstruct_file(options, out)
        return 0
    network, operator = load(options.weights or "epgn-cs25", options.device)
    how = {"tile": options.tile, "bfloat16": options.bfloat16, "progress": True}
    if options.measurements is not None:
        y = read_array(options.measurements)
        save_picture(out, from_measurements(y, network, operator, options.size, **how))
        print(f"wrote {out}")
        return 0
    image = read_image(options.image, options.color)
    found = reconstruct(image, network, operator, **how)
    save_picture(out, found)
    print(f"PSNR {_db(found, image)}\nwrote {out}")
    if image[0].numel() > WHOLE:
        print(f"no comparison: {out} has more than {WHOLE:,} pixels")
        return 0
    if options.iterates:
        start, *phases = [x.cpu() for x in iterates(image, network, operator)]
    else:
        y = measure(image, network, operator)
        start = linear_start(y, network, operator, (image.shape[-2], image.shape[-1])).cpu()
    comparison = _beside(out, "comparison")
    save_side_by_side(
        comparison,
        {
            "original": image,
            f"linear start\n{_db(start, image)}": start,
            f"{type(network).__name__}\n{_db(found, image)}": found,
        },
    )
    print(f"linear start {_db(start, image)}\nwrote {comparison}")
    if isinstance(operator, (MaskedFourier, MultiCoilFourier)):
        y = measure(image, network, operator)[0].flatten(0, -3)
        shown = {"zero-filled": start[0], type(network).__name__: found[0].cpu()}
        write_panels(out, operator.mask.cpu(), y.cpu(), operator.centered, shown, image[0])
    if options.iterates:
        strip = _beside(out, "iterates")
        labels = ["start"] + [f"phase {phase}" for phase in range(1, len(phases) + 1)]
        panels = {f"{label}\n{_db(x, image)}": x for label, x in zip(labels, [start, *phases], strict=True)}
        save_side_by_side(strip, panels, columns=4)
        print(f"wrote {strip}")
    return 0


def _db(image: Tensor, truth: Tensor) -> str:
    return f"{float(psnr(image.unsqueeze(0), truth.unsqueeze(0))):.2f} dB"


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}-{what}.png")
