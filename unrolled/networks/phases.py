"""One iteration of an unrolled algorithm: what it is given, what it hands on, and how far it looks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unrolled.networks.older_phases import adapt
from unrolled.operators import LinearOperator
from unrolled.system.scalars import whole_number

State = tuple[Any, ...]
"""What one phase hands to the next: tensors, of which the first is the image."""

Step = Callable[[State, Tensor, LinearOperator, Tensor | None], State]
"""(state, y, operator, condition) ↦ state."""


@dataclass(frozen=True)
class FeatureMaps:
    """An entry of the state that lies over the image: (…, height / scale, width / scale).

    Parameters
    ----------
    scale : int >= 1
        pixels of the image, in either direction, for one of the maps.
    """

    scale: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", whole_number("FeatureMaps: scale", self.scale))


@dataclass(frozen=True)
class Images:
    """An entry of the state that is one or more images, of the size of the first."""

    scale: ClassVar[int] = 1


@dataclass(frozen=True)
class Measurements:
    """An entry of the state that lives among the measurements, as a dual variable does."""


class Phase(nn.Module, ABC):
    """One iteration of an optimisation algorithm, with learned parts.

    Attributes
    ----------
    carries : tuple of FeatureMaps, Images or Measurements
        what each entry of the state after the first, which is the image, is; by default there is none.
    reach : int or None
        how many pixels away the learned maps of the phase look, all in all; None (the default): everywhere, and then
        there is no reconstruction in tiles.
    data_steps : int
        how many steps with the operator the maps are divided by. The first of them stands before the first map, or the
        last one after the last map; a phase with maps on either side of all of its steps counts one more.
    alignment : int
        parts of an image that the phase is to treat as the whole begin at multiples of so many pixels.
    """

    carries: tuple[FeatureMaps | Images | Measurements, ...] = ()
    reach: int | None = None
    data_steps: int = 1
    alignment: int = 1

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        adapt(cls, (Images(),))

    def begin(self, x: Tensor, y: Tensor, operator: LinearOperator) -> State:
        """The state that the first phase is given.

        Parameters
        ----------
        x : Tensor, (batch, channel, height, width), the start
        y : Tensor, the measurements
        operator : LinearOperator

        Returns
        -------
        tuple of Tensor
            the image x, and what `carries` says
        """
        return (x,)

    @abstractmethod
    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        """The next state.

        Parameters
        ----------
        state : tuple of Tensor
            the image, (batch, channel, height, width), and what `carries` says.
        y : Tensor, the measurements
        operator : LinearOperator
        condition : Tensor, (batch, numbers), optional
            what the network knows about each image's measurements, such as their noise level.

        Returns
        -------
        tuple of Tensor
            of the shapes of the state
        """


def gradient(x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
    """∇f(x) = Aᴴ(Ax − y) of f(x) = ½‖Ax − y‖²."""
    ax = operator(x)
    if ax.shape != y.shape:
        raise ValueError(
            f"{type(operator).__name__}: measurements must be {tuple(ax.shape)}, as those of images {tuple(x.shape)}, "
            f"got {tuple(y.shape)}"
        )
    return operator.adjoint(ax - y)


def positive(value: float) -> nn.Parameter:
    """A learned step size that starts at a value; read it through `softplus`, which keeps it positive."""
    return nn.Parameter(torch.tensor(value).expm1().log())
