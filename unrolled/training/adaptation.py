"""Fine-tuning of a network on measurements of the user's own, without true images."""

import copy
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unrolled import weights
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.operators.measurement_parts import Part, split
from unrolled.operators.noise_estimation import estimate_each
from unrolled.operators.unit_measurements import measurements_to_unit
from unrolled.system.files import check_writable
from unrolled.training.losses.by_name import as_loss
from unrolled.training.losses.loss import Loss
from unrolled.training.losses.splitting_loss import SplittingLoss, relative_error
from unrolled.training.options import TrainingOptions
from unrolled.training.random_numbers import own_randomness
from unrolled.training.tasks.reconstruction import Reconstructor, recipe_of
from unrolled.training.tasks.task import Task
from unrolled.training.train_task import train
from unrolled.weights.chosen import resolve

DOMAIN = 0x70617274
"""Keeps what is drawn here apart from all else that is drawn from the same seed and step."""


def few_minutes(minutes: float = 4.0, learning_rate: float = 2e-4) -> TrainingOptions:
    """How an adaptation is trained where nobody says how."""
    return TrainingOptions(minutes=minutes, batch=1, learning_rate=learning_rate, validations=10, average=0.9)


class AdaptationTask(Task):
    """Learn from measurements of a few images, of which a part is held out to be predicted.

    Parameters
    ----------
    network, operator
    y : Tensor, (batch, …)
        measurements of images with white at 1.
    noise : Tensor (batch,) or None
        their noise level, for losses and networks that take it.
    loss : Loss that needs no true images
    hold_out : float in (0, 1)
        the part of the measurements that is held out.
    seed : int
        of what is held out.

    Raises
    ------
    ValueError
        if the loss needs true images or cannot be had, or the measurements cannot be divided.
    """

    score = "predicted"

    def __init__(
        self,
        network: UnrolledNetwork,
        operator: LinearOperator,
        y: Tensor,
        noise: Tensor | None,
        loss: Loss,
        hold_out: float = 0.1,
        seed: int = 0,
    ):
        network.check(operator)
        if loss.needs_truth:
            raise ValueError(f"loss: must be one that needs no true images, got {type(loss).__name__}")
        parts: tuple[Part, Part] = split(operator, y, hold_out, np.random.default_rng((DOMAIN, seed)))
        self.shown, self.hidden = parts
        loss.check(self.shown.operator, noise)
        self.model = Reconstructor(network, operator)
        self.y, self.noise, self.own_loss = y, noise, loss
        self.seen = self.shown.of(y)
        self.epoch = len(y)

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        """Numbers of images: all in turn."""
        places = range(size) if part is None else part
        return torch.tensor([(step * size + place) % len(self.y) for place in places])

    def loss(self, model: nn.Module, batch: Any, step: int) -> Tensor:
        assert isinstance(model, Reconstructor)
        noise = None if self.noise is None else self.noise[batch]
        return self.own_loss(model.network, self.seen[batch], self.shown.operator, noise=noise)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """How well what is held out is predicted: −10 log₁₀ ‖error‖²/‖measured‖², the mean over the images."""
        assert isinstance(model, Reconstructor)
        scores = []
        with own_randomness(self.y.device):
            for index in range(len(self.y)):
                noise = None if self.noise is None else self.noise[index : index + 1]
                told = noise if model.network.takes_noise else None
                image = model.network(self.seen[index : index + 1], self.shown.operator, noise=told)
                error = relative_error(self.hidden.operator(image), self.hidden.of(self.y[index : index + 1]))
                scores.append(-10 * math.log10(max(float(error), 1e-30)))
        return {"predicted": sum(scores) / len(scores)}

    def save(self, model: nn.Module, path: Path, card: dict[str, Any]) -> None:
        assert isinstance(model, Reconstructor)
        weights.save(path, model.network, model.operator, card)

    def facts(self) -> Mapping[str, str | None]:
        return {"network": recipe_of(self.model.network), "operator": recipe_of(self.model.operator)}


@dataclass(frozen=True)
class Adapted:
    """What came of an adaptation.

    Parameters
    ----------
    network : UnrolledNetwork
        the adapted one if it predicts held-out measurements better, else the one that was given.
    before, after : float
        how well held-out measurements are predicted, in dB, by the given network and by the adapted one.
    kept : bool
        whether `network` is the adapted one.
    """

    network: UnrolledNetwork
    before: float
    after: float
    kept: bool


def adapt(
    network: UnrolledNetwork | str | Path,
    y: Any,
    operator: LinearOperator | None = None,
    *,
    noise: float | None = None,
    loss: Loss | str | None = None,
    training: TrainingOptions | None = None,
    hold_out: float = 0.1,
    scale: Any = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Adapted:
    """Fine-tune a network on measurements of a few images, without true ones; one image is enough.

    A part of the measurements is held out, and the adapted network is kept only if it predicts that part better.

    Parameters
    ----------
    network : UnrolledNetwork, or the name or file of weights
    y : Tensor or array, (batch, …)
        measurements of images, as `unrolled.reconstruct` takes them.
    operator : LinearOperator, optional
        that they were measured by; by default that of the weights.
    noise : float, optional
        standard deviation of their noise, in their units; by default it is estimated, where that is possible.
    loss : Loss or name, optional
        one that needs no true images; by default `SplittingLoss`.
    training : TrainingOptions, optional
        by default four minutes at a small learning rate.
    hold_out : float in (0, 1)
        the part of the measurements that is held out.
    scale : optional
        what white is in the images, as in `unrolled.reconstruct`.
    seed : int
    out : str or Path, optional
        where the weights are written to if they are kept.
    device : str
        where weights are loaded to.
    progress : bool

    Returns
    -------
    Adapted

    Raises
    ------
    ValueError
        for wrong arguments, measurements that do not fit, and a loss that needs true images.
    """
    if out is not None:
        check_writable(out)
    given, operator = resolve(network, operator, device)
    place = next(given.parameters()).device
    unit, white = measurements_to_unit(y, operator, place, scale)
    levels = _levels(unit, operator, None if noise is None else noise / white)
    chosen = as_loss(loss) or SplittingLoss()
    assert isinstance(chosen, Loss)
    given.eval()
    task = AdaptationTask(copy.deepcopy(given), operator, unit, levels, chosen, hold_out, seed)
    before = task.validate(task.model)["predicted"]
    with tempfile.TemporaryDirectory() as folder:
        train(task, training or few_minutes(), folder=folder, seed=seed, progress=progress)
        adapted, _ = weights.load(Path(folder) / "best.safetensors", str(place), operator)
    after = task.validate(Reconstructor(adapted, operator))["predicted"]
    kept = after > before
    if kept and out is not None:
        weights.save(out, adapted, operator, {"adapted": {"before": before, "after": after, "images": len(unit)}})
    return Adapted(adapted if kept else given, before, after, kept)


def _levels(unit: Tensor, operator: LinearOperator, stated: Tensor | None) -> Tensor | None:
    """The noise level of every image: as stated, or else estimated; None where it cannot be."""
    if stated is not None:
        return stated.expand(len(unit))
    try:
        return torch.tensor([each.level for each in estimate_each(unit, operator)], device=unit.device)
    except ValueError:
        return None
