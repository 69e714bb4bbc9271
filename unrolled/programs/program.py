"""A network and its operator as one module of the measurements."""

import copy

import torch
from torch import Tensor, nn

from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.operators.linear_map import AS_GIVEN, LinearMap


class Program(nn.Module):
    """y ↦ x̂, or (y, noise) ↦ x̂: a copy of a network, fused, and of its operator, on the CPU and without derivatives.

    Parameters
    ----------
    network : UnrolledNetwork
    operator : LinearOperator
    pairs : bool
        whether complex numbers come and go as real ones with one more axis, the last, of real and imaginary part:
        runtimes without complex numbers take them so.
    """

    def __init__(self, network: UnrolledNetwork, operator: LinearOperator, pairs: bool = False):
        super().__init__()
        self.network, self.operator, self.pairs = network.fuse().cpu(), copy.deepcopy(operator).eval().cpu(), pairs
        self.operator.__dict__.pop(AS_GIVEN, None)
        for part in self.operator.modules():
            if isinstance(part, LinearMap):
                part.prepare_program()
        self.requires_grad_(False)

    def forward(self, y: Tensor, noise: Tensor | None = None) -> Tensor:
        """The picture.

        Parameters
        ----------
        y : Tensor, measurements of a batch of images
        noise : Tensor, (batch,), optional
            standard deviation of the noise in the measurements, for networks that take it.
        """
        if self.pairs and self.operator.complex_measurements:
            y = torch.view_as_complex(y)
        x = self.network(y, self.operator, noise=noise)
        return torch.view_as_real(x) if self.pairs and self.operator.complex_images else x

    def given(self, y: Tensor) -> Tensor:
        """Measurements as the program takes them."""
        return torch.view_as_real(y) if self.pairs and self.operator.complex_measurements else y

    def returned(self, x: Tensor) -> Tensor:
        """A picture as the network returns it, of what the program returns."""
        return torch.view_as_complex(x) if self.pairs and self.operator.complex_images else x
