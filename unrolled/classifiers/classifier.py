"""Networks that classify images, and a classifier that is ready for use."""

from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.system.recipes import Described
from unrolled.system.scalars import whole_number


class ImageClassifier(Described, nn.Module, ABC):
    """(batch, channel, height, width) ↦ (batch, class): what is highest is the answer. Images are standardised."""

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())


class Classifier(nn.Module):
    """A trained network with all that it takes to ask it: how its images are standardised, and what it knows.

    Parameters
    ----------
    network : Module
    classes : sequence of str
        their names, in the order of the network's outputs.
    mean, std : sequence of float, one a channel
        of the training images in [0, 1].
    size : (height, width) of the training images

    Examples
    --------
    >>> from unrolled.classifiers import LeNet300100
    >>> classifier = Classifier(LeNet300100(2), ["cat", "dog"], mean=[0.5], std=[0.2], size=(28, 28))
    >>> len(classifier.name(torch.rand(3, 1, 28, 28)))
    3
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        size: tuple[int, int],
    ):
        super().__init__()
        self.network, self.classes, self.size = network, tuple(classes), size
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs, (batch, class), for images (batch, channel, height, width) in [0, 1]."""
        return self.network((x - self.mean) / self.std)

    @torch.no_grad()
    def name(self, x: Tensor) -> list[str]:
        """The name of the class of each image.

        Parameters
        ----------
        x : Tensor, (batch, channel, height, width) in [0, 1]

        Raises
        ------
        ValueError
            if the images are not of the size and channels of those it was trained on.
        """
        wanted = (len(self.mean), *self.size)
        if x.ndim != 4 or tuple(x.shape[1:]) != wanted:
            raise ValueError(f"images must be (batch, {', '.join(map(str, wanted))}), got {tuple(x.shape)}")
        return [self.classes[index] for index in self(x).argmax(1).tolist()]


def check_positive(network: nn.Module, **numbers: int) -> None:
    for name, value in numbers.items():
        whole_number(f"{type(network).__name__}: {name}", value)
