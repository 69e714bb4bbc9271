import re
from dataclasses import fields
from pathlib import Path

from unrolled.figures.penalty_pages import penalty_page, write_page
from unrolled.penalties import Penalty
from unrolled.penalties.names import penalty_classes

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_the_one_that_the_code_writes():
    # unrolled penalties --all --out docs/figures/penalties --page docs/penalties.md
    assert (DOCS / "penalties.md").read_text(encoding="utf-8") == penalty_page("figures/penalties")


def test_its_pictures_are_there_and_small():
    page = (DOCS / "penalties.md").read_text(encoding="utf-8")
    links = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert len(links) == len(set(links)) > 5
    for link in links:
        limit = 80_000 if "overview" in link else 40_000
        assert 1000 < (DOCS / link).stat().st_size <= limit, link


def test_every_penalty_and_parameter_is_there():
    page = penalty_page("x")
    for name, cls in penalty_classes().items():
        assert issubclass(cls, Penalty)
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert cls.formulas.value in section
        assert cls.formulas.source in section
        assert all(f"parameter `{field.name}` (" in section for field in fields(cls))
    assert "parameter `b` (> 0, 2 by default): concavity" in page
    assert "`α = z(ε + z) / (z(ε + z) + λ)`" in page


def test_a_page_elsewhere_links_its_pictures(tmp_path):
    write_page(tmp_path / "text" / "page.md", tmp_path / "pictures")
    assert "(../pictures/MCP.png)" in (tmp_path / "text" / "page.md").read_text(encoding="utf-8")
