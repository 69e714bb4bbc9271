"""A small dense problem, on which the equations of networks are written out with matrices."""

import torch
from torch import Tensor

from unrolled.operators import Dense


class DenseProblem:
    """A of the norm 1, 20 × 30, on images of 5 × 6 pixels, real or complex, in double precision.

    Attributes
    ----------
    A : Tensor, (20, 30)
    operator : Dense
    y : Tensor, (2, 1, 20)
    """

    def __init__(self, kind: str = "real"):
        random = torch.Generator().manual_seed(0)
        dtype = torch.complex64 if kind == "complex" else torch.float32
        matrix = torch.randn(20, 30, generator=random, dtype=dtype)
        self.operator = Dense(matrix / torch.linalg.matrix_norm(matrix, 2), 5, 6).double()
        self.A = self.operator.matrix
        self.y = self.operator(torch.randn(2, 1, 5, 6, generator=random, dtype=dtype).to(self.A.dtype))

    def start(self) -> Tensor:
        """Aᴴy."""
        return (self.y @ self.A.conj()).unflatten(2, (5, 6))

    def gradient(self, x: Tensor) -> Tensor:
        """Aᴴ(Ax − y)."""
        return ((x.flatten(2) @ self.A.T - self.y) @ self.A.conj()).unflatten(2, (5, 6))

    def nearest(self, z: Tensor, ridge: Tensor) -> Tensor:
        """(AᴴA + λ)⁻¹(Aᴴy + λz)."""
        matrix = self.A.mH @ self.A + ridge.reshape(-1, 1, 1) * torch.eye(30, dtype=self.A.dtype)
        right = (self.start() + ridge * z).flatten(1).unsqueeze(2)
        return torch.linalg.solve(matrix, right).reshape(z.shape)


def disturbed(network, strength: float = 0.1):
    """With all weights at random, as after training, in double precision."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(strength * torch.randn_like(parameter))
    return network.double()
