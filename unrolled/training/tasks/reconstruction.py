"""The task of reconstruction: images are measured, the network gives them back."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unrolled import weights
from unrolled.data import Batches, with_fixed_phase, with_phase
from unrolled.metrics import shown_psnr
from unrolled.networks import Implicit, UnrolledNetwork
from unrolled.operators import LinearOperator, VaryingGaussianNoise
from unrolled.operators import Noise as NoiseLaw
from unrolled.operators.noise import with_white_noise
from unrolled.operators.unit_norm import keep_norm
from unrolled.system.devices import seed_generators, send
from unrolled.system.recipes import Described, describe
from unrolled.training.distributed import in_shards
from unrolled.training.losses.by_name import LossGiven, OwnLoss, as_loss
from unrolled.training.losses.loss import Loss
from unrolled.training.random_numbers import own_randomness
from unrolled.training.tasks.task import Task
from unrolled.weights.earlier import rename_earlier

Noise = Callable[[Tensor], Tensor]
"""Measurements to noisy measurements, drawn with torch's random numbers."""

NOISE_SEED = 1_000_000
"""Of the noise of the first validation image: not that of its phase, which is 0."""


class Reconstructor(nn.Module):
    """A network and its operator as one model, so that both are trained, averaged and moved together.

    Parameters
    ----------
    network, operator
    noise : callable y ↦ noisy y, optional
        what is added to measurements.
    """

    def __init__(self, network: UnrolledNetwork, operator: LinearOperator, noise: Noise | None = None):
        super().__init__()
        self.network, self.operator, self.noise = network, operator, noise
        self.register_load_state_dict_pre_hook(_rename_earlier)

    def measure(self, x: Tensor, level: Tensor | None = None, operator: LinearOperator | None = None) -> Tensor:
        """The measurements of images x, with noise; of a level for each image, if they are given, (batch,).

        By another operator than its own, if one is given.
        """
        y: Tensor = (self.operator if operator is None else operator)(x)
        if level is not None:
            return with_white_noise(y, level)
        return y if self.noise is None else self.noise(y)

    def known(self, level: Tensor | None = None) -> float | Tensor | None:
        """The noise level of measurements: that of each image if they are given, or that of the noise if it has one."""
        return _level(self.noise) if level is None else level

    def told(self, level: Tensor | None = None) -> float | Tensor | None:
        """The noise level as the network is told it; None if it takes none, or it is not known."""
        return self.known(level) if self.network.takes_noise else None

    def forward(self, x: Tensor) -> Tensor:
        """Measure the images x and reconstruct them."""
        return self.network(self.measure(x), self.operator)


def may_gain_by_compiling(network: UnrolledNetwork, operator: LinearOperator) -> bool:
    """Whether a compiled loss is worth a trial: of complex numbers and of `Implicit` the compiler makes no code."""
    return not (operator.complex_images or isinstance(network.differentiation, Implicit))


