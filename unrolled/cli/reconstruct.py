"""unrolled reconstruct photo.jpg --weights epgn-cs25 --out photo.png, or photos --out reconstructions"""

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from unrolled.cli import operator_option
from unrolled.cli.command_line import Flag
from unrolled.cli.panels import PANELS, write_panels
from unrolled.cli.reconstruct_files import run_jobs
from unrolled.data.unit_images import single_to_unit
from unrolled.data.volumes import kind_of_file
from unrolled.figures.pictures import check_beside, save_side_by_side
from unrolled.metrics import shown_psnr
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, Noise, OperatorDraw, SampledFourier
from unrolled.reconstruction.evaluation import peak_text
from unrolled.reconstruction.jobs import Job, image_sources, is_picture, measurement_sources, names_a_file, plan
from unrolled.reconstruction.noise_level import StatedNoise
from unrolled.reconstruction.outputs import Output, ending_of
from unrolled.reconstruction.pipeline import WHOLE, device_of, iterates, linear_start, measure, reconstruct
from unrolled.system.files import check_writable
from unrolled.system.scales import Scale
from unrolled.training import distributed
from unrolled.weights.chosen import DEFAULT, operator_for, resolve

STRIP = 4
"""Images side by side in a strip of iterates."""


def run(argv: list[str]) -> int:
    """Reconstruct an image."""
    return operator_option.run("reconstruct", reconstruct_image, argv)


def reconstruct_image(
    image: str | None = None,
    /,
    *,
    out: str,
    weights: str = DEFAULT,
    operator: LinearOperator | OperatorDraw | None = None,
    color: Flag = False,
    iterates: Flag = False,
    measured: str | None = None,
    size: tuple[int, int] | None = None,
    format: str | None = None,
    bits: Literal[8, 16, 32] | None = None,
    magnitude: bool | None = None,
    skip_existing: Flag = False,
    overwrite: Flag = False,
    figures: str | None = None,
    key: str | None = None,
    tile: int | None = None,
    bfloat16: bool = False,
    compile: bool | None = None,
    device: str = "auto",
    scale: Scale | None = None,
    kspace: str | None = None,
    noise: Noise | float | None = None,
) -> int:
    """Measure images and reconstruct them from the measurements, or reconstruct from measurements.

    Of images PSNR and SSIM are printed. Of one picture, others that compare are written beside the reconstruction. A
    folder, or a file of many images, is reconstructed with one start; what is broken is named at the end, and the rest
    is done.

    Parameters
    ----------
    image : str, optional
        the image to measure, a folder, or a file of many: HDF5, NIfTI, DICOM; leave it out with --measured.
    out : str
        a file, of which the ending says what it holds (.png .tif .jpg .npy .h5 .nii.gz …), or a folder.
    weights : str
        a name that `unrolled zoo` lists, or a file.
    operator : optional
        another operator than that of the weights: its class, whose arguments are --operator.NAME. Where no height is
        given, it is made for the size of each image.
    color : bool
        reconstruct red, green and blue, each by itself, instead of the luma.
    iterates : bool
        also write a strip of the images after each phase, of one picture.
    measured : str, optional
        a file to reconstruct from, or a folder of them: measurements of one image or a batch (.npy, .mat, .h5), or a
        picture that is blurred, small, noisy or has holes.
    size : (int, int), optional
        [HEIGHT,WIDTH] of the image that was measured.
    format : str, optional
        the ending of files in a folder; by default that of the input, but png of pictures, nii.gz of DICOM and npy of
        measurements.
    bits : int, optional
        8, a picture from black to white; 16; or 32, floating point. The last two are in the units of the image if there
        is a scale. By default 8 of pictures, and 32 of all else.
    magnitude : bool, optional
        of complex images their magnitude; by default complex images stay so, and pictures of measurements show it.
    skip_existing : bool
        leave files that are there as they are, and go on with the others.
    overwrite : bool
        replace files that are there, in a folder too.
    figures : str, optional
        write PSNR, SSIM and what became of each image to this table, .csv or .json.
    key : str, optional
        of the images in HDF5 files, where several data sets can be images.
    tile : int, optional
        reconstruct in tiles with sides of so many pixels, in less memory; the result is the same.
    bfloat16 : bool
        compute the learned part in bfloat16.
    compile : bool, optional
        compile the network first, which takes a minute; by default from 150 megapixels on, on a CPU, in float32.
    device : str
        cpu, cuda, …; auto takes the GPU if there is one.
    scale : optional
        what white is in the image: a number, [BLACK,WHITE], max (its largest magnitude), a percentile such as 99.5%,
        or hu (Hounsfield units); by default what the type says, 255, 65535 or 1. Of the image that measurements are
        of: a number or max; by default 1.
    kspace : str, optional
        has become a command of its own: unrolled kspace FILE.
    noise : optional
        added to what is measured of an image: the standard deviation of white noise, where white is 1, or a law such as
        PhotonNoise, whose arguments are --noise.NAME. Of what was --measured the standard deviation in its units; by
        default it is estimated for weights that take it, and told.
    """
    if kspace is not None:
        raise ValueError(f"--kspace is a command of its own: unrolled kspace {kspace} --out {out} …")
    if (image is None) == (measured is None):
        raise ValueError("give an image or --measured, one of them")
    if image is None and isinstance(noise, Noise):
        raise ValueError(f"--noise of what was --measured must be a standard deviation, got {noise}")
    target, inputs = Path(out), Path(str(measured if image is None else image))
    how: dict[str, Any] = {"tile": tile, "bfloat16": bfloat16, "compile": compile}
    if image is not None and size is not None:
        raise ValueError(f"--size is of the image that measurements are of, an image has its own, got {list(size)}")
    alone = image is not None and not inputs.is_dir() and kind_of_file(inputs) in ("picture", "")
    if alone and names_a_file(target) and not (skip_existing or format or figures or key):
        output = Output(ending_of(target), bits or 0)
        output.check(str(inputs), color, False, scale)
        check_writable(target, inputs, weights)
        network, chosen = resolve(weights, operator, device)
        _reconstruct_picture(inputs, target, output, network, chosen, weights, color, scale, iterates, noise, how)
        return 0
    if iterates:
        raise ValueError("--iterates is of one picture that is written to a file, without options of many")
    network, chosen = resolve(weights, operator, distributed.own_device(device))

    def jobs() -> list[Job]:
        if image is None:
            shown = magnitude if magnitude is not None else is_picture(target, format, bits or 0)
            level = None if isinstance(noise, Noise) else noise
            sources = measurement_sources(inputs, chosen, size, scale, shown, level, color)
        else:
            sources = image_sources(inputs, key, color, scale, magnitude, noise)
        return plan(sources, inputs, target, format, bits or 0, color, scale)

    more: dict[str, Any] = {"skip": skip_existing, "overwrite": overwrite, "figures": figures}
    return run_jobs(jobs, target, network, chosen, peak=peak_text(scale), **more, **how)


