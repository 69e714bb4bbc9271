"""What is measured of the papers: the JSON files of docs/papers, and what the studies ask for besides."""

import json
from pathlib import Path
from typing import Any

from benchmarks.papers import study

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "papers"
STUDIES = ROOT / "configs" / "papers"


def read(name: str) -> dict[str, Any]:
    """The figures of a file, named without its suffix.

    Raises
    ------
    FileNotFoundError
        if it is missing.
    """
    path = FOLDER / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; docs/papers.md has the command that makes it")
    return json.loads(path.read_text())


def unfinished(name: str) -> list[str]:
    """The runs that a study asks for and its JSON has not, RUN or RUN-SEED."""
    if not (path := STUDIES / f"{name}.yaml").exists():
        return []
    asked = study.read(str(path))
    done = {(row["name"], row["seed"]) for row in read(name)["runs"]}
    lacking = []
    for run in asked["runs"]:
        seeds = [seed for seed in asked["seeds"] if (run, seed) not in done]
        lacking += [run] if seeds == asked["seeds"] else [f"{run}-{seed}" for seed in seeds]
    return lacking