def _rename_earlier(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(model, Reconstructor)
    rename_earlier(state, model.operator, prefix)


class ReconstructionTask(Task):
    """Reconstruct images from their own measurements.

    Images are magnitudes. For an operator on complex images each is given a smooth random phase, see
    `unrolled.data.random_phase`: in training by torch's random numbers, which the loop seeds in every step; in
    validation always the same one.

    Parameters
    ----------
    network, operator
    batches : Batches
        of training images.
    validation : sequence of Tensor, each (channel, height, width) with white at 1
        held-out images of sizes that the operator can measure; never those of a test set.
    loss : Loss, name, dict of weights or callable (reconstruction, truth) → scalar, optional
        see `as_loss`; by default that of the network, the mean squared error and what the network adds to it. Images
        are complex if the operator's are. A loss that does not need them is given measurements alone.
    device : torch.device, optional
    noise : callable y ↦ noisy y, optional
        added to all measurements; it draws with torch's random numbers: in training other ones in every step, in
        validation for every image always the same. Of a `VaryingGaussianNoise` every image has a level of its own; in
        validation they are spread evenly.
    seed : int
        of these levels.

    Raises
    ------
    ValueError
        if there is no validation image, the network is not made for the operator's images, its range of noise levels is
        not that of the noise, or the loss cannot be had.
    """

    score = "psnr"

    def __init__(
        self,
        network: UnrolledNetwork,
        operator: LinearOperator,
        batches: Batches,
        validation: Sequence[Tensor],
        loss: LossGiven | None = None,
        device: torch.device | None = None,
        noise: Noise | None = None,
        seed: int = 0,
    ):
        if not validation:
            raise ValueError("validation: needs at least one image")
        network.check(operator)
        network.fit_operator(operator)
        check_levels(network, noise)
        self.own_loss = as_loss(loss)
        if self.own_loss is not None:
            check_loss(self.own_loss, operator, _level(noise))
        self.device = torch.device("cpu") if device is None else device
        self.model: Reconstructor = Reconstructor(network, operator, noise).to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
        network.norm_of(operator)  # found before anything is learned, and kept by copies too
        self.batches, self.seed = batches, seed
        self.varying = noise if isinstance(noise, VaryingGaussianNoise) else None
        self.gains_by_compiling = may_gain_by_compiling(network, operator)
        if operator.complex_images:
            validation = [with_fixed_phase(image, index) for index, image in enumerate(validation)]
        self.validation = [image.unsqueeze(0).to(self.device) for image in validation]
        self.epoch = len(batches)

    @property
    def sparsified(self) -> nn.Module:
        return self.model.network

    def example(self) -> tuple[Tensor, LinearOperator]:
        operator = self.model.operator
        return operator(self.validation[0]), operator

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Images; with the noise level of each if they vary."""
        images = send(self.batches.batch(step, size, part), self.device)
        if self.varying is None:
            return images
        return images, send(self.varying.levels(self.seed, step, range(size) if part is None else part), self.device)

    def loss(self, model: nn.Module, batch: Tensor | tuple[Tensor, Tensor], step: int) -> Tensor:
        assert isinstance(model, Reconstructor)
        images, level = batch if isinstance(batch, tuple) else (batch, None)
        x = with_phase(images) if model.operator.complex_images else images
        return self.loss_of_measured(model, x, level, model.operator)

    def loss_of_measured(
        self, model: Reconstructor, x: Tensor, level: Tensor | None, operator: LinearOperator
    ) -> Tensor:
        """The loss of images, of which an operator measures noisy measurements."""
        level = self.in_units_of(operator, level)
        y = model.measure(x, level, operator)
        if self.own_loss is None:
            told = (
                {"noise": model.told(level)} if model.network.takes_noise else {}
            )  # losses of older programs take none
            return model.network.loss(x, y, operator, **told)
        truth = x if self.own_loss.needs_truth else None
        return self.own_loss(model.network, y, operator, truth, noise=model.known(level))

    def validated_by(self, index: int) -> LinearOperator:
        """The operator that measures a validation image."""
        return self.model.operator

    def in_units_of(self, operator: LinearOperator, level: Tensor | None) -> Tensor | None:
        """The noise level of every image in the units of the measurements, where it is drawn relative to them."""
        if level is None or self.varying is None or not self.varying.relative:
            return level
        return level * self.model.network.norm_of(operator)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """The mean PSNR over the validation images, of magnitudes if complex, and that of the network's start."""
        assert isinstance(model, Reconstructor)
        network = model.network

        def figures(numbered: tuple[int, Tensor]) -> tuple[float, float]:
            index, x = numbered
            seed_generators(NOISE_SEED + index)
            level = None
            if self.varying is not None:
                level = torch.tensor([self.varying.quantile((index + 0.5) / len(self.validation))])
            operator = self.validated_by(index)
            level = self.in_units_of(operator, level)
            y = model.measure(x, level, operator)
            found, start = network(y, operator, noise=model.told(level)), network.first_image(y, operator)
            return float(shown_psnr(found, x)), float(shown_psnr(start, x))

        with own_randomness(self.device):
            pairs = in_shards(figures, list(enumerate(self.validation)))
        score, start = zip(*pairs, strict=True)
        return {"psnr": sum(score) / len(score), "start_psnr": sum(start) / len(start)}

    def save(self, model: nn.Module, path: Path, card: dict[str, Any]) -> None:
        assert isinstance(model, Reconstructor)
        noise = {} if model.noise is None else {"noise": name_of(model.noise)}
        weights.save(path, model.network, model.operator, {**card, **noise})

    def facts(self) -> Mapping[str, str | None]:
        model = self.model
        first = self.batches.batch(0, 1).cpu().numpy().tobytes()
        norm = {"norm": f"{model.network.norm_of(model.operator):g}"} if model.network.normalizes else {}
        return {
            **norm,
            "network": recipe_of(model.network),
            "operator": recipe_of(model.operator),
            "noise": None if model.noise is None else name_of(model.noise),
            "loss": name_of_loss(self.own_loss),
            "data": f"{len(self.batches)} samples, the first with the hash {hashlib.sha256(first).hexdigest()[:12]}",
        }

    def go_on(self, model: nn.Module, facts: Mapping[str, Any]) -> None:
        assert isinstance(model, Reconstructor)
        model.network.normalizes = "norm" in facts  # a run of an earlier version took the operator as it is
        if model.network.normalizes:
            keep_norm(model.operator, float(facts["norm"]))


def check_levels(network: UnrolledNetwork, noise: Noise | None) -> None:
    """Raise ValueError if a network has a range of noise levels, and the noise of training none within it."""
    if network.noise_range is None:
        return
    low, high = network.noise_range
    levels = noise.level_range if isinstance(noise, NoiseLaw) else None
    if levels is None or not low <= levels[0] <= levels[1] <= high:
        got = "none" if noise is None else f"{name_of(noise)}{'' if levels is None else f', {levels[0]} … {levels[1]}'}"
        raise ValueError(
            f"noise: must be white, of levels within the noise_range=({low}, {high}) of {type(network).__name__}, as "
            f"that of VaryingGaussianNoise({low or high / 100:g}, {high:g}) is, got {got}"
        )


def check_loss(loss: Loss, operator: LinearOperator, noise: float | Tensor | None) -> None:
    """Raise ValueError if a loss cannot be had of what an operator measures, with noise of a level that is known."""
    if isinstance(loss, Loss):
        loss.check(operator, noise)
    if not loss.needs_truth and any(parameter.requires_grad for parameter in operator.parameters()):
        raise ValueError(
            f"loss: {type(loss).__name__} learns from measurements, so they cannot be learned too; freeze the "
            f"parameters of {type(operator).__name__} by operator.requires_grad_(False)"
        )


def _level(noise: Noise | None) -> float | Tensor | None:
    """The level of noise that has one, of some images if it varies; None of other noise."""
    levels = noise.level_range if isinstance(noise, NoiseLaw) else None
    if levels is None:
        return None
    return levels[0] if levels[0] == levels[1] else torch.tensor(levels)


def name_of_loss(loss: Loss | None) -> str | None:
    """How a run calls its loss; functions of one's own have no name that would tell whether they are the same."""
    return None if loss is None or isinstance(loss, OwnLoss) else name_of(loss)


def name_of(thing: Noise | Loss) -> str:
    """How a run calls a noise or a loss: by its recipe, if it has one."""
    if isinstance(thing, Described) or is_dataclass(thing):
        return recipe_of(thing)
    return str(getattr(thing, "__qualname__", type(thing).__name__))


def recipe_of(thing: Any) -> str:
    """The recipe of an object as one line."""
    return json.dumps(describe(thing), default=lambda value: type(value).__name__)
