"""Layers with channels: which numbers of their weights belong to an output channel, and which to an input channel."""

from torch import Tensor, nn

Layer = nn.modules.conv._ConvNd | nn.Linear
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def by_output(values: Tensor, module: nn.Module) -> Tensor:
    """The numbers of a weight, (outputs, numbers of each): a row is a filter, or what an output unit has."""
    return _across(values, _groups(module)) if isinstance(module, TRANSPOSED) else values.reshape(len(values), -1)


def by_input(values: Tensor, module: nn.Module) -> Tensor:
    """The numbers of a weight, (inputs, numbers of each): a row is what reads one input channel or unit."""
    return values.reshape(len(values), -1) if isinstance(module, TRANSPOSED) else _across(values, _groups(module))


def layers_of(model: nn.Module) -> list[tuple[str, Layer]]:
    """The convolutions and dense layers of a model, with their names."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, Layer)]


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each output channel reads the input channel of its own number alone."""
    return isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.in_channels == layer.out_channels


def width(layer: Layer) -> int:
    """How many output channels or units a layer has."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def inputs_of(layer: Layer) -> int:
    """How many input channels or units a layer has."""
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def channel_axis(layer: Layer) -> int:
    """The axis of channels or units, of what a layer reads and of what it computes."""
    return -1 if isinstance(layer, nn.Linear) else -1 - len(layer.kernel_size)


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, nn.modules.conv._ConvNd) else 1


def _across(values: Tensor, groups: int) -> Tensor:
    """(groups·a, b, …) → (groups·b, numbers of each): channels on the second axis, which every group counts anew."""
    if values.ndim < 2:
        return values.reshape(1, -1)
    shape = (groups, values.shape[0] // groups, values.shape[1], -1)
    return values.reshape(shape).transpose(1, 2).reshape(groups * values.shape[1], -1)
