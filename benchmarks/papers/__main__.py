"""Make docs/papers.md, and its figures, of what is measured in docs/papers/*.json.

python -m benchmarks.papers
"""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks.papers import study
from unrolled.system.files import replacing

FOLDER = Path(__file__).parents[2] / "docs" / "papers"
PAGE = FOLDER.with_suffix(".md")
STUDIES = Path(__file__).parents[2] / "configs" / "papers"
SECTIONS = ("theory", "duality", "mnist", "groups", "binary", "cifar", "circle")
"""Modules with FILES (the JSON files they read, without suffix), section(*figures) and draw(*figures, folder=…)."""


def modules() -> list[ModuleType]:
    """Those of the sections, in the order of the page."""
    return [import_module(f"benchmarks.papers.{name}") for name in SECTIONS]


def figures(module: ModuleType) -> list[dict] | None:
    """What is measured for a section; None if something is not measured yet."""
    paths = [FOLDER / f"{name}.json" for name in module.FILES]
    return [json.loads(path.read_text()) for path in paths] if all(path.exists() for path in paths) else None


def missing(name: str) -> list[str]:
    """The runs that a study asks for and its JSON has not, RUN or RUN-SEED."""
    if not (path := STUDIES / f"{name}.yaml").exists():
        return []
    asked, found = study.read(str(path)), json.loads((FOLDER / f"{name}.json").read_text())
    done = {(row["name"], row["seed"]) for row in found["runs"]}
    lacking = []
    for run in asked["runs"]:
        seeds = [seed for seed in asked["seeds"] if (run, seed) not in done]
        lacking += [run] if seeds == asked["seeds"] else [f"{run}-{seed}" for seed in seeds]
    return lacking


def page() -> str:
    """The text of docs/papers.md."""
    parts = [(FOLDER / "introduction.md").read_text().strip()]
    for module in modules():
        if (found := figures(module)) is not None:
            parts.append(module.section(*found).strip())
            parts += [
                f"*What `configs/papers/{name}.yaml` asks for and was not run here, for lack of time: "
                f"{', '.join(lacking)}. The command above does it.*"
                for name in module.FILES
                if (lacking := missing(name))
            ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    for module in modules():
        if (found := figures(module)) is not None:
            module.draw(*found, folder=FOLDER)
    with replacing(PAGE) as temporary:
        temporary.write_text(page())
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
