"""unrolled adapt --measured blurred.png --operator Blur --operator.kernel motion.png --out adapted.safetensors"""

from pathlib import Path

from torch import Tensor

from unrolled.cli import operator_option
from unrolled.data.unit_images import single_to_unit
from unrolled.data.volumes import kind_of_file
from unrolled.operators import LinearOperator, OperatorDraw
from unrolled.reconstruction.pipeline import device_of
from unrolled.system.arrays import read_array
from unrolled.system.files import check_writable
from unrolled.system.scales import Scale
from unrolled.training import distributed
from unrolled.training.adaptation import adapt, few_minutes
from unrolled.training.losses import SplittingLoss
from unrolled.weights.chosen import DEFAULT, operator_for_sides, resolve


def run(argv: list[str]) -> int:
    """Adapt weights."""
    return operator_option.run("adapt", adapt_weights, argv)


def adapt_weights(
    *,
    measured: str,
    out: str,
    weights: str = DEFAULT,
    operator: LinearOperator | OperatorDraw | None = None,
    noise: float | None = None,
    minutes: float = 4.0,
    learning_rate: float = 2e-4,
    hold_out: float = 0.1,
    part: float = 0.25,
    moved: float = 1.0,
    color: bool = False,
    size: tuple[int, int] | None = None,
    scale: Scale | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Fine-tune weights on measurements of your own, without true images; one image is enough.

    A part of the measurements is held out. The adapted weights are written only if they predict that part better.

    Parameters
    ----------
    measured : str
        a file of measurements of one image or a batch (.npy, .mat, .h5), or a picture that is blurred, small, noisy or
        has holes.
    out : str
        file of the adapted weights, .safetensors.
    weights : str
        a name that `unrolled zoo` lists, or a file.
    operator : optional
        that measured; by default that of the weights. Its arguments are --operator.NAME; where no height is given, it
        is made for the size of the picture.
    noise : float, optional
        standard deviation of the noise in the measurements, in their units; by default it is estimated, if possible.
    minutes : float
        how long to train.
    learning_rate : float
    hold_out : float
        the part of the measurements that is held out, to find out whether the adapted weights are better.
    part : float
        the part of the others that is hidden in every step, and is to be predicted.
    moved : float
        weight of the second part of the loss, by which moved images must come back; 0: without.
    color : bool
        adapt to red, green and blue of a picture instead of the luma.
    size : (int, int), optional
        [HEIGHT,WIDTH] of the image that was measured, for an operator that is made for it.
    scale : optional
        what white is: a number, or max; of a picture as in unrolled reconstruct.
    seed : int
    device : str
        cpu, cuda, …; auto takes the GPU if there is one.
    """
    check_writable(out, measured, weights)
    y, white = _read(Path(measured), color, scale)
    network, chosen = resolve(weights, operator, distributed.own_device(device))
    by = operator_for_sides(size or (y.shape[-2], y.shape[-1]), 0, chosen, device_of(network))
    found = adapt(
        network, y, by, noise=noise, loss=SplittingLoss(part, moved), training=few_minutes(minutes, learning_rate),
        hold_out=hold_out, scale=white, seed=seed, out=out,
    )  # fmt: skip
    print(f"held-out measurements are predicted with {found.before:.2f} dB, after adapting with {found.after:.2f} dB")
    print(f"wrote {out}" if found.kept else f"the weights stay as they are, and {out} is not written")


def _read(path: Path, color: bool, scale: Scale | None) -> tuple[Tensor, Scale | None]:
    """Measurements, and what is still to be said of their scale."""
    if kind_of_file(path) == "picture":
        return single_to_unit("measured", path, scale, color)[0].unsqueeze(0), None
    return read_array(path), scale
