"""Make docs/papers.md, and its figures, of what is measured in docs/papers/*.json.

python -m benchmarks.papers
"""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

from unrolled.files import replacing

FOLDER = Path(__file__).parents[2] / "docs" / "papers"
PAGE = FOLDER.with_suffix(".md")
SECTIONS = ("theory", "duality", "mnist", "groups", "binary", "cifar", "circle")
"""Modules with FILES (the JSON files they read, without suffix), section(*figures) and draw(*figures, folder=…)."""


def modules() -> list[ModuleType]:
    """Those of the sections, in the order of the page."""
    return [import_module(f"benchmarks.papers.{name}") for name in SECTIONS]


def figures(module: ModuleType) -> list[dict] | None:
    """What is measured for a section; None if something is not measured yet."""
    paths = [FOLDER / f"{name}.json" for name in module.FILES]
    return [json.loads(path.read_text()) for path in paths] if all(path.exists() for path in paths) else None


def page() -> str:
    """The text of docs/papers.md."""
    measured = [(module, found) for module in modules() if (found := figures(module)) is not None]
    parts = [(FOLDER / "introduction.md").read_text().strip()]
    parts += [module.section(*found).strip() for module, found in measured]
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
