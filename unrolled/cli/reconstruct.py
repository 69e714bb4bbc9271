"""unrolled reconstruct photo.jpg --weights epgn-cs25 --out photo.png"""

from pathlib import Path

from jsonargparse import ArgumentParser
from torch import Tensor

from unrolled.data.images import read_image
from unrolled.files import check_writable
from unrolled.metrics import psnr
from unrolled.operators.matrix import read_array
from unrolled.pictures import check_format, save_picture, save_side_by_side
from unrolled.reconstruct import from_measurements, iterates
from unrolled.weights import load


def run(argv: list[str]) -> int:
    """Reconstruct one image and write the pictures."""
    parser = ArgumentParser(prog="unrolled reconstruct", description="Reconstruct an image.", allow_abbrev=False)
    parser.add_argument("image", nargs="?", help="an image, which is measured first; or use --measurements")
    parser.add_argument("--weights", type=str, default="epgn-cs25", help="a name of `unrolled zoo`, or a file")
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
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, …; auto takes the GPU if there is one")
    options = parser.parse_args(argv)
    if (options.image is None) == (options.measurements is None):
        raise ValueError("give an image or --measurements, one of them")
    out = Path(options.out)
    check_format(out)
    check_writable(out)
    network, operator = load(options.weights, options.device)
    if options.measurements is not None:
        save_picture(out, from_measurements(read_array(options.measurements), network, operator, options.size))
        print(f"wrote {out}")
        return 0
    image = read_image(options.image, options.color)
    found = [x.cpu() for x in iterates(image, network, operator, last_only=not options.iterates)]
    save_picture(out, found[-1])
    comparison = _beside(out, "comparison")
    save_side_by_side(
        comparison,
        {
            "original": image,
            f"linear start\n{_db(found[0], image)}": found[0],
            f"{type(network).__name__}\n{_db(found[-1], image)}": found[-1],
        },
    )
    print(f"PSNR {_db(found[-1], image)}, linear start {_db(found[0], image)}")
    print(f"wrote {out}\nwrote {comparison}")
    if options.iterates:
        strip = _beside(out, "iterates")
        labels = ["start"] + [f"phase {phase}" for phase in range(1, len(found))]
        panels = {f"{label}\n{_db(x, image)}": x for label, x in zip(labels, found, strict=True)}
        save_side_by_side(strip, panels, columns=4)
        print(f"wrote {strip}")
    return 0


def _db(image: Tensor, truth: Tensor) -> str:
    return f"{float(psnr(image.unsqueeze(0), truth.unsqueeze(0))):.2f} dB"


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}-{what}.png")
