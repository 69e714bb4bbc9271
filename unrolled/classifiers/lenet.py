"""LeNet-300-100 and LeNet-5."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from unrolled.classifiers.activations import ActivationName, make_activation
from unrolled.classifiers.classifier import ImageClassifier, check_positive


class LeNet300100(ImageClassifier):
    """Two hidden layers of 300 and 100 units (LeCun, Bottou, Bengio, Haffner, 1998): 266,200 weights on MNIST.

    Parameters
    ----------
    num_classes : int
    channels, size : int
        of the images, which are squares of size × size pixels.
    activation : {"relu", "binary_identity", "binary_relu", "binary_clipped_relu"}
        of the hidden layers: the ReLU, or a step function that is trained by one of the estimators of
        `unrolled.classifiers.activations.BinaryActivation`.
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
        check_positive(self, num_classes=num_classes, channels=channels, size=size)
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
        check_positive(self, num_classes=num_classes, channels=channels, hidden=hidden)
        if size < 16:
            raise ValueError(f"LeNet5: size must be >= 16, got {size!r}")
        self.activation = make_activation(activation)
        if len(filters) != 2:
            raise ValueError(f"LeNet5: filters must be two numbers, got {filters!r}")
        for count in filters:
            check_positive(self, filters=count)
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
