"""Signals that ask a run to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""Ctrl-C, and what queueing systems send before they kill."""


@contextmanager
def stop_between_steps(patient: bool = False) -> Iterator[Callable[[], int]]:
    """Signals take effect when the step is done, so that what is saved is whole.

    Yields a function that returns the number of the signal that came, or 0. A second Ctrl-C takes effect at once, and
    then nothing is saved; not so if patient, for a launcher repeats the Ctrl-C that its processes have already got.
    """
    came = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came and number == signal.SIGINT and not patient:
            raise KeyboardInterrupt
        came = number

    if threading.current_thread() is not threading.main_thread():  # only there can signals be caught
        yield lambda: 0
        return
    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
