"""What the commands of this folder share: their options, and the file that figures go to."""

import argparse
import ctypes
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unrolled.system.files import check_writable, replacing, write_json
from unrolled.training.runs.surroundings import environment


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with `--json FILE`, a file that is known to be writable before anything is measured."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=_writable, default=None, metavar="FILE", help="write the figures to this file")
    return made


def write(path: Path | None, result: dict[str, Any]) -> None:
    """Write figures, with the machine and the versions that they are from; to nowhere without a path."""
    if path is not None:
        write_json(path, {"environment": environment(), **result}, indent=1)


def once(file: Path, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier call has found and kept in a JSON file; otherwise it is found now, and kept."""
    if file.exists():
        before: dict[str, Any] = json.loads(file.read_text())
        return before
    found = find()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found, indent=1)
    return found


def with_part(text: str, part: str, begin: str, end: str) -> str:
    """A page with the part between two marks made anew; without these marks it is put at the end."""
    marked = f"{begin}\n\n{part}\n\n{end}"
    if begin not in text:
        return f"{text.rstrip()}\n\n{marked}\n"
    head, rest = text.split(begin)
    return f"{head}{marked}{rest.split(end)[1]}"


def put(page: Path, part: str, begin: str, end: str) -> None:
    """Write a part into a page, see `with_part`."""
    text = with_part(page.read_text(), part, begin, end)
    with replacing(page) as temporary:
        temporary.write_text(text)


def end_with_parent() -> None:
    """Let this process be asked to stop when the one that started it ends (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _writable(path: str) -> Path:
    check_writable(path)
    return Path(path)
