"""How a command ends that cannot do what was asked: in one line and a status, never in a traceback."""

import os
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress

REFUSED = 1
"""The status of a command that could not do what was asked."""

KNOWN = (ValueError, OSError, OverflowError)
"""What tells of a value, of the system, or of a number that is too large."""

TEXTS = {
    "MemoryError": "there is not enough memory",
    "can't allocate memory": "there is not enough memory",
    "without overflow": "a number is too large for single precision",
}
"""Errors that are known by their names or texts: most of torch's are a RuntimeError."""

BUG = 70
"""The status of a command that failed as no command should: EX_SOFTWARE of sysexits.h."""


def reported(name: str, argv: Sequence[str], command: Callable[[], int]) -> int:
    """Run a command, say in a line why it failed if it does, and return the exit status.

    Errors that tell what was wrong with a value, a file or the machine are said. Any other is a mistake of this
    package: what its authors need is written to a file.

    Parameters
    ----------
    name : str
        of the command, for messages.
    argv : sequence of str
        what it was called with.
    command : callable
        returns the status of what went well.
    """
    try:
        status = command()
        sys.stdout.flush()  # a full disk is noticed here, and not when Python ends
    except BrokenPipeError:  # who reads has read enough
        _discard_output()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return _said(f"\n{name}: interrupted", 128 + signal.SIGINT)
    except Exception as error:
        if isinstance(error, UnicodeEncodeError):
            return _said(f"{name}: error: {error.object[:200]!r} is not text in UTF-8, and has to be", REFUSED)
        if isinstance(error, KNOWN):
            return _said(f"{name}: error: {error}", REFUSED)
        for text, meaning in TEXTS.items():
            if text in f"{type(error).__name__}: {error}":
                return _said(f"{name}: error: {meaning}: {_first_line(error)}", REFUSED)
        return _said(f"{name}: error: {_report(name, argv, error)}", BUG)
    return status


def _said(text: str, status: int) -> int:
    with suppress(OSError):
        print(text, file=sys.stderr)
    return status


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _report(name: str, argv: Sequence[str], error: BaseException) -> str:
    """Write what tells of an error into a file, and return what to do with it."""
    from unrolled.training.runs.surroundings import environment

    facts = "\n".join(f"{fact}: {value}" for fact, value in environment().items())
    trace = "".join(traceback.format_exception(error))
    text = f"{shlex.join([*name.split(), *argv])}\n\n{facts}\n\n{trace}"
    what = f"this is a bug, of unrolled or of a module that you import: {type(error).__name__}: {_first_line(error)}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="unrolled-bug-", suffix=".txt", delete=False
        ) as file:
            file.write(text)
    except OSError:  # of a disk that is full
        return f"{what}\nPlease send its authors this:\n\n{text}"
    return f"{what}\nPlease send its authors {file.name}, which has the command, the versions and the traceback."


def _discard_output() -> None:
    """Let Python end without another error: what is left to be written would not be read either."""
    with suppress(OSError, ValueError):  # a stream that is no file of the system
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
