"""Readers with every fault that `tests.fuzz` looks for, to see that it finds them."""

import os
import signal
from pathlib import Path

from tests.fuzz import Kind


def write(folder: Path) -> None:
    (folder / "file.bin").write_bytes(b"whole " * 20)


def fails(path: Path) -> None:
    raise KeyError("no reader should let this out")


def is_silent(path: Path) -> None:
    raise ValueError


def loops(path: Path) -> None:
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


def sleeps_through_signals(path: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGPROF])
    loops(path)


def dies(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def executes(path: Path) -> None:
    os.system("touch canary")


def leaves(path: Path) -> None:
    path.with_suffix(".part").write_text("half")


def destroys(path: Path) -> None:
    path.write_text("half")


def swallows_memory(path: Path) -> None:
    try:
        bytearray(10**13)
    except MemoryError as error:
        raise ValueError("broken file") from error


def is_sound(path: Path) -> None:
    if path.read_bytes() != b"whole " * 20:
        raise ValueError("not whole")


KINDS = {
    reader.__name__: Kind(write, reader)
    for reader in (
        fails, is_silent, loops, sleeps_through_signals, dies, executes, leaves, destroys, swallows_memory, is_sound
    )
}  # fmt: skip
