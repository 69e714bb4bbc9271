"""unrolled reconstruct photo.jpg --weights epgn-cs25 --out photo.png"""

from pathlib import Path

from torch import Tensor

from unrolled.cli import command_line
from unrolled.cli.command_line import Flag
from unrolled.cli.panels import PANELS, write_panels
from unrolled.data.unit_images import single_to_unit
from unrolled.figures.pictures import check_beside, check_format, save_picture, save_side_by_side
from unrolled.metrics import shown_psnr
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, SampledFourier
from unrolled.reconstruction.evaluation import peak_text
from unrolled.reconstruction.pipeline import WHOLE, from_measurements, iterates, linear_start, measure, reconstruct
from unrolled.system.arrays import read_array
from unrolled.system.files import check_writable
from unrolled.system.scales import Scale
from unrolled.weights.networks import load

STRIP = 4
"""Images side by side in a strip of iterates."""


def run(argv: list[str]) -> int:
    """Reconstruct an image."""
    return command_line.run("reconstruct", reconstruct_image, argv, own_classes=True)


def reconstruct_image(
    image: str | None = None,
    /,
    *,
    out: str,
    weights: str = "epgn-cs25",
    color: Flag = False,
    iterates: Flag = False,
    measurements: str | None = None,
    size: tuple[int, int] | None = None,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
    device: str = "auto",
    scale: Scale | None = None,
    kspace: str | None = None,
) -> None:
    """Measure an image and reconstruct it from the measurements, or reconstruct from measurements.

    Of an image the PSNR is printed, and pictures that compare are written beside the reconstruction.

    Parameters
    ----------
    image : str, optional
        the image to measure; leave it out with --measurements.
    out : str
        the file of the picture; others are written beside it.
    weights : str
        a name that `unrolled zoo` lists, or a file.
    color : bool
        reconstruct red, green and blue, each by itself, instead of the luma.
    iterates : bool
        also write a strip of the images after each phase.
    measurements : str, optional
        a file of measurements (.npy, .mat, .h5) to reconstruct from.
    size : (int, int), optional
        [HEIGHT,WIDTH] of the image that was measured.
    tile : int, optional
        reconstruct in tiles with sides of so many pixels, in less memory; the result is the same.
    bfloat16 : bool
        compute the learned part in bfloat16.
    compile : bool, optional
        compile the network first, which takes a minute; by default from 150 megapixels on, on a CPU, in float32.
    device : str
        cpu, cuda, …; auto takes the GPU if there is one.
    scale : optional
        what white is in the image: a number, [BLACK,WHITE], max (its largest magnitude) or a percentile such as 99.5%;
        by default what the type says, 255, 65535 or 1. Of the image that measurements are of: a number or max; by
        default 1.
    kspace : str, optional
        has become a command of its own: unrolled kspace FILE.
    """
    if kspace is not None:
        raise ValueError(f"--kspace is a command of its own: unrolled kspace {kspace} --out {out} …")
    if (image is None) == (measurements is None):
        raise ValueError("give an image or --measurements, one of them")
    target = Path(out)
    check_format(target)
    check_writable(target, image, measurements, weights)
    network, operator = load(weights, device)
    if image is not None:
        beside = {"comparison": True, "iterates": iterates, PANELS: isinstance(operator, SampledFourier)}
        for what in (what for what, written in beside.items() if written):
            check_beside(_beside(target, what), image, weights)
    if image is None:
        y = read_array(str(measurements))
        how = {"tile": tile, "bfloat16": bfloat16, "compile": compile, "progress": True, "scale": scale}
        found = from_measurements(y, network, operator, size, **how)  # type: ignore[arg-type]
        save_picture(target, found if scale is None else _to_white(found, scale))
        print(f"wrote {target}")
        return
    truth, span = single_to_unit("image", image, scale, color)
    given = 1.0 if span.given else None
    how = {"tile": tile, "bfloat16": bfloat16, "compile": compile}
    found = reconstruct(truth, network, operator, **how, progress=True, scale=given)  # type: ignore[arg-type]
    save_picture(target, found)
    print(f"PSNR {_db(found, truth)}, its peak is {peak_text(scale)}\nwrote {target}")
    if truth[0].numel() > WHOLE:
        print(f"no comparison: {target} has more than {WHOLE:,} pixels")
        return
    _compare(target, truth, found, network, operator, iterates)


def _to_white(image: Tensor, scale: Scale) -> Tensor:
    """An image with its white, or its largest value, at 1."""
    white = scale if isinstance(scale, float) else float(image.max())
    return image / (white or 1.0)


def _compare(
    out: Path, truth: Tensor, found: Tensor, network: UnrolledNetwork, operator: LinearOperator, strip: bool
) -> None:
    """Write what lies beside the reconstruction: the comparison, panels of magnetic resonance, and the iterates."""
    name, y = type(network).__name__, measure(truth, network, operator)
    if strip:
        start, *phases = [x.cpu() for x in iterates(truth, network, operator, scale=1.0)]
    else:
        start = linear_start(y, network, operator, (truth.shape[-2], truth.shape[-1])).cpu()
    comparison = _beside(out, "comparison")
    labels = {"original": truth, f"linear start\n{_db(start, truth)}": start, f"{name}\n{_db(found, truth)}": found}
    save_side_by_side(comparison, labels)
    print(f"linear start {_db(start, truth)}\nwrote {comparison}")
    if isinstance(operator, SampledFourier):
        images = {"zero-filled": start[0], name: found[0].cpu()}
        write_panels(
            out,
            operator.mask.reshape(operator.mask.shape[-2:]).cpu(),
            y[0].flatten(0, -3).cpu(),
            operator.centered,
            images,
            truth[0],
        )
    if strip:
        named = {"start": start, **{f"phase {phase}": x for phase, x in enumerate(phases, 1)}}
        save_side_by_side(
            _beside(out, "iterates"), {f"{label}\n{_db(x, truth)}": x for label, x in named.items()}, columns=STRIP
        )
        print(f"wrote {_beside(out, 'iterates')}")


def _db(image: Tensor, truth: Tensor) -> str:
    return f"{float(shown_psnr(image.unsqueeze(0), truth.unsqueeze(0))):.2f} dB"


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}-{what}.png")
