"""Train a network from Python: the whole way from images to weights in one call."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from unrolled.data import Batches, DatasetBatches, ImageData, ImageStore, Prefetch, RandomCrops
from unrolled.data.sources import cut, large_enough
from unrolled.devices import torch_device
from unrolled.files import replacing
from unrolled.networks import LinearStart, UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.training import distributed
from unrolled.training.checkpoint import Checkpoints, to_resume
from unrolled.training.environment import environment
from unrolled.training.lock import locked
from unrolled.training.loop import Loop
from unrolled.training.options import TrainingOptions
from unrolled.training.reconstruction import Loss, ReconstructionTask


def fit(
    network: UnrolledNetwork,
    operator: LinearOperator,
    dataset: ImageData | str | Path | list[Tensor] | tuple[Tensor, ...] | ImageStore | Dataset[Tensor] | Batches,
    training: TrainingOptions | None = None,
    *,
    validation: Sequence[Tensor] | None = None,
    crop: int = 66,
    loss: Loss | None = None,
    folder: str | Path = "runs/fit",
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
    card: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Train a network on images, and leave it with the averaged weights of the end.

    Parameters
    ----------
    network : UnrolledNetwork
    operator : LinearOperator
        trained too if it has parameters.
    dataset :
        an `ImageData`, a folder of images, an HDF5 file or what else it takes, "embedded", a list of images (channel,
        height, width) in [0, 1], an `ImageStore`, a data set of image tensors of one size, or `Batches`.
    training : TrainingOptions, optional
        the budget and the optimiser; by default five minutes.
    validation : list of Tensor, each (channel, height, width), optional
        held-out images; needed with a data set of your own, otherwise taken from the dataset.
    crop : int
        side of the random crops, where the dataset does not say it.
    loss : callable (reconstruction, truth) → scalar, optional
        your own loss.
    folder : str or Path
        of the run: metrics, checkpoints, weights, curve. A folder that already holds a run is refused unless resumed.
    seed : int
        of crops and held-out images.
    device : str
        "auto" takes the GPU if there is one.
    resume : bool
        go on from the folder's last checkpoint; if it holds none yet, start, with a warning.
    progress : bool
    card : dict, optional
        facts to save with the weights.

    Returns
    -------
    dict
        figures of the last validation: "psnr", "start_psnr", in dB

    Raises
    ------
    ValueError
        for a wrong argument or a folder that is in use; TrainingError if the loss stays NaN or a checkpoint cannot be
        written.
    KeyboardInterrupt
        on Ctrl-C, SIGTERM or SIGUSR1, after a checkpoint was written.

    Notes
    -----
    Started by torchrun, several processes train together: each draws an equal part of every batch.
    """
    training = TrainingOptions(minutes=5) if training is None else training
    folder, place = Path(folder), torch_device(distributed.own_device(device))
    with distributed.joined(place), locked(folder):
        goes_on = distributed.on_first(lambda: _goes_on(folder, resume))
        images, batches, held_out = _data(dataset, operator.multiple, crop, seed)
        validation = held_out if validation is None else validation
        if validation is None:
            raise ValueError("validation: give held-out images (a list of tensors) with a data set of your own")
        task = ReconstructionTask(network, operator, batches, cut(validation, operator.multiple), loss, place)
        if isinstance(network.start, LinearStart) and not goes_on:  # a checkpoint holds it
            network.start.fit(images.spread() if images is not None else list(batches.batch(0, 64)))
        machine = environment()
        loop = Loop(task, training, folder, {"environment": machine, **(card or {})}, progress, seed)
        distributed.on_first(lambda: _write_environment(folder, machine))
        figures = loop.run(goes_on)
        task.model.load_state_dict(loop.model.state_dict())
        task.model.eval()
        distributed.on_first(lambda: draw_curve(folder))
    return figures


def _goes_on(folder: Path, resume: bool) -> bool:
    if not resume and Checkpoints(folder).exist():
        raise ValueError(f"folder: {folder} already holds a run; resume it or choose another folder")
    return to_resume(folder, resume)


def _data(
    dataset: ImageData | str | Path | list[Tensor] | tuple[Tensor, ...] | ImageStore | Dataset[Tensor] | Batches,
    multiple: int,
    crop: int,
    seed: int,
) -> tuple[ImageStore | None, Batches, Sequence[Tensor] | None]:
    """The training images if they are images, the batches, and held-out images if the data set has any."""
    if isinstance(dataset, (str, Path)):
        dataset = ImageData(train=[str(dataset)], crop=crop)
    held_out: Sequence[Tensor] | None = None
    if isinstance(dataset, ImageData):
        images, held_out = dataset.load(multiple, seed)
        crop = dataset.crop
    elif isinstance(dataset, ImageStore):
        images = dataset
    elif isinstance(dataset, (list, tuple)):
        images = ImageStore(large_enough(dataset, crop))
    else:
        return None, dataset if isinstance(dataset, Batches) else DatasetBatches(dataset, seed), None
    crops = RandomCrops(images, crop, seed)
    return images, Prefetch(crops) if images.streams else crops, held_out


def _write_environment(folder: Path, machine: dict[str, str | None]) -> None:
    with replacing(folder / "environment.json") as temporary:
        temporary.write_text(json.dumps(machine, indent=2) + "\n")


def draw_curve(folder: Path) -> None:
    """Draw `curve.png` from `metrics.jsonl`; without matplotlib only a warning."""
    try:
        from unrolled.plots import training_curve
    except ImportError:
        warnings.warn("curve.png needs matplotlib: pip install 'unrolled[plots]'", stacklevel=2)
        return
    training_curve(folder)