def _reconstruct_picture(
    image: Path,
    target: Path,
    output: Output,
    network: UnrolledNetwork,
    chosen: LinearOperator | OperatorDraw,
    weights: str,
    color: bool,
    scale: Scale | None,
    iterates: bool,
    noise: StatedNoise | None,
    how: dict[str, Any],
) -> None:
    """Write the reconstruction of one picture, and pictures beside it that compare."""
    truth, span = single_to_unit("image", image, scale, color)
    operator = operator_for(truth, 0, chosen, device_of(network))
    beside = {"comparison": True, "iterates": iterates, PANELS: isinstance(operator, SampledFourier)}
    for what in (what for what, written in beside.items() if written):
        check_beside(_beside(target, what), image, weights)
    given = 1.0 if span.given else None
    found = reconstruct(truth, network, operator, **how, progress=True, scale=given, noise=noise)
    output.write(target, [found], [span])
    print(f"PSNR {_db(found, truth)}, its peak is {peak_text(scale)}\nwrote {target}")
    if truth[0].numel() > WHOLE:
        print(f"no comparison: {target} has more than {WHOLE:,} pixels")
        return
    _compare(target, truth, found, network, operator, iterates, noise)


def _compare(
    out: Path,
    truth: Tensor,
    found: Tensor,
    network: UnrolledNetwork,
    operator: LinearOperator,
    strip: bool,
    noise: StatedNoise | None,
) -> None:
    """Write what lies beside the reconstruction: the comparison, panels of magnetic resonance, and the iterates."""
    name, y = type(network).__name__, measure(truth, network, operator, noise)
    if strip:
        start, *phases = [x.cpu() for x in iterates(truth, network, operator, scale=1.0, noise=noise)]
    else:
        start = linear_start(y, network, operator, (truth.shape[-2], truth.shape[-1])).cpu()
    comparison = _beside(out, "comparison")
    labels = {"original": truth, f"linear start\n{_db(start, truth)}": start, f"{name}\n{_db(found, truth)}": found}
    save_side_by_side(comparison, labels)
    print(f"linear start {_db(start, truth)}\nwrote {comparison}")
    if isinstance(operator, SampledFourier):
        images = {"zero-filled": start[0], name: found[0].cpu()}
        mask = operator.mask.reshape(operator.mask.shape[-2:]).cpu()
        write_panels(out, mask, y[0].flatten(0, -3).cpu(), operator.centered, images, truth[0])
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
