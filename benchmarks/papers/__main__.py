"""Make docs/papers.md, and its pictures, of what is measured in docs/papers/*.json.

python -m benchmarks.papers

A section has a module here, which computes, and a template in pages/, which says what was found.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks.papers.measured import FOLDER, read, unfinished
from benchmarks.papers.templates import render
from unrolled.system.files import replacing

PAGE = FOLDER.with_suffix(".md")
SECTIONS = ("theory", "duality", "mnist", "groups", "binary", "cifar", "circle")
"""Modules with FILES (the JSON files they read, without suffix), facts(*figures) and draw(*figures, folder=…)."""


def module_of(section: str) -> ModuleType:
    return import_module(f"benchmarks.papers.{section}")


def figures(section: str) -> list[dict[str, Any]]:
    """What is measured for a section."""
    return [read(name) for name in module_of(section).FILES]


def text(section: str, *figures: dict[str, Any]) -> str:
    """A section, of its figures."""
    return render(section, module_of(section).facts(*figures))


def page() -> str:
    """The text of docs/papers.md."""
    sections = [
        {
            "text": text(section, *figures(section)),
            "unfinished": [
                {"name": name, "runs": runs} for name in module_of(section).FILES if (runs := unfinished(name))
            ],
        }
        for section in SECTIONS
    ]
    return render("papers", {"sections": sections}) + "\n"


def main() -> None:
    try:
        written = page()
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error}") from None
    for section in SECTIONS:
        module_of(section).draw(*figures(section), folder=FOLDER)
    with replacing(PAGE) as temporary:
        temporary.write_text(written)
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
