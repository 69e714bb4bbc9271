"""Markdown out of a template and plain facts: templates hold the sentences, modules compute what stands in them."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent / "pages"
WIDTH = 120
VERBATIM = ("    ", "#", "|", "![")
"""How blocks begin whose lines stay as they are: code, headings, tables and pictures."""

MARKS = re.compile(r" (?=(?:[-+*#]|1[.)])(?: |$)|[>|])")
"""Spaces before what would be a list, a quotation or a heading at the beginning of a line."""


def render(name: str, facts: Mapping[str, Any]) -> str:
    """The Markdown of a page, its paragraphs in lines of one length.

    Parameters
    ----------
    name : str
        of a template in pages/, without its suffix.
    facts : mapping
        what the template shows, by name.

    Raises
    ------
    UndefinedError
        if the template shows something that is none of the facts.
    """
    blocks = re.split(r"\n(?:[ \t]*\n)+", _environment(FOLDER).get_template(f"{name}.md").render(facts))
    return "\n\n".join(_in_lines(block.rstrip()) for block in blocks if block.strip())


def number(value: float, form: str) -> str:
    """A number in a format of Python, as `.2f`, `,` or `.1%`."""
    return format(value, form)


def signed(value: float) -> str:
    """With its sign, to two digits."""
    return f"{value:+.2f}".replace("-", "−")


def thousands(value: float, form: str) -> str:
    """So many thousands, 113K."""
    return f"{format(value / 1000, form)}K"


def listed(names: Iterable[Any]) -> str:
    """One, two and three."""
    *most, last = map(str, names)
    return f"{', '.join(most)} and {last}" if most else last


@cache  # which keeps templates that it compiled
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {form.__name__: form for form in (number, signed, thousands, listed)}
    return environment


def _in_lines(block: str) -> str:
    if block.startswith(VERBATIM):
        return block
    if block.startswith("- "):
        return "\n".join(_filled(item, indent="  ") for item in re.split(r"\n(?=- )", block))
    return _filled(block)


def _filled(paragraph: str, indent: str = "") -> str:
    kept = MARKS.sub("\0", " ".join(paragraph.split()))
    lines = textwrap.fill(kept, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")
