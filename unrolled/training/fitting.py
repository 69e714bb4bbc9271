"""Train a network from Python: the whole way from images to weights in one call."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from unrolled.data import Batches, DatasetBatches, ImageData, ImageStore, Prefetch, RandomCrops
from unrolled.data.crops import Crop, crop_sides
from unrolled.data.measured import MeasuredSamples
from unrolled.data.shard_batches import sharded_data
from unrolled.data.sources import cut, large_enough
from unrolled.data.stores import check_bright, stored, to_float
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, OperatorDraw
from unrolled.system.arraylike import is_floating
from unrolled.system.devices import torch_device
from unrolled.system.scalars import whole_number
from unrolled.system.scales import OUTSIDE, Scale, as_scale, range_of
from unrolled.training import distributed
from unrolled.training.losses import LossGiven, as_loss
from unrolled.training.measured_fitting import MeasuredData, measured_task
from unrolled.training.options import TrainingOptions
from unrolled.training.runs.lock import locked
from unrolled.training.runs.run_folder import may_go_on
from unrolled.training.sparse import MakeSparsifier
from unrolled.training.tasks.drawn_reconstruction import DrawnReconstructionTask
from unrolled.training.tasks.reconstruction import Noise, ReconstructionTask
from unrolled.training.train_task import train
from unrolled.weights.networks import check_parts, only_by_programs

Images = ImageData | str | Path | Sequence[Any] | Tensor | np.ndarray | ImageStore | Dataset[Any] | Batches
"""What training takes for images."""


def fit(
    network: UnrolledNetwork,
    operator: LinearOperator | OperatorDraw | None,
    dataset: Images | MeasuredData,
    training: TrainingOptions | None = None,
    *,
    validation: Sequence[Any] | Tensor | np.ndarray | MeasuredSamples | None = None,
    crop: Crop | None = None,
    loss: LossGiven | None = None,
    folder: str | Path = "runs/fit",
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
    card: dict[str, Any] | None = None,
    sparsifier: MakeSparsifier | None = None,
    noise: Noise | None = None,
    scale: Scale | None = None,
    images_per_operator: int | None = None,
) -> dict[str, float]:
    """Train a network on images, and leave it with the averaged weights of the end.

    Images are magnitudes; for an operator on complex images each gets a smooth random phase, see `ReconstructionTask`.

    Parameters
    ----------
    network : UnrolledNetwork
        fresh or trained before; a start that was never fitted to images is fitted to these.
    operator : LinearOperator
        trained too if it has parameters; None for `KSpaceData`, whose masks and maps make it. The network brings it to
        the norm 1 by itself, see `UnrolledNetwork`. An `OperatorDraw`, such as `DrawnOperator(operator, {"ratio": [0.1,
        0.5]})`, draws another one in every step, see `DrawnReconstructionTask`. A warning says so if weights will not
        say how to make it or the network, because only your program can.
    dataset :
        an `ImageData`, a folder of images, an HDF5 file or what else it takes, "embedded", images (channel, height,
        width) or (height, width) as a list or as one array (n, channel, height, width), an `ImageStore`, a data set of
        images of one size (of pairs (image, label) the images are taken), or `Batches`. Or measurements: `KSpaceData`,
        `MeasurementData`, or `MeasuredBatches`, see `MeasuredTask`.
    training : TrainingOptions, optional
        the budget and the optimiser; by default five minutes.
    validation : list of images, each (channel, height, width) or (height, width), optional
        held-out images; needed with a data set of your own, otherwise taken from the dataset. `MeasuredSamples` with
        `MeasuredBatches`.
    crop : int or (height, width), optional
        of the random crops, in pixels, where the dataset does not say it; by default of the size that the operator
        measures if there is only one, otherwise squares of 66.
    loss : name, dict of weights, Loss or callable (reconstruction, truth) → scalar, optional
        "l1", {"mse": 1, "ssim": 0.1}, `SSDU()` … see `unrolled.training.losses.as_loss`; by default the mean squared
        error, and what the network adds to it. Losses that learn from measurements never see an image of the dataset.
    folder : str or Path
        of the run: metrics, checkpoints, weights, curve (see `Loop`). A folder that already holds a run is refused
        unless resumed.
    seed : int
        of crops and held-out images.
    device : str
        "auto" takes the GPU if there is one.
    resume : bool
        go on from the folder's last checkpoint; if it holds none yet, start, with a warning.
    progress : bool
    card : dict, optional
        facts to save with the weights.
    sparsifier : callable network → Sparsifier, optional
        makes the strategy that makes the network sparse while it is trained, such as
        `lambda network: ProximalStep(network, L1(), target=0.9)`.
    noise : callable y ↦ noisy y, optional
        added to the measurements of training and validation, drawn with torch's random numbers, such as
        `GaussianNoise(0.05)`. Of `VaryingGaussianNoise(0.01, 0.1)` every image has a level of its own, and a network
        that takes the noise level is told it.
    scale : float, (black, white), "max" or a percentile such as "99.5%", optional
        what white is in the images, those of validation too; "max" is each image's own largest magnitude. By default
        what the type says: 255 of bytes, 65535 of unsigned 16-bit numbers, 1 of floating point. `ImageStore` and
        `Batches` have a scale already.
    images_per_operator : int, optional
        of an `OperatorDraw`: so many images of a batch are measured by one operator; by default all.

    Returns
    -------
    dict
        figures of the last validation: "psnr", "start_psnr", in dB, or those of `MeasuredTask`; with a sparsifier also
        "sparse_psnr", that of the network as it is left, "sparsity" and what else the strategy tells

    Raises
    ------
    ValueError
        for a wrong argument, images whose white is not known, complex images for an operator on real ones, or a
        folder that is in use; TrainingError if the loss stays NaN or a checkpoint cannot be written.
    KeyboardInterrupt
        on Ctrl-C, SIGTERM or SIGUSR1, after a checkpoint was written.

    Notes
    -----
    Started by torchrun, several processes train together: each draws an equal part of every batch.
    """
    training = TrainingOptions(minutes=5) if training is None else training
    seed = whole_number("seed:", seed, 0)
    draw = operator if isinstance(operator, OperatorDraw) else None
    operator = operator.typical if isinstance(operator, OperatorDraw) else operator
    check_parts(network, operator)
    if images_per_operator is not None and draw is None:
        raise ValueError(f"images_per_operator: is for operators that are drawn, got {images_per_operator!r}")
    if draw is not None and isinstance(dataset, MeasuredData):
        raise ValueError("operator: must be None or one operator for measurements, which are not measured again")
    if network is None or (operator is None and not isinstance(dataset, MeasuredData)):
        raise ValueError("fit: needs a network and an operator")
    if noise is not None and not callable(noise):
        raise ValueError(f"noise: must be a function, got {noise!r}")
    loss = as_loss(loss)
    _check_recipes(**{name: made for name, made in (("network", network), ("operator", operator)) if made is not None})
    folder, place = Path(folder), torch_device(distributed.own_device(device))
    how: dict[str, Any] = {"folder": folder, "seed": seed, "progress": progress, "card": card, "sparsifier": sparsifier}
    with distributed.joined(place), locked(folder):
        goes_on = may_go_on(folder, resume)
        if isinstance(dataset, MeasuredData):
            for name, option in (("crop", crop), ("noise", noise), ("scale", scale)):
                if option is not None:
                    raise ValueError(f"{name}: is for images, and measurements are taken as they are; got {option!r}")
            measured = measured_task(network, operator, dataset, validation, loss, seed, place)
            return train(measured, training, **how, resume=goes_on)
        assert operator is not None
        if draw is not None:
            size, multiple = draw.sides, draw.granularity
        else:
            size, multiple = None if operator.image_shape is None else operator.image_shape[1:], operator.multiple
        images, batches, held_out = _data(dataset, multiple, size, crop, seed, scale, ahead=place.type == "cuda")
        if validation is None:
            if held_out is None:
                raise ValueError("validation: give held-out images (a list of tensors) with a data set of your own")
            shown = held_out
        else:
            kept = list(stored(_each("validation", validation), scale, "validation: image"))
            check_bright(kept, "validation")
            shown = [to_float(image.read()) for image in kept]
        try:
            validation = cut(shown, multiple, exactly=size)
        except ValueError as error:
            raise ValueError(f"validation: {error}") from error
        _check_kind(operator, batches.batch(0, 1), validation)

        def some_images() -> list[Tensor]:
            return images.spread() if images is not None else list(batches.batch(0, min(64, len(batches))))

        if draw is not None:
            draw.fit_images(some_images())  # no checkpoint holds what is found for all kinds
            drawn = (network, draw, batches, validation, loss, place, noise, seed, images_per_operator)
            return train(DrawnReconstructionTask(*drawn), training, **how, resume=goes_on)
        task = ReconstructionTask(network, operator, batches, validation, loss, place, noise, seed)
        if not operator.fitted and not goes_on:  # a checkpoint holds it
            operator.fit_images(some_images())
        return train(task, training, **how, resume=goes_on)


def _check_recipes(**things: UnrolledNetwork | LinearOperator) -> None:
    """Warn if weights will not say how to make what is trained."""
    for name, reason in only_by_programs(**things).items():
        warnings.warn(
            f"{name}: weights will not say how to make it, because of {reason}; your program makes it again and hands "
            f"it over: unrolled.load(file, {name}=…)",
            stacklevel=3,  # who called fit
        )


def _check_kind(operator: LinearOperator, batch: Any, validation: Sequence[Tensor]) -> None:
    """Raise ValueError unless training draws images with white at 1 that the operator measures."""
    if not isinstance(batch, Tensor) or batch.ndim != 4 or not is_floating(batch):
        found = f"{batch.dtype} {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
        raise ValueError(f"dataset: batches must be floating point (batch, channel, height, width), got {found}")
    range_of("dataset", batch, within=OUTSIDE)
    for name, image in (("dataset", batch), *(("validation", image) for image in validation)):
        if image.is_complex() and not operator.complex_images:
            raise ValueError(
                f"{name}: has complex images, and {type(operator).__name__} measures real ones; make it with "
                "complex_images=True, or give magnitudes"
            )


def _each(what: str, images: Any) -> Sequence[Any]:
    """The images of a list, or of one array of all."""
    if isinstance(images, (Tensor, np.ndarray)):
        if images.ndim != 4:
            raise ValueError(
                f"{what}: an array must hold several images, (n, channel, height, width), got {tuple(images.shape)}; "
                "give a list otherwise"
            )
        return list(images)
    if isinstance(images, (str, bytes, Path)) or not isinstance(images, Iterable):
        raise ValueError(f"{what}: must be a list of images, got {images!r}")
    return list(images)


def _data(
    dataset: Images,
    multiple: int,
    size: tuple[int, int] | None,
    crop: Crop | None,
    seed: int,
    scale: Scale | None,
    ahead: bool,
) -> tuple[ImageStore | None, Batches, Sequence[Tensor] | None]:
    """The training images if they are images, the batches, and held-out images if the data set has any.

    Crops are drawn ahead where the processor has nothing else to do, or if they are read from files.
    """
    scale = as_scale("scale", scale)
    if isinstance(dataset, (str, Path)):
        dataset = ImageData(train=[str(dataset)])
    if isinstance(dataset, Batches):
        return None, dataset, None
    if isinstance(dataset, (Tensor, np.ndarray)):
        dataset = list(_each("dataset", dataset))
    if not isinstance(dataset, (ImageData, ImageStore, list, tuple)):
        return None, DatasetBatches(dataset, seed, scale), None
    held_out: Sequence[Tensor] | None = None
    how: dict[str, Any] = {}
    if isinstance(dataset, ImageData):
        sides = crop_sides(crop if dataset.crop is None else dataset.crop, multiple, size)
        own = replace(dataset, crop=sides, scale=dataset.scale if scale is None else scale)
        if own.in_shards:
            batches, held_out = sharded_data(own, multiple, seed, size)
            return None, Prefetch(batches), held_out
        images, held_out = own.load(multiple, seed, size)
        how = {name: getattr(dataset, name) for name in ("smallest", "frame", "augmentation")}
    elif isinstance(dataset, ImageStore):
        sides, images = crop_sides(crop, multiple, size), dataset
    else:
        sides = crop_sides(crop, multiple, size)
        images = ImageStore(large_enough(list(stored(dataset, scale, "dataset: image")), sides))
    crops = RandomCrops(images, sides, seed, **how)
    return images, Prefetch(crops) if ahead or images.streams else crops, held_out
