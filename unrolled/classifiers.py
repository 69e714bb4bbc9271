"""The networks on which sparsification is compared: small ones for MNIST, residual ones for CIFAR."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.activations import ActivationName, make_activation
from unrolled.description import Described


class ImageClassifier(Described, nn.Module, ABC):
    """(batch, channel, height, width) ↦ (batch, class): what is highest is the answer. Images are standardised."""

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())


class LeNet300100(ImageClassifier):
    """Two hidden layers of 300 and 100 units (LeCun, Bottou, Bengio, Haffner, 1998): 266,200 weights on MNIST.

    Parameters
    ----------
    num_classes : int
    channels, size : int
        of the images, which are squares of size × size pixels.
    activation : {"relu", "binary_identity", "binary_relu", "binary_clipped_relu"}
        of the hidden layers: the ReLU, or a step function that is trained by one of the estimators of
        `unrolled.activations.BinaryActivation`.
    batch_norm : bool
        whether a batch norm precedes each activation. Step functions are hard to train without.
    """

    def __init__(
        self,
        num_classes: int = 10,
        channels: int = 1,
        size: int = 28,
        activation: ActivationName = "relu",
        batch_norm: bool = False,
    ):
        super().__init__()
        _check_positive(self, num_classes=num_classes, channels=channels, size=size)
        self.activation = make_activation(activation)
        self.fc1 = nn.Linear(channels * size**2, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, num_classes)
        self.bn1 = nn.BatchNorm1d(300) if batch_norm else nn.Identity()
        self.bn2 = nn.BatchNorm1d(100) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.bn1(self.fc1(x.flatten(1))))
        return self.fc3(self.activation(self.bn2(self.fc2(x))))


class LeNet5(ImageClassifier):
    """Two convolutions and two dense layers as the library Caffe has them, 20-50-800-500: 430,500 weights on MNIST.

    With an activation after each convolution, as the papers on sparsity use it. It comes after the pooling, which for
    the ReLU is the same; the coarse gradient of a step function goes to the pixel that was largest before the step.

    Parameters
    ----------
    num_classes : int
    channels, size : int
        of the images, which are squares of size × size pixels, 16 at least.
    filters : (int, int)
        of the two convolutions.
    hidden : int
        units of the hidden layer.
    activation, batch_norm
        as in `LeNet300100`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        channels: int = 1,
        size: int = 28,
        filters: tuple[int, int] = (20, 50),
        hidden: int = 500,
        activation: ActivationName = "relu",
        batch_norm: bool = False,
    ):
        super().__init__()
        _check_positive(self, num_classes=num_classes, channels=channels, hidden=hidden)
        if size < 16:
            raise ValueError(f"LeNet5: size must be >= 16, got {size!r}")
        self.activation = make_activation(activation)
        if len(filters) != 2:
            raise ValueError(f"LeNet5: filters must be two numbers, got {filters!r}")
        for count in filters:
            _check_positive(self, filters=count)
        first, second = filters
        side = ((size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(channels, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.fc1 = nn.Linear(second * side**2, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.bn1 = nn.BatchNorm2d(first) if batch_norm else nn.Identity()
        self.bn2 = nn.BatchNorm2d(second) if batch_norm else nn.Identity()
        self.bn3 = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()

    def description(self) -> dict[str, Any]:
        """What makes it as it is: smaller than it was made, if it was compacted."""
        filters = [self.conv1.out_channels, self.conv2.out_channels]
        return {**super().description(), "filters": filters, "hidden": self.fc1.out_features}

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = self.activation(norm(functional.max_pool2d(convolution(x), 2)))
        return self.fc2(self.activation(self.bn3(self.fc1(x.flatten(1)))))


class CifarResNet(ImageClassifier):
    """The residual network for small images (He, Zhang, Ren, Sun, 2016, section 4.2); ResNet-20 by default.

    Three stages of 16, 32 and 64 channels, n = (depth − 2)/6 blocks of two convolutions in each.

    Parameters
    ----------
    num_classes : int
    depth : int
        6n + 2: 20, 32, 44, 56, 110 …
    channels : int
        of the images, which may have any size.
    shortcut : {"padding", "convolution"}
        how a shortcut gets to more channels: by zeros, as in the paper (option A: 269,722 parameters with depth 20 and
        ten classes), or by a learned convolution of 1 × 1 (option B), of which channels can be removed.
    """

    def __init__(
        self,
        num_classes: int = 10,
        depth: int = 20,
        channels: int = 3,
        shortcut: Literal["padding", "convolution"] = "padding",
    ):
        super().__init__()
        _check_positive(self, num_classes=num_classes, channels=channels)
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CifarResNet: depth must be 6n + 2 (20, 32, 44, 56, 110), got {depth!r}")
        if shortcut not in ("padding", "convolution"):
            raise ValueError(f"CifarResNet: shortcut must be 'padding' or 'convolution', got {shortcut!r}")
        self.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        blocks, inputs = list[nn.Module](), 16
        for stage, outputs in enumerate((16, 32, 64)):
            for block in range((depth - 2) // 6):
                stride = 2 if stage and not block else 1
                blocks.append(_ResidualBlock(inputs, outputs, stride, shortcut == "convolution"))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(functional.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


class WideResNet(ImageClassifier):
    """The wide residual network (Zagoruyko, Komodakis, 2016); WRN-28-10 by default: 36.5 million parameters.

    Three stages of 16, 32 and 64 times `width` channels, n = (depth − 4)/6 blocks in each; norm and ReLU come before a
    convolution.

    Parameters
    ----------
    num_classes : int
    depth : int
        6n + 4: 16, 22, 28, 40 …
    width : int
    channels : int
        of the images, which may have any size.
    dropout : float in [0, 1)
        between the two convolutions of a block.
    """

    def __init__(
        self, num_classes: int = 10, depth: int = 28, width: int = 10, channels: int = 3, dropout: float = 0.0
    ):
        super().__init__()
        _check_positive(self, num_classes=num_classes, width=width, channels=channels)
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"WideResNet: depth must be 6n + 4 (16, 22, 28, 40), got {depth!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"WideResNet: dropout must be in [0, 1), got {dropout!r}")
        self.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        blocks, inputs = list[nn.Module](), 16
        for stage, outputs in enumerate((16 * width, 32 * width, 64 * width)):
            for block in range((depth - 4) // 6):
                blocks.append(_WideBlock(inputs, outputs, 2 if stage and not block else 1, dropout))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.blocks(self.conv(x))))
        return self.fc(x.mean((2, 3)))


class _ResidualBlock(nn.Module):
    """Two convolutions, each with its norm, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, learned: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module
        if inputs == outputs:
            self.shortcut = nn.Identity()
        elif learned:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
        else:
            self.shortcut = _PaddedShortcut(outputs - inputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class _PaddedShortcut(nn.Module):
    """Every stride-th pixel, and channels of zeros before and after."""

    def __init__(self, more: int, stride: int):
        super().__init__()
        self.before, self.stride = more // 2, stride
        self.after = more - self.before

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class _WideBlock(nn.Module):
    """Norm, ReLU and convolution, twice, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(y)
        y = functional.relu(self.bn2(self.conv1(y)))
        return x + self.conv2(self.dropout(y))


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


def _initialise(network: nn.Module) -> None:
    """He's initialisation for what a ReLU follows."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _check_positive(network: nn.Module, **numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{type(network).__name__}: {name} must be a whole number >= 1, got {value!r}")
