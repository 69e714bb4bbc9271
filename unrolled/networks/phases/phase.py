"""One iteration of an unrolled algorithm: what it is given, what it hands on, and how far it looks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from unrolled.networks.phases.older_phases import adapt
from unrolled.operators import LinearOperator
from unrolled.system.recipes import Described
from unrolled.system.scalars import whole_number

State = tuple[Any, ...]
"""What one phase hands to the next: tensors, of which the first is the image."""

Step = Callable[[State, Tensor, LinearOperator, Tensor | None], State]
"""(state, y, operator, condition) ↦ state."""


@dataclass(frozen=True)
class FeatureMaps:
    """An entry of the state that lies over the image: (…, height / scale, width / scale), rounded up.

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


class Phase(Described, nn.Module, ABC):
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
    grows: ClassVar[bool] = False
    """Whether the state has more entries after the first phase, as in the older form."""

    def __init__(self) -> None:  # so that phases without arguments have a recipe too
        super().__init__()

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


def following(step: Step, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None) -> State:
    """The state after a step.

    Raises
    ------
    ValueError
        if a phase returns other entries than it was given.
    """
    found = step(state, y, operator, condition)
    if isinstance(step, Phase) and not step.grows and _shapes(found) != _shapes(state):
        raise ValueError(
            f"{type(step).__name__}: must return a state like the one that it is given, {_shapes(state)}, got "
            f"{_shapes(found)}"
        )
    return found


def _shapes(state: Any) -> list[tuple[int, ...] | str] | str:
    if not isinstance(state, tuple):
        return type(state).__name__
    return [tuple(entry.shape) if isinstance(entry, Tensor) else type(entry).__name__ for entry in state]
