"""The weights that convolutions begin with."""

from torch import nn


def of_one_size(layer: nn.Conv2d, rectified: bool = True) -> nn.Conv2d:
    """A convolution whose outputs, after a rectifier, begin as large as its inputs, on average (He and others, 2015).

    PyTorch's own begin two and a half times smaller from layer to layer, and their biases as large as at first: after a
    few of them an image is lost among constants, and the layers that follow learn little from it.

    Parameters
    ----------
    layer : Conv2d
    rectified : bool
        whether a rectifier follows; otherwise the outputs themselves begin as large as the inputs.
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if rectified else "linear")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
