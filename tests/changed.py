"""The tests of what was changed: python -m tests.changed [REVISION]

Prints the test files that belong to the files changed since a revision (by default the last commit) or not yet known to
git: a changed test itself, of a module `unrolled/room/name.py` the test `tests/room/test_name.py`, and where there is
none of that name all tests of its folder.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def changed(revision: str = "HEAD") -> list[str]:
    """Files changed since a revision and files that git neither tracks nor ignores, relative to the checkout."""
    commands = (["git", "diff", "--name-only", revision], ["git", "ls-files", "--others", "--exclude-standard"])
    lines = [
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout for command in commands
    ]
    return sorted({line for text in lines for line in text.splitlines() if (ROOT / line).is_file()})


def tests_of(files: list[str]) -> list[str]:
    """The test files of changed files, each once."""
    found: set[Path] = set()
    for file in map(Path, files):
        if file.suffix != ".py" or file.parts[0] not in ("tests", "unrolled"):
            continue
        if file.parts[0] == "tests":
            found |= {file} if file.name.startswith("test_") else set(_below(file.parent))
        else:
            mirrored = Path("tests", *file.parts[1:-1], f"test_{file.name}")
            found |= {mirrored} if (ROOT / mirrored).is_file() else set(_below(mirrored.parent))
    return sorted(map(str, found))


def _below(folder: Path) -> list[Path]:
    """The test files of a folder itself, not of those in it."""
    return [path.relative_to(ROOT) for path in (ROOT / folder).glob("test_*.py")]


if __name__ == "__main__":
    print(" ".join(tests_of(changed(*sys.argv[1:]))))
