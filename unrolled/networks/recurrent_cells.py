"""Recurrent cells on feature maps: what is remembered from one phase to the next, through gates."""

import torch
from torch import Tensor, nn

from unrolled.networks.initial_weights import of_one_size


class GatedCell(nn.Module):
    """s⁺ = (1 − g)∘s + g∘tanh(W[v, r∘s] + w) with the gates g, r = σ(V[v, s] + u): a gated recurrent unit, by pixel.

    Cho and others, EMNLP 2014, with 1×1 convolutions V and W: every pixel remembers for itself.

    Parameters
    ----------
    inputs, features : int
        maps that it is given, and that it remembers.
    """

    def __init__(self, inputs: int, features: int):
        super().__init__()
        self.gates = nn.Conv2d(inputs + features, 2 * features, 1)
        self.content = of_one_size(nn.Conv2d(inputs + features, features, 1), rectified=False)

    def forward(self, v: Tensor, s: Tensor) -> Tensor:
        """What is remembered next.

        Parameters
        ----------
        v : Tensor, (batch, inputs, height, width)
        s : Tensor, (batch, features, height, width)
            what was remembered.

        Returns
        -------
        Tensor, like s
        """
        update, reset = torch.sigmoid(self.gates(torch.cat([v, s], 1))).chunk(2, 1)
        content = torch.tanh(self.content(torch.cat([v, reset * s], 1)))
        return torch.lerp(s.to(content.dtype), content, update.to(content.dtype))
