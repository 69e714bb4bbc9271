"""What the commands of this folder share: their options, and the file that figures go to."""

import argparse
from pathlib import Path
from typing import Any

from unrolled.system.files import check_writable, write_json
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


def _writable(path: str) -> Path:
    check_writable(path)
    return Path(path)
