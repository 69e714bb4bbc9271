"""What files may ask for: memory and work, bounded by what was paid for them in bytes, in one place for all readers.

Headers, recipes and compressed streams can state any size. So whatever is made of a file is compared with the size of
the file before it is made, and whoever means it stores it uncompressed, or says how much may be taken.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

FREE = 2**29
"""Bytes of memory that a file of any size may ask for, besides those that it brings."""

PER_BYTE = 256
"""Bytes of memory that it may ask for with each of its own. Images and recordings are not packed better, but for a few
that are nearly blank."""


def affordable(length: int) -> int:
    """Bytes of memory that may be taken for a file of so many bytes."""
    return FREE + PER_BYTE * length


def check_claim(what: str, asked: int, length: int) -> None:
    """Raise ValueError if a file asks for more memory than it may.

    Parameters
    ----------
    what : str
        what would be made, for the message.
    asked : int
        bytes of memory, at the peak.
    length : int
        of the file, or of the part of it that is unpacked, in bytes.
    """
    if asked > affordable(length):
        raise ValueError(
            f"{what} would take {asked:,} bytes of memory, but from {length:,} bytes of a file at most "
            f"{affordable(length):,} are made; store it without compression if it is meant so"
        )


class Allowance:
    """Memory and work that may be spent on following a recipe.

    Parameters
    ----------
    memory : int
        bytes that may be held at a time. As many numbers may be computed in all: those of the least, of `FREE`, take
        some seconds.
    remedy : str
        what messages advise.
    """

    def __init__(self, memory: int, remedy: str):
        self.memory, self.work, self.remedy = memory, float(memory), remedy
        self._held: list[tuple[int, weakref.ref[Any]]] = []
        self._taken = 0

    @property
    def spare(self) -> float:
        """So much memory and so much work is left, at least."""
        return min(self.memory - self._taken, self.work)

    def check(self, memory: float, work: float = 0) -> None:
        """Raise ValueError unless there is so much left."""
        if self._taken + memory > self.memory:
            self._forget()
        if self._taken + memory > self.memory or work > self.work:
            raise ValueError(f"it asks for more memory or work than is allowed, {self.memory:,} bytes; {self.remedy}")

    def hold(self, thing: Any, memory: int) -> None:
        """Count memory until the thing that has it is gone."""
        self.check(memory)
        self._held.append((memory, weakref.ref(thing)))
        self._taken += memory
        if len(self._held) % 1000 == 0:
            self._forget()

    def _forget(self) -> None:
        """Give back the memory of what is gone."""
        self._held = [(size, thing) for size, thing in self._held if thing() is not None]
        self._taken = sum(size for size, _ in self._held)

    def spend(self, work: float) -> None:
        """Count work."""
        self.check(0, work)
        self.work -= work


_allowance: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def within(allowance: Allowance) -> Iterator[None]:
    """In the block, and in its thread, `announce` asks this allowance."""
    token = _allowance.set(allowance)
    try:
        yield
    finally:
        _allowance.reset(token)


def announce(memory: int, work: float = 0) -> None:
    """Say what is about to be made by other means than PyTorch, whose tensors are counted by themselves.

    Parameters
    ----------
    memory : int
        bytes, at the peak.
    work : float
        numbers computed, each in about 10 ns.

    Raises
    ------
    ValueError
        if it is made for a recipe from a file that may not ask for so much.
    """
    allowance = _allowance.get()
    if allowance is not None:
        allowance.check(memory)
        allowance.spend(work)
