"""What a step changes: weights, their average, running statistics; or nothing, if loss or gradient are not finite."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unrolled.system.devices import Sent
from unrolled.training.sparse import DenseTraining


@dataclass(frozen=True)
class Outcome:
    """What the host gets to know of a step: its number, loss, norm of the gradient, and the processes' wishes."""

    step: int
    loss: float
    norm: float
    stop: bool
    save: bool

    @classmethod
    def of(cls, step: int, numbers: Sequence[float]) -> "Outcome":
        """That of `distributed.agreed`."""
        loss, norm, stop, save = numbers
        return cls(step, loss, norm, stop > 0, save > 0)

    @property
    def is_good(self) -> bool:
        """Whether something was learned in this step."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Updates:
    """The host reads loss and norm of the gradient, and decides.

    Parameters
    ----------
    model : Module
    optimizer : Optimizer
    sparse : DenseTraining
        which acts after the optimiser and keeps the average.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, sparse: DenseTraining):
        self.model, self.optimizer, self.sparse = model, optimizer, sparse
        self.statistics = _running_statistics(model)
        self.before: list[Tensor] = []

    def begin(self) -> None:
        """To be called before the model runs, which changes running statistics."""
        self.before = [buffer.clone() for buffer in self.statistics]

    def apply(self, step: int, numbers: Tensor) -> list[Outcome]:
        """Learn from the gradients that are there, if they and the loss are finite.

        Parameters
        ----------
        step : int
        numbers : Tensor
            loss, norm of the gradient and wishes, see `distributed.agreed`.

        Returns
        -------
        list of Outcome
            of the steps whose numbers are known since this call.
        """
        outcome = Outcome.of(step, numbers.tolist())
        if outcome.is_good:
            self.optimizer.step()
            self.sparse.step(self.optimizer, step)
            if self.sparse.averages:
                self.sparse.average.update(self.model)
        else:
            self.restore()
        return [outcome]

    def restore(self) -> None:
        """Set running statistics back to what they were at `begin`."""
        for buffer, old in zip(self.statistics, self.before, strict=True):
            buffer.copy_(old)

    def settle(self) -> list[Outcome]:
        """Wait for the device: the outcomes that were still unknown."""
        return []


class UpdatesOnDevice(Updates):
    """The device decides, and the host reads its numbers one step late, so that the device never waits for the host.

    The optimiser must be fused: its kernels leave everything as it is where `found_inf` is 1. Nothing is sparsified,
    for sparsifiers look at the weights in every step.
    """

    sent: tuple[int, Sent] | None = None

    def apply(self, step: int, numbers: Tensor) -> list[Outcome]:
        good = numbers[:2].isfinite().all()
        self.optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        for buffer, old in zip(self.statistics, self.before, strict=True):
            buffer.copy_(torch.where(good, buffer, old))
        self.sparse.average.update(self.model, where=good)
        sent = step, Sent(numbers)
        known = self.settle()
        self.sent = sent
        return known

    def settle(self) -> list[Outcome]:
        sent, self.sent = self.sent, None
        return [] if sent is None else [Outcome.of(sent[0], sent[1].read())]


def can_decide(device: torch.device, parameters: Sequence[nn.Parameter]) -> bool:
    """Whether `UpdatesOnDevice` may be used: there are fused optimisers on CUDA, for real weights."""
    return device.type == "cuda" and all(parameter.is_floating_point() for parameter in parameters)


def _running_statistics(model: nn.Module) -> list[Tensor]:
    """The buffers that norms write as they run."""
    norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase))
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
