"""What is trained: a model, its loss on the batch of a step, and its validation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

LossOfModel = Callable[[nn.Module, Any, int], Tensor]
"""(model, batch, step) ↦ loss."""


class Task(ABC):
    """What the loop trains. Reconstruction is one; a task of your own needs three attributes and four methods.

    Attributes
    ----------
    model : Module
        everything that is learned. The loop averages its weights and hands the average to `validate` and `save`.
    epoch : int
        samples in an epoch.
    score : str
        the key of `validate`'s result by which the best weights are chosen: higher is better.
    gains_by_compiling : bool
        whether a long run tries compiled code where its options do not say.
    """

    model: nn.Module
    epoch: int
    score: str
    gains_by_compiling: bool = False

    @property
    def sparsified(self) -> nn.Module:
        """The part of the model that a sparsifier is given: all of it, unless a task says otherwise."""
        return self.model

    def example(self) -> Any:
        """What `sparsified` is called with, for its multiply-adds to be counted: a tuple has positional arguments.

        None: they are not counted.
        """
        return None

    @abstractmethod
    def batch(self, step: int, size: int, part: range | None = None) -> Any:
        """The batch of a step, on the model's device: a function of the step, with no memory.

        One of several processes asks only for its part of the places range(size); alone it asks for all, with None.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, step: int) -> Tensor:
        """The loss of a batch: a scalar with gradient, the mean over the samples."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures on held-out data, among them `score`: the same on every process, which may share the work."""

    @abstractmethod
    def save(self, model: nn.Module, path: Path, card: dict[str, Any]) -> None:
        """Write the weights as a file that users load."""

    def facts(self) -> Mapping[str, str | None]:
        """What must be as it was when a run goes on: refused if it is not, by its name; only said if that is "data"."""
        return {}

    def go_on(self, model: nn.Module, facts: Mapping[str, Any]) -> None:
        """Tell a model what the run that goes on told of itself when it began, before that is compared."""
        return
