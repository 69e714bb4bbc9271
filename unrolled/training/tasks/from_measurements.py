"""The task of reconstruction from measurements: each batch comes with an operator of its own, or has the stated one."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from unrolled import weights
from unrolled.data import Batches
from unrolled.data.measured import Measured, MeasuredSamples
from unrolled.metrics import psnr
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, MaskedFourier, MultiCoilFourier
from unrolled.operators.sampled_fourier import SampledFourier
from unrolled.operators.unit_norm import keep_norm
from unrolled.operators.units import image_scale, over
from unrolled.system.devices import seed_generators, send
from unrolled.training.distributed import in_shards
from unrolled.training.losses import LossGiven, as_loss
from unrolled.training.random_numbers import own_randomness
from unrolled.training.tasks.reconstruction import (
    Reconstructor,
    check_loss,
    may_gain_by_compiling,
    name_of_loss,
    recipe_of,
)
from unrolled.training.tasks.task import Task

HELD_OUT = 0.1
"""The part of the sampled frequencies that validation without true images compares with."""

MIDDLE = 1 / 16
"""Frequencies up to this part of the sides from zero are not held out: without them all, no network works as usual."""

SEED = 2_000_000
"""Of what is drawn for the first sample of validation."""


class Batch(NamedTuple):
    """Measurements on the device that trains, in their own units.

    Parameters
    ----------
    y : Tensor, (batch, …)
    operator : LinearOperator or None
        with masks and maps of the batch; None: that of the model.
    truth : Tensor, (batch, channel, height, width), or None
    """

    y: Tensor
    operator: LinearOperator | None
    truth: Tensor | None


class MeasuredTask(Task):
    """Reconstruct images from what was measured of them.

    Measurements have any units: those of each image are divided by a scale that depends on them alone, see
    `unrolled.operators.units.image_scale`, and so is the true image.

    Validation compares with the true images, magnitudes if complex, by PSNR whose peak is the largest value of each.
    Where there are none, k-space is validated by frequencies that are held out: a tenth of the sampled ones beyond the
    middle, drawn once and for all, are reconstructed from the others, and the score is −10 log₁₀ of the relative
    squared error, in dB. Of other operators it is the loss, with the same random numbers each time.

    Parameters
    ----------
    network : UnrolledNetwork
    operator : LinearOperator
        what measured, and is trained too if it has parameters; of k-space, whose masks and maps come with the data, an
        operator of the same kind, to be saved with the weights.
    batches : Batches
        of measurements, such as `MeasuredBatches`.
    validation : MeasuredSamples
        at least one.
    loss : Loss, name or what else `as_loss` takes, optional
        by default that of the network. Losses that need no truth are given none.
    device : torch.device, optional
    sigma : float, optional
        standard deviation of the noise in the measurements, in their units; the loss is told, and networks that take
        it, in units of the scaled ones.

    Raises
    ------
    ValueError
        if the network is not made for the operator's images, or the loss needs a truth that is not there.
    """

    def __init__(
        self,
        network: UnrolledNetwork,
        operator: LinearOperator,
        batches: Batches,
        validation: MeasuredSamples,
        loss: LossGiven | None = None,
        device: torch.device | None = None,
        sigma: float | None = None,
    ):
        network.check(operator)
        network.fit_operator(operator)
        self.own_loss, self.sigma = as_loss(loss), sigma
        self.device = torch.device("cpu") if device is None else device
        self.model: Reconstructor = Reconstructor(network, operator).to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
        self.norm = network.norm_of(operator)  # found once: operators of batches are of its kind
        self.batches, self.validation = batches, validation
        self.gains_by_compiling = may_gain_by_compiling(network, operator)
        self.epoch = len(batches)
        first = validation.sample(0)
        if self.own_loss is not None:
            check_loss(self.own_loss, self._operator(first) or operator, sigma)
        shown = validation.shown(0) is not None
        self.score = "psnr" if shown else "negative_loss" if first.mask is None else "held_out"

    @property
    def sparsified(self) -> nn.Module:
        return self.model.network

    def example(self) -> tuple[Tensor, LinearOperator]:
        batch = self._sent(self.validation.sample(0))
        return batch.y, batch.operator or self.model.operator

    def batch(self, step: int, size: int, part: range | None = None) -> Batch:
        return self._sent(cast(Measured, self.batches.batch(step, size, part)))

    def _sent(self, measured: Measured) -> Batch:
        truth = None if measured.truth is None else send(measured.truth, self.device)
        return Batch(send(measured.y, self.device), self._operator(measured), truth)

    def _operator(self, measured: Measured) -> LinearOperator | None:
        """The operator of a batch of k-space."""
        if measured.mask is None:
            return None
        made = kspace_operator_of(measured, self.model.operator.complex_images).to(self.device)
        keep_norm(made, self.norm)
        return made

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        assert isinstance(model, Reconstructor)
        operator = batch.operator or model.operator
        scale = image_scale(batch.y, operator)
        y = batch.y / over(scale, batch.y)
        truth = None if batch.truth is None else batch.truth / over(scale, batch.truth)
        if self.own_loss is None:
            assert truth is not None
            return model.network.loss(truth, y, operator)
        return self.own_loss(
            model.network, y, operator, truth if self.own_loss.needs_truth else None, noise=self._noise(scale)
        )

    def _noise(self, scale: Tensor) -> Tensor | None:
        """The noise level of every image of a batch, where measurements are divided by a scale."""
        return None if self.sigma is None else self.sigma / scale

    def _images(self, model: Reconstructor, batch: Batch) -> list[Tensor]:
        """The reconstruction and the network's start, in the units of y over those of the operator."""
        network, operator = model.network, batch.operator or model.operator
        scale = image_scale(batch.y, operator)
        y = batch.y / over(scale, batch.y)
        noise = self._noise(scale) if network.takes_noise else None
        return [
            over(scale, image) * image
            for image in (network(y, operator, noise=noise), network.first_image(y, operator))
        ]

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """The mean over the samples of validation of the score, and of the score of the network's start."""
        assert isinstance(model, Reconstructor)
        compare = {"psnr": self._psnr, "held_out": self._held_out, "negative_loss": self._negative_loss}[self.score]

        def figures(index: int) -> list[float]:
            seed_generators(SEED + index)
            return compare(model, index)

        with own_randomness(self.device):
            found = in_shards(figures, range(len(self.validation)))
        means = [sum(column) / len(column) for column in zip(*found, strict=True)]
        return dict(zip((self.score, f"start_{self.score}"), means, strict=False))

    def _psnr(self, model: Reconstructor, index: int) -> list[float]:
        batch = self._sent(self.validation.sample(index))
        truth = self.validation.shown(index)
        assert truth is not None
        truth = send(truth.abs() if truth.is_complex() else truth, self.device)
        images = self._images(model, batch)
        white, black = float(truth.max()), min(0.0, float(truth.min()))
        return [float(psnr(middle_like(image, truth), truth, (black, white))) for image in images]

    def _held_out(self, model: Reconstructor, index: int) -> list[float]:
        measured = self.validation.sample(index)
        assert measured.mask is not None
        held = _held_out(measured.mask, measured.centered, SEED + index)
        rest = self._sent(
            measured._replace(y=measured.y * _like(1 - held, measured.y), mask=measured.mask * (1 - held))
        )
        whole = self._operator(measured)
        assert isinstance(whole, SampledFourier)
        y, left = send(measured.y, self.device), _like(send(held, self.device), measured.y)
        known = model.network.operator_of(rest.y, rest.operator or model.operator)
        assert isinstance(known, SampledFourier)
        measures = known.with_mask(whole.mask)
        errors = [left * (measures(image) - y) for image in self._images(model, rest)]
        return [-20 * math.log10(float(error.norm() / (left * y).norm())) for error in errors]

    def _negative_loss(self, model: Reconstructor, index: int) -> list[float]:
        return [-float(self.loss(model, self._sent(self.validation.sample(index)), 0))]

    def save(self, model: nn.Module, path: Path, card: dict[str, Any]) -> None:
        assert isinstance(model, Reconstructor)
        weights.save(path, model.network, model.operator, card)

    def facts(self) -> Mapping[str, str | None]:
        first = cast(Measured, self.batches.batch(0, 1)).y.numpy().tobytes()
        return {
            "network": recipe_of(self.model.network),
            "operator": recipe_of(self.model.operator),
            "loss": name_of_loss(self.own_loss),
            "data": f"{self.epoch} samples, the first with the hash {hashlib.sha256(first).hexdigest()[:12]}",
        }


def kspace_operator_of(measured: Measured, complex_images: bool = True) -> LinearOperator:
    """The operator of a batch of k-space, with its masks and maps."""
    assert measured.mask is not None
    how = {"complex_images": complex_images, "centered": measured.centered}
    if measured.maps is None:
        return MaskedFourier(measured.mask, **how)
    return MultiCoilFourier(measured.maps, measured.mask, **how)


def middle_like(image: Tensor, truth: Tensor) -> Tensor:
    """What the truth shows of an image: its middle, of the size of the truth."""
    height, width = truth.shape[-2:]
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]


def _held_out(mask: Tensor, centered: bool, seed: int) -> Tensor:
    """The frequencies that are held out, like the mask, (1, 1, height, width)."""
    height, width = mask.shape[-2:]
    far = (torch.fft.fftfreq(height).abs() > MIDDLE)[:, None] | (torch.fft.fftfreq(width).abs() > MIDDLE)
    drawn = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < HELD_OUT
    return mask * drawn * (torch.fft.fftshift(far) if centered else far)


def _like(mask: Tensor, y: Tensor) -> Tensor:
    """A mask (1, 1, height, width) to be multiplied with measurements of one coil or of several."""
    return mask if y.ndim == 4 else mask.unsqueeze(2)
