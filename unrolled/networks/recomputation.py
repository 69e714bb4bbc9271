"""What a part of a network depends on besides its arguments: random numbers, and buffers that it changes."""

import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_Norm = nn.modules.batchnorm._NormBase


class Surroundings:
    """Lets a part of a network run once more as it ran before, and leaves no trace of that.

    `torch.utils.checkpoint` keeps the state of torch's own generators. Here are those that modules hold as attributes,
    those of NumPy and of Python, and the buffers that the part changes, such as the running mean of a norm: what is
    computed again finds them as they were the first time, and afterwards they are as they would be without.

    Parameters
    ----------
    parts : sequence
        of which the modules are looked through.
    """

    def __init__(self, parts: Sequence[Any]):
        modules = {module: None for part in parts if isinstance(part, nn.Module) for module in part.modules()}
        held = {id(value): value for module in modules for value in vars(module).values() if _is_generator(value)}
        self.generators: list[torch.Generator | np.random.Generator] = list(held.values())
        # Norms move their statistics without a trace in the versions of these.
        self.buffers = {
            id(buffer): (buffer, module.training and isinstance(module, _Norm))
            for module in modules
            for buffer in module._buffers.values()
            if buffer is not None
        }
        self.drawn_from: list[Any] = []
        self.changed: list[tuple[Tensor, Tensor]] = []

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For the first run, and for those after it: as `checkpoint` wants them."""
        return self._first(), _Again(self)

    @contextmanager
    def _first(self) -> Iterator[None]:
        self.drawn_from = states(self.generators)
        before = [(buffer, moves, buffer._version, buffer.detach().clone()) for buffer, moves in self.buffers.values()]
        yield
        self.changed = [
            (buffer, values) for buffer, moves, version, values in before if moves or buffer._version != version
        ]


class _Again(AbstractContextManager[None]):
    """A context that may be entered again and again: every backward pass computes once more."""

    def __init__(self, surroundings: Surroundings):
        self.surroundings = surroundings

    def __enter__(self) -> None:
        first = self.surroundings
        self.states = states(first.generators)
        _set_states(first.generators, first.drawn_from)
        # Other memory for the buffers, and not other values: what is saved for the backward pass may be one of them.
        self.buffers = [buffer.data for buffer, _ in first.changed]
        for buffer, values in first.changed:
            buffer.data = values.clone()

    def __exit__(self, *error: object) -> None:
        for (buffer, _values), last in zip(self.surroundings.changed, self.buffers, strict=True):
            buffer.data = last
        _set_states(self.surroundings.generators, self.states)


class Draws:
    """Tells whether random numbers were drawn since it was made, by a part of a network or by anybody.

    Parameters
    ----------
    parts : sequence
        of which the modules may hold generators.
    device : torch.device
        besides the CPU.
    """

    def __init__(self, parts: Sequence[Any], device: torch.device):
        self.generators, self.device = Surroundings(parts).generators, device
        self.before = self._states()

    def happened(self) -> bool:
        """Whether the state of any generator is another one."""
        return not all(_same(a, b) for a, b in zip(self.before, self._states(), strict=True))

    def _states(self) -> list[Any]:
        own = [torch.get_rng_state(), *states(self.generators)]
        if self.device.type not in ("cpu", "meta"):
            own.append(torch.get_device_module(self.device).get_rng_state(self.device))
        return own


def _same(a: Any, b: Any) -> bool:
    """Whether two states of a generator are equal: nested values of Python, arrays and tensors."""
    if isinstance(a, dict):
        return all(_same(a[name], b[name]) for name in a)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def states(generators: Sequence[torch.Generator | np.random.Generator]) -> list[Any]:
    """The states of generators, then those of NumPy and of Python."""
    own = [g.get_state() if isinstance(g, torch.Generator) else g.bit_generator.state for g in generators]
    return [*own, np.random.get_state(legacy=False), random.getstate()]  # noqa: NPY002


def _set_states(generators: Sequence[torch.Generator | np.random.Generator], wanted: Sequence[Any]) -> None:
    for generator, state in zip(generators, wanted, strict=False):
        if isinstance(generator, torch.Generator):
            generator.set_state(state)
        else:
            generator.bit_generator.state = state
    np.random.set_state(wanted[-2])  # noqa: NPY002
    random.setstate(wanted[-1])


def _is_generator(value: Any) -> bool:
    return isinstance(value, torch.Generator | np.random.Generator)
