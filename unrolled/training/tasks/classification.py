"""The task of classification: images have a class, the network tells it."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled import weights
from unrolled.classifiers.classifier import Classifier, ImageClassifier
from unrolled.data import LabelledBatches, LabelledImages, LabelledSplits
from unrolled.system.recipes import describe
from unrolled.training.distributed import in_shards
from unrolled.training.tasks.task import Task

CHUNK = 1000
"""Images that are validated at a time."""


class ClassificationTask(Task):
    """Tell the classes of images, by cross entropy.

    Images are standardised by the mean and standard deviation of the training images, channel by channel; both travel
    with the weights.

    Parameters
    ----------
    network : Module, (batch, channel, height, width) ↦ (batch, class)
    data : LabelledSplits
    seed : int
        of the order of images and of how they are varied.
    shift, flip
        as in `LabelledBatches`.
    device : torch.device, optional
        that trains; the images are kept there too.
    recipe : dict, optional
        how the network is made, {"class_path": …, "init_args": …}; not needed for those of `unrolled.classifiers`.

    Raises
    ------
    ValueError
        if the network cannot take the images, or has not an output for each class.
    """

    score = "accuracy"

    def __init__(
        self,
        network: nn.Module,
        data: LabelledSplits,
        seed: int = 0,
        shift: int = 0,
        flip: bool = False,
        device: torch.device | None = None,
        recipe: dict[str, Any] | None = None,
    ):
        self.device = torch.device("cpu") if device is None else device
        self.model: nn.Module = network.to(self.device)
        self.name, self.recipe, self.classes = data.name, recipe, data.train.classes
        self.size = tuple(data.train.images.shape[-2:])
        self.mean, self.std = data.train.moments()
        self.moments = torch.tensor([self.mean, self.std], device=self.device).unflatten(1, (-1, 1, 1))
        self.hash = data.train.hash()
        self.train, self.validation = data.train.to(self.device), data.validation.to(self.device)
        self.test = data.test
        self.batches = LabelledBatches(self.train, seed, shift, flip)
        self.epoch = len(self.train)
        self._try()

    @torch.no_grad()
    def _try(self) -> None:
        """Ask once, before anything else is done."""
        name, shape = type(self.model).__name__, tuple(self.train.images.shape[1:])
        was_training = self.model.training
        try:
            output = self.model.eval()(self._standardised(self.train.images[:2].float() / 255))
        except Exception as error:  # of images that do not fit anything may come
            raise ValueError(f"classifier: {name} cannot take the images of {self.name}, {shape}: {error}") from error
        self.model.train(was_training)
        wanted = (min(2, len(self.train)), len(self.classes))
        if not isinstance(output, Tensor) or tuple(output.shape) != wanted:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"classifier: {name} must give (batch, {wanted[1]}) numbers, one for each class of {self.name}, got "
                f"{got} of {wanted[0]} images"
            )

    def _standardised(self, images: Tensor) -> Tensor:
        mean, std = self.moments
        return (images - mean) / std

    def example(self) -> Tensor:
        return self._standardised(self.train.images[:1].float() / 255)

    def batch(self, step: int, size: int, part: range | None = None) -> tuple[Tensor, Tensor]:
        images, labels = self.batches.batch(step, size, part)
        return self._standardised(images), labels

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy and error in %, and the cross entropy, on the held-out images."""
        return self._figures(model, self.validation)

    def test_figures(self, model: nn.Module) -> dict[str, float] | None:
        """The same on the test images; None if there are none. To be asked once, when all is decided."""
        return None if self.test is None else self._figures(model, self.test.to(self.device))

    @torch.no_grad()
    def _figures(self, model: nn.Module, data: LabelledImages) -> dict[str, float]:
        def count(start: int) -> tuple[float, int]:
            labels = data.labels[start : start + CHUNK]
            output = model(self._standardised(data.images[start : start + CHUNK].float() / 255))
            entropy = functional.cross_entropy(output, labels, reduction="sum")
            return float(entropy), int((output.argmax(1) == labels).sum())

        entropies, right = zip(*in_shards(count, range(0, len(data), CHUNK)), strict=True)
        accuracy = 100 * sum(right) / len(data)
        return {"accuracy": accuracy, "error": 100 - accuracy, "cross_entropy": sum(entropies) / len(data)}

    def save(self, model: nn.Module, path: Path, card: dict[str, Any]) -> None:
        height, width = self.size
        classifier = Classifier(model, self.classes, self.mean, self.std, (height, width))
        weights.save_classifier(path, classifier, {**card, "data": self.name}, self.recipe)

    def facts(self) -> dict[str, str]:
        named = describe(self.model) if isinstance(self.model, ImageClassifier) else self.recipe
        recipe = type(self.model).__name__ if named is None else json.dumps(named, default=repr)
        held = f"{len(self.train)} images to train on, {len(self.validation)} held out"
        return {"classifier": recipe, "data": f"{self.name}, {held}, with the hash {self.hash[:12]}"}
