"""The page of the papers says what was measured, and each of its studies is one that can be run."""

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from benchmarks.papers import __main__ as papers
from benchmarks.papers import measured, study, summary
from tests.pairs import FULL

ROOT = Path(__file__).parents[3]
STUDIES = sorted((ROOT / "configs" / "papers").glob("*.yaml"))


def test_the_page_is_made_of_the_figures():
    assert papers.page() == papers.PAGE.read_text()


def test_missing_figures_are_named_and_the_page_stays(monkeypatch, tmp_path):
    before = papers.PAGE.read_bytes()
    monkeypatch.setattr(measured, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=r"theory\.json is missing; docs/papers\.md has the command that makes it"):
        papers.main()
    assert papers.PAGE.read_bytes() == before


def test_every_picture_is_shown_and_every_picture_shown_is_there():
    shown = set(re.findall(r"\]\(papers/([\w-]+\.png)\)", papers.PAGE.read_text()))
    assert shown == {path.name for path in measured.FOLDER.glob("*.png")}


@pytest.mark.parametrize("path", sorted(measured.FOLDER.glob("*.png")), ids=lambda path: path.stem)
def test_pictures_are_large_enough_to_read_and_small_enough_to_keep(path):
    assert path.stat().st_size < 150_000
    with Image.open(path) as picture:
        assert min(picture.size) >= 300


@pytest.mark.parametrize("section", papers.SECTIONS)
def test_every_section_is_drawn_and_shows_what_is_drawn(section, tmp_path):
    papers.module_of(section).draw(*papers.figures(section), folder=tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    shown = re.findall(r"\]\(papers/([\w-]+\.png)\)", papers.text(section, *papers.figures(section)))
    assert drawn == set(shown) != set()


def keys_and_words(settings):
    """Settings without their numbers, of which a parser looks at the type alone."""
    if isinstance(settings, dict):
        return {key: keys_and_words(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [keys_and_words(value) for value in settings]
    return settings if isinstance(settings, str) else type(settings).__name__


SEEN: set[tuple[str, str, str]] = set()
"""Parts of configs that a parser has taken: it looks at each of them by itself."""


# The runs on CIFAR are not only read but also made, in their own tests.
@pytest.mark.parametrize(
    "path", [path for path in STUDIES if not path.stem.startswith("cifar")], ids=lambda path: path.stem
)
def test_every_run_of_every_study_is_a_config(path, tmp_path):
    content = study.read(str(path))
    parser = study.command_of(content["base"]).parser()
    for name, run in content["runs"].items():
        settings = study.merged(content["base"], run or {})
        settings.pop("start", None)
        parts = {(parser.prog, key, repr(keys_and_words(value))) for key, value in settings.items()}
        if parts <= SEEN and not FULL:
            continue
        SEEN.update(parts)
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(settings))
        parser.parse_args([f"--config={config}"])


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_committed_run_is_one_of_its_study(path):
    figures = measured.FOLDER / f"{path.stem}.json"
    if not figures.exists():
        assert path.stem in (ROOT / "docs" / "training-queue.md").read_text()
        return
    found, content = json.loads(figures.read_text()), study.read(str(path))
    assert found["published"] == content["published"]
    done = [f"{row['name']}-{row['seed']}" for row in found["runs"]]
    assert len(done) == len(set(done)) > 0
    assert {row["name"] for row in found["runs"]} <= set(content["runs"])
    for run in measured.unfinished(path.stem):
        assert run in papers.PAGE.read_text()
        assert run not in done


def test_readme_has_the_summary():
    assert summary.summary() in (ROOT / "README.md").read_text()
