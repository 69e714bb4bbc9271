"""Anderson's acceleration of fixed points."""

import torch
from torch import Tensor

State = tuple[Tensor, ...]


class Anderson:
    """z⁺ = Σαᵢf(zᵢ) over the last few zᵢ, with the weights of sum 1 that make ‖Σαᵢ(f(zᵢ) − zᵢ)‖ least.

    Anderson, J. ACM 12, 1965; for deep equilibrium networks Bai, Kolter, Koltun, NeurIPS 2020. Every image of a batch
    has weights of its own, for all of its state. Where f is linear it comes as near to the fixed point as GMRES.

    Parameters
    ----------
    memory : int >= 1
        how many points are looked at; of one alone, z⁺ = f(z).
    """

    def __init__(self, memory: int):
        self.memory = memory
        self.values: list[State] = []
        self.residuals: list[Tensor] = []

    def following(self, point: State, value: State) -> State:
        """The next point.

        Parameters
        ----------
        point, value : tuple of Tensor, each (batch, …)
            z and f(z).
        """
        if self.memory == 1:
            return value
        moved = [_numbers(after - before) for before, after in zip(point, value, strict=True)]
        self.values = [*self.values[1 - self.memory :], value]
        self.residuals = [*self.residuals[1 - self.memory :], torch.cat(moved, 1)]
        weights = _least(torch.stack(self.residuals, 1))
        return tuple(
            sum(_for(weight, entry) * entry for weight, entry in zip(weights.unbind(1), entries, strict=True))
            for entries in zip(*self.values, strict=True)
        )


def _numbers(x: Tensor) -> Tensor:
    """Of every image its numbers, (batch, count), real."""
    return (torch.view_as_real(x) if x.is_complex() else x).flatten(1)


def _least(residuals: Tensor) -> Tensor:
    """The weights of sum 1, (batch, points), of the shortest combination of residuals, (batch, points, count)."""
    products = residuals @ residuals.mT
    largest = products.diagonal(dim1=1, dim2=2).amax(1)[:, None, None]
    numbers = torch.finfo(products.dtype)
    # Residuals become alike, and then rounding decides what is left of their combination.
    ridge = 10 * numbers.eps * torch.eye(products.shape[1], dtype=products.dtype, device=products.device)
    ones = products.new_ones(len(products), products.shape[1], 1)
    found = torch.linalg.solve(products / largest.clamp(min=numbers.tiny) + ridge, ones)[..., 0]
    return found / found.sum(1, keepdim=True)


def _for(weight: Tensor, entry: Tensor) -> Tensor:
    """One number for each image, to be multiplied with."""
    return weight.to(entry.dtype).view(-1, *(1,) * (entry.ndim - 1))
