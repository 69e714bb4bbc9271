"""Activations by name, and those of networks that are binarised."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Estimator = Literal["identity", "relu", "clipped_relu"]
ActivationName = Literal["relu", "binary_identity", "binary_relu", "binary_clipped_relu"]
"""The ReLU, or a `BinaryActivation` with its estimator."""


def make_activation(name: ActivationName) -> nn.Module:
    """An activation by its name.

    Raises
    ------
    ValueError
        if the name is another one.

    Examples
    --------
    >>> make_activation("binary_clipped_relu")
    BinaryActivation('clipped_relu')
    """
    if name not in get_args(ActivationName):
        raise ValueError(f"activation must be one of {sorted(get_args(ActivationName))}, got {name!r}")
    return nn.ReLU() if name == "relu" else BinaryActivation(name.removeprefix("binary_"))  # type: ignore[arg-type]


class BinaryActivation(nn.Module):
    """The step function x ↦ 1{x > 0}, which is trained by a coarse gradient.

    The derivative of the step is 0 almost everywhere, so nothing below it would learn. A straight-through estimator
    puts the derivative of another function in its place, backward only: 1 for `"identity"`, 1{x > 0} for `"relu"`,
    1{0 < x ≤ 1} for `"clipped_relu"`, min(max(x, 0), 1). What comes of it is no gradient, but for Gaussian inputs it is
    on average a direction of descent with both ReLUs (Yin, Lyu, Zhang, Osher, Qi, Xin, "Understanding
    straight-through estimator in training activation quantized neural nets", ICLR 2019); with the identity training
    may leave a good minimum again.

    Together with `unrolled.sparsify.VariableSplitting` it is RVSCGD (Dinh, Xin, "Convergence of a relaxed variable
    splitting coarse gradient descent method for learning sparse weight binarized activation neural networks", 2019):
    sparse weights and binary activations,

        model = nn.Sequential(nn.Linear(784, 300), BinaryActivation(), nn.Linear(300, 10))
        sparsifier = VariableSplitting(model, TransformedL1(0.1), target=0.9, steps=len(batches))
        for x, y in batches:
            optimizer.zero_grad()
            (cross_entropy(model(x), y) + sparsifier.loss()).backward()
            optimizer.step()
            sparsifier.step(optimizer)
        sparsifier.finalize()

    Their theory keeps the weight at norm 1: between the two steps put `with torch.no_grad(): weight /= weight.norm()`.

    Parameters
    ----------
    estimator : "identity", "relu" or "clipped_relu"

    Raises
    ------
    ValueError
        if the estimator is another one.

    Examples
    --------
    >>> x = torch.tensor([-1.0, 0.5, 3.0], requires_grad=True)
    >>> BinaryActivation("clipped_relu")(x)
    tensor([0., 1., 1.], grad_fn=<AddBackward0>)
    >>> BinaryActivation("clipped_relu")(x).sum().backward()
    >>> x.grad
    tensor([0., 1., 0.])
    """

    def __init__(self, estimator: Estimator = "clipped_relu"):
        super().__init__()
        if estimator not in _SURROGATES:
            raise ValueError(f"BinaryActivation: estimator must be one of {sorted(_SURROGATES)}, got {estimator!r}")
        self.estimator = estimator

    def forward(self, x: Tensor) -> Tensor:
        """0 and 1, in the shape and type of x; NaN stays.

        Parameters
        ----------
        x : Tensor, any shape, floating point
        """
        surrogate = _SURROGATES[self.estimator](x)
        # The difference is exactly 0, and has the derivative of the surrogate, whatever transforms the function.
        return (x.detach() > 0).to(x.dtype) + (surrogate - surrogate.detach())

    def extra_repr(self) -> str:
        return repr(self.estimator)


def _identity(x: Tensor) -> Tensor:
    largest = torch.finfo(x.dtype).max  # so that the difference from itself is 0 at ±inf too
    return x.clamp(-largest, largest)


def _relu(x: Tensor) -> Tensor:
    return F.relu(x).clamp(max=torch.finfo(x.dtype).max)


def _clipped_relu(x: Tensor) -> Tensor:
    return F.relu(x).clamp(max=1)


_SURROGATES = {"identity": _identity, "relu": _relu, "clipped_relu": _clipped_relu}
