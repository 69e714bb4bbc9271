"""Residual networks for small images: ResNet-20 and its kind, wide ResNets."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from unrolled.classifiers.classifier import ImageClassifier, check_positive


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
        check_positive(self, num_classes=num_classes, channels=channels)
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
        check_positive(self, num_classes=num_classes, width=width, channels=channels)
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


def _initialise(network: nn.Module) -> None:
    """He's initialisation for what a ReLU follows."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
