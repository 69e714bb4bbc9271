"""Curves along which a penalty is known, with everything that a search needs to look for on them."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from unrolled.penalties.root_finding import geometric_grid, subdivided

LOWEST, HIGHEST = 2.0**-50, 2.0**30
"""The magnitudes between which numeric penalties are exact."""

FINER = 8
"""Parts into which a search cuts a stretch of a curve when it looks closer."""

_REMEMBERED = 32  # results


@dataclass(frozen=True, eq=False)
class Curve(ABC):
    """A curve u ↦ (z, η̂(z), ρ(z)), u > 0, of a penalty ρ whose parameters do not change any more.

    A subclass is a frozen dataclass of the parameters: numbers, or float64 tensors that broadcast with u. It says what
    z, η̂ and ρ are at u, where u may be the magnitude itself, η, or whatever the penalty is simplest in.
    """

    in_magnitudes: ClassVar[bool] = True
    """Whether u is the magnitude z itself."""

    memory: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @abstractmethod
    def at(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """z and η̂(z) at u, both nondecreasing; z continuous."""

    @abstractmethod
    def value(self, u: Tensor) -> Tensor:
        """ρ(z(u))."""

    def nodes(self, device: torch.device) -> Tensor:
        """Increasing values of u, close enough together that the curve has no more than a bend between two."""
        return geometric_grid(LOWEST, HIGHEST, device)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The parameters that are tensors."""
        own = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: value for name, value in own.items() if isinstance(value, Tensor)}

    def having(self, tensors: dict[str, Any]) -> Self:
        """The curve with other tensors as parameters."""
        return dataclasses.replace(self, **tensors) if tensors else self

    def columns(self, which: Tensor) -> Self:
        """The curve of some entries of parameters that are vectors."""
        return self.having({name: value[which] for name, value in self.tensors.items()})

    def once(self, find: Callable[..., Any], *keys: Any) -> Any:
        """find(*keys), looked for only once: what is found on a curve stays right, for the curve does not change."""
        place = (find.__name__, *keys)
        if place not in self.memory:
            if len(self.memory) >= _REMEMBERED:
                self.memory.clear()
            self.memory[place] = find(*keys)
        return self.memory[place]

    def table(self, device: torch.device) -> Tensor:
        """u, z, η̂ and ρ, (4, n), on a grid that is finer than the nodes; of parameters that are single numbers."""
        return self.once(self._table, device)

    def _table(self, device: torch.device) -> Tensor:
        grid = self.nodes(device)
        inner = subdivided(grid[:-1], grid[1:], FINER)[:-1]
        return self.tabulated(torch.cat([inner.reshape(-1), grid[-1:]]).unique())

    def tabulated(self, u: Tensor) -> Tensor:
        """u, z, η̂ and ρ, (4, n), at u, (n,)."""
        return torch.stack(torch.broadcast_tensors(u, *self.at(u), self.value(u))).detach()
