"""Training by several processes, as torchrun starts them. Without torchrun all of this is one process that is alone."""

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unrolled.training.tasks.task import LossOfModel, Task

TIMEOUT = timedelta(minutes=15)
"""How long a process waits for the others: longer than one of them reads its data or writes a checkpoint."""

S = TypeVar("S")
T = TypeVar("T")


class SharedLoss(Protocol):
    """(batch, step) ↦ loss, of one process or of several that train together, see `shared_loss`."""

    def __call__(self, batch: Any, step: int) -> Tensor:
        """Its backward leaves on each process the mean of their gradients, with those that were there before."""

    def apart(self, batch: Any, step: int) -> Tensor:
        """Its backward adds to the gradients of this process alone."""


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0; the first one writes files and shows progress."""
    return dist.get_rank() if size() > 1 else 0


def own_device(name: str) -> str:
    """The name of this process's GPU, where torchrun started one a GPU and the name does not say which."""
    if "LOCAL_RANK" in os.environ and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


@contextmanager
def joined(device: torch.device, timeout: timedelta = TIMEOUT) -> Iterator[None]:
    """Join the processes that torchrun started, and leave them at the end.

    Parameters
    ----------
    device : torch.device
        of this process.
    timeout : timedelta
        how long it waits for the others.

    Raises
    ------
    ValueError
        if another process ended, or did not answer in time.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=timeout)
        with warnings.catch_warnings():
            # Of weights with one input or output channel; their numbers lie in memory alike either way.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # gloo has no class of its own
            raise
        reason = str(error).partition("\n")[0].rpartition("] ")[2]  # without the place in the library
        raise ValueError(
            f"training: another process ended, or has not answered for {timeout}; the last checkpoint stays, go on "
            f"with resume: {reason}"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def on_first(action: Callable[[], T]) -> T:
    """Let the first process act; its result, or its ValueError, becomes that of every process."""
    if size() == 1:
        return action()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = action()
        except ValueError as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def in_shards(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """`[function(item) for item in items]`, the work shared among the processes; every one gets the whole list."""
    own = [function(item) for item in items[rank() :: size()]]
    if size() == 1:
        return own
    shards: list[list[T]] = [[] for _ in range(size())]
    dist.all_gather_object(shards, own)
    return [shards[index % size()][index // size()] for index in range(len(items))]


def agreed(loss: Tensor, norm: Tensor, *wishes: bool) -> Tensor:
    """The means of the processes' losses and norms, and for every wish whether any of them has it: > 0.

    One tensor on the device of the loss: the host need not wait for it.
    """
    numbers = torch.stack([loss.reshape(()), norm.to(loss.device), *(torch.full_like(loss, wish) for wish in wishes)])
    if size() == 1:
        return numbers
    numbers = numbers.double()
    numbers[:2] /= size()
    dist.all_reduce(numbers)
    return numbers


def take_over(model: nn.Module) -> None:
    """Take over the first process's parameters and buffers."""
    if size() > 1:
        model.load_state_dict(on_first(lambda: {name: value.cpu() for name, value in model.state_dict().items()}))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Leave the mean of the processes' gradients on each of them; for parameters that are not the task's model's."""
    for parameter in parameters if size() > 1 else ():
        if parameter.grad is not None:
            total = parameter.grad.contiguous()
            dist.all_reduce(total)
            parameter.grad = total / size()


def part(batch: int) -> range | None:
    """The places of a batch that this process draws; None: all.

    Raises
    ------
    ValueError
        if the batch cannot be shared equally.
    """
    if size() == 1:
        return None
    if batch % size():
        raise ValueError(f"training: batch must be a multiple of the {size()} processes, got {batch}")
    own = batch // size()
    return range(rank() * own, (rank() + 1) * own)


def parts(batch: int, count: int) -> list[range | None]:
    """The same in so many equal pieces, for gradients that are accumulated.

    Raises
    ------
    ValueError
        if the batch cannot be shared so.
    """
    own = part(batch)
    if count == 1:
        return [own]
    places = range(batch) if own is None else own
    if len(places) % count:
        raise ValueError(
            f"training: accumulate must divide the {len(places)} samples of a process into equal parts, got {count}"
        )
    piece = len(places) // count
    return [places[first : first + piece] for first in range(0, len(places), piece)]


@contextmanager
def shared_loss(
    task: Task, broadcast_buffers: bool, form: Callable[[], LossOfModel] | None = None
) -> Iterator[SharedLoss]:
    """(batch, step) ↦ loss, in the form that is asked for at the first step: the task's own by default.

    With several processes its backward leaves the mean of their gradients on each of them.
    Losses must be means over the batch, so that the mean over equal parts is that over the whole. All processes take
    over the weights of the first one. What is yielded must not be kept.
    """
    loss = _Loss(task, (lambda: task.loss) if form is None else form)
    if size() == 1:
        yield loss
        return
    names = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"  # before torch 2.13
    option: dict[str, Any] = {name: broadcast_buffers}
    wrapped = [DistributedDataParallel(loss, **option)]
    try:
        yield _Together(wrapped)
    finally:
        # If it outlived the process group it would end the group's threads while these wait for Python, for ever.
        wrapped.clear()


class _Loss(nn.Module):
    """The loss as a module, for gradients are averaged only of what is called through its wrapper."""

    def __init__(self, task: Task, form: Callable[[], LossOfModel]):
        super().__init__()
        self.model, self.form = task.model, form

    @cached_property
    def loss(self) -> LossOfModel:
        return self.form()

    def forward(self, batch: Any, step: int) -> Tensor:
        return self.loss(self.model, batch, step)

    def apart(self, batch: Any, step: int) -> Tensor:
        """The same, for there is nobody to share gradients with."""
        return self.forward(batch, step)


class _Together:
    """The loss of several processes.

    Parameters
    ----------
    wrapped : list of DistributedDataParallel
        one, which is taken out of the list at the end.
    """

    def __init__(self, wrapped: list[DistributedDataParallel]):
        self.wrapped = wrapped

    def __call__(self, batch: Any, step: int) -> Tensor:
        loss: Tensor = self.wrapped[0](batch, step)
        return loss

    def apart(self, batch: Any, step: int) -> Tensor:
        """Without an exchange of gradients."""
        with self.wrapped[0].no_sync():
            return self(batch, step)
